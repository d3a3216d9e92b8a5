import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { encodeMessage } from '../../../src/election/codec.ts';
import { Envelope } from '../../../src/election/io/envelope.ts';
import { type GossipKey, newKey } from '../../../src/election/io/key-ring.ts';
import { SealedStream } from '../../../src/election/io/sealed-stream.ts';
import { type Arrival, Transport, type TransportOptions } from '../../../src/election/io/transport.ts';
import type { Hello, Message, State } from '../../../src/election/message.ts';
import type { Endpoint, MemberName, Segment, SegmentKey } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { type Ip, parsePrefix } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import type { Instant } from '../../../src/lib/time.ts';
import { bootTimeMs } from '../../../src/sys/clock.ts';
import { sockaddrInet } from '../../../src/sys/sockaddr.ts';
import { RawSocket } from '../../../src/sys/socket.ts';
import { sleep, waitFor } from '../../support/wait.ts';

const PORT = 20_000 + (process.pid % 20_000);
const KEYS = [newKey()];
const ALICE_IP = '127.0.0.11' as Ip;
const BOB_IP = '127.0.0.12' as Ip;
const SEGMENT = '127.9.0.0/24' as SegmentKey;

type Event =
  | { readonly kind: 'message'; readonly message: Message; readonly arrival: Arrival; readonly at: Instant }
  | { readonly kind: 'opened' | 'closed'; readonly peer: string; readonly how?: string };

/** One host: a transport and everything that it told. */
class Host {
  readonly name: MemberName;
  readonly ip: Ip;
  readonly events: Event[] = [];
  readonly warnings: object[] = [];
  readonly transport: Transport;

  constructor(name: string, ip: Ip, options: Partial<TransportOptions> = {}) {
    this.name = name as MemberName;
    this.ip = ip;
    this.transport = new Transport({
      port: PORT,
      bind: [ip],
      label: 'default',
      keys: KEYS,
      allow: [],
      logger: { ...SILENT_LOGGER, warn: (fields) => this.warnings.push(fields) },
      state: () => stateOf(this.name, true),
      hello: () => helloOf(this.name),
      onMessage: (message, arrival, at) => this.events.push({ kind: 'message', message, arrival, at }),
      onWatchOpened: (peer) => this.events.push({ kind: 'opened', peer }),
      onWatchClosed: (peer, _segment, how) => this.events.push({ kind: 'closed', peer, how }),
      ...options,
    });
  }

  get endpoint(): Endpoint {
    return { ip: this.ip, port: PORT };
  }

  send(message: Message, to: Host | Endpoint, segment?: SegmentKey): void {
    const endpoint = to instanceof Host ? to.endpoint : to;
    this.transport.perform({ kind: 'send', to: endpoint, message, segment });
  }

  watch(peer: Host, to = peer.endpoint): void {
    this.transport.perform({ kind: 'watch-open', peer: peer.name, to, segment: SEGMENT });
  }

  message(kind: Message['kind']): Promise<Extract<Event, { kind: 'message' }>> {
    return waitFor(
      () =>
        this.events.find(
          (event): event is Extract<Event, { kind: 'message' }> =>
            event.kind === 'message' && event.message.kind === kind,
        ),
      { describe: `${kind} at ${this.name}` },
    );
  }

  event(kind: 'opened' | 'closed'): Promise<Extract<Event, { kind: 'opened' | 'closed' }>> {
    return waitFor(
      () =>
        this.events.find(
          (event): event is Extract<Event, { kind: 'opened' | 'closed' }> => event.kind === kind,
        ),
      { describe: `${kind} at ${this.name}` },
    );
  }

  refusals(why: string): Promise<number> {
    return waitFor(() => this.transport.counters().refused[why], { describe: `a packet refused: ${why}` });
  }
}

function stateOf(from: MemberName, wantsReply: boolean): State {
  return { kind: 'state', from, wantsReply, members: [], claims: [] };
}

function helloOf(from: MemberName): Hello {
  return { kind: 'hello', from, incarnation: 7 };
}

function nack(from: Host, seq: number): Message {
  return { kind: 'nack', from: from.name, seq };
}

function heartbeat(from: Host, seq: number): Message {
  return {
    kind: 'heartbeat',
    from: from.name,
    incarnation: 7,
    segment: SEGMENT,
    seq,
    ackSeq: 0,
    gapMs: 50,
    urgent: false,
    isolated: false,
    claimsMatch: true,
    ownDigest: 1,
    tableDigest: 2,
    leaseLeftMs: undefined,
  };
}

function segment(ip: Ip): Segment {
  return { subnet: { network: '127.9.0.0' as Ip, length: 24 }, ip, mac: '02:00:00:00:00:01' as Mac };
}

const hosts: Host[] = [];
const closers: (() => void)[] = [];

afterEach(() => {
  for (const host of hosts.splice(0)) host.transport.close();
  for (const close of closers.splice(0)) close();
});

async function start(name: string, ip: Ip, options: Partial<TransportOptions> = {}): Promise<Host> {
  const host = new Host(name, ip, options);
  hosts.push(host);
  await host.transport.start();
  return host;
}

async function both(
  options: Partial<TransportOptions> = {},
): Promise<{ readonly alice: Host; readonly bob: Host }> {
  return { alice: await start('alice', ALICE_IP, options), bob: await start('bob', BOB_IP, options) };
}

for (const keys of [KEYS, undefined]) {
  test(`send delivers the first message too, with its sender (${keys ? 'sealed' : 'insecure'})`, async () => {
    const { alice, bob } = await both({ keys });
    alice.send(nack(alice, 1), bob);
    const { message, arrival } = await bob.message('nack');
    assert.deepEqual(message, nack(alice, 1));
    assert.deepEqual(arrival, { from: alice.endpoint, segment: undefined, connection: undefined });
    assert.equal(bob.transport.counters().sessions.proven, 1);
  });
}

test('send with a segment leaves from the address there and arrives at the segment of the other', async () => {
  const { alice, bob } = await both();
  const [aliceThere, bobThere] = ['127.9.0.1' as Ip, '127.9.0.2' as Ip];
  alice.transport.setSegments([segment(aliceThere)]);
  bob.transport.setSegments([segment(bobThere)]);
  const { arrival } = await waitFor(
    () => {
      alice.send(nack(alice, 1), { ip: bobThere, port: PORT }, SEGMENT);
      return bob.events.find(
        (event) =>
          event.kind === 'message' &&
          event.arrival.from.ip === aliceThere &&
          event.arrival.segment === SEGMENT,
      ) as Extract<Event, { kind: 'message' }> | undefined;
    },
    { describe: 'a message from one segment address to the other' },
  );
  assert.deepEqual(arrival.from, { ip: aliceThere, port: PORT });
});

test('send with a segment whose address is not there yet leaves from another, and counts no failure', async () => {
  const { alice, bob } = await both();
  alice.transport.setSegments([segment('192.0.2.77' as Ip)]);
  alice.send(nack(alice, 1), bob, SEGMENT);
  const { arrival } = await bob.message('nack');
  assert.equal(arrival.from.ip, ALICE_IP);
  assert.equal(alice.transport.counters().sendFailures, 0);
});

function sendRoutine(
  from: Awaited<ReturnType<typeof start>>,
  { endpoint: to }: { endpoint: Endpoint },
  seq: number,
): void {
  from.transport.perform({
    kind: 'send',
    to,
    message: heartbeat(from, seq),
    segment: undefined,
    routine: true,
  });
}

/** Long enough for what was sent to be read. */
async function loopRounds(): Promise<void> {
  for (let round = 0; round < 10; round++) await new Promise((resolve) => setImmediate(resolve));
}

test('routine packets that are kept come with the next packet, in the order in which they came, or when taken', async () => {
  const { alice, bob } = await both();
  const seen: (readonly [number, number])[] = [];
  const beat = (seq: number) => sendRoutine(alice, bob, seq);
  const ended = (count: number): Promise<boolean> =>
    waitFor(() => bob.events.length >= count, { describe: `${count} messages at bob` });
  // The first one shows that the session lives.
  alice.send(nack(alice, 1), bob);
  await bob.message('nack');
  bob.transport.keepRoutine(60_000);
  beat(2);
  beat(3);
  await loopRounds();
  assert.equal(bob.events.length, 1);
  bob.transport.takeKept();
  beat(4);
  alice.send(nack(alice, 5), bob);
  await ended(5);
  bob.transport.keepRoutine(undefined);
  beat(6);
  await ended(6);
  for (const event of bob.events)
    if (event.kind === 'message' && 'seq' in event.message) seen.push([event.message.seq, event.at]);
  assert.deepEqual(
    seen.map(([seq]) => seq),
    [1, 2, 3, 4, 5, 6],
  );
  assert.deepEqual(
    seen,
    seen.toSorted(([, left], [, right]) => left - right),
  );
});

test('a routine packet that waited counts from when it came, and from when it was read after too long', async () => {
  const { alice, bob } = await both();
  const beat = (seq: number) => sendRoutine(alice, bob, seq);
  const cameAt = (seq: number): number => {
    const event = bob.events.find(
      (each) => each.kind === 'message' && 'seq' in each.message && each.message.seq === seq,
    );
    assert.ok(event?.kind === 'message', `no ${seq}`);
    return event.at;
  };
  alice.send(nack(alice, 1), bob);
  await bob.message('nack');
  bob.transport.keepRoutine(60_000);
  beat(2);
  const sentAt = bootTimeMs();
  await sleep(40);
  beat(3);
  bob.transport.takeKept();
  assert.ok(Math.abs(cameAt(2) - sentAt) < 20, `${cameAt(2) - sentAt} ms`);
  assert.ok(cameAt(3) - cameAt(2) >= 39, `${cameAt(3) - cameAt(2)} ms`);
  bob.transport.keepRoutine(10);
  beat(4);
  await sleep(40);
  const takenAt = bootTimeMs();
  bob.transport.takeKept();
  assert.ok(cameAt(4) >= takenAt, 'a host that did not run has heard nobody meanwhile');
});

test('where the kernel does not sort out routine packets, they come with all others', async (t) => {
  t.mock.method(RawSocket.prototype, 'attachReuseportFilter', function (this: RawSocket) {
    // Any error of the system: this one is that it is bound already.
    this.bind(sockaddrInet(Uint8Array.of(192, 0, 2, 77), PORT));
  });
  const { alice, bob } = await both();
  alice.send(nack(alice, 1), bob);
  await bob.message('nack');
  bob.transport.keepRoutine(60_000);
  sendRoutine(alice, bob, 2);
  await bob.message('heartbeat');
});

test('in a flood of routine packets none waits', async () => {
  const { alice, bob } = await both();
  const beat = (seq: number) => sendRoutine(alice, bob, seq);
  alice.send(nack(alice, 1), bob);
  await bob.message('nack');
  bob.transport.keepRoutine(60_000);
  for (let seq = 2; seq < 302; seq++) beat(seq);
  bob.transport.takeKept();
  assert.equal(bob.events.length, 301);
  beat(302);
  await waitFor(() => bob.events.length === 302, { describe: 'one more by itself' });
  await waitFor(
    async () => {
      bob.transport.takeKept();
      const before = bob.events.length;
      beat(303);
      await loopRounds();
      return bob.events.length === before;
    },
    { describe: 'an end of it', timeoutMs: 3_000 },
  );
});

test('exchange sends the state, and gives the reply as a message', async () => {
  const { alice, bob } = await both();
  alice.transport.perform({ kind: 'exchange', with: bob.endpoint });
  const { message, arrival } = await bob.message('state');
  assert.deepEqual(message, stateOf(alice.name, true));
  assert.deepEqual(arrival.from, alice.endpoint);
  assert.ok(arrival.connection !== undefined);
  bob.transport.perform({
    kind: 'reply',
    connection: arrival.connection,
    message: stateOf(bob.name, false),
  });
  assert.deepEqual((await alice.message('state')).message, stateOf(bob.name, false));
  await waitFor(
    () =>
      alice.transport.counters().connections.open === 0 && bob.transport.counters().connections.open === 0,
    {
      describe: 'the connection to be closed on both sides',
    },
  );
});

test('exchange with a host that is not there costs no state and is given up, and the next one works', async () => {
  let states = 0;
  const state = () => {
    states += 1;
    return stateOf('alice' as MemberName, true);
  };
  const alice = await start('alice', ALICE_IP, { state });
  alice.transport.perform({ kind: 'exchange', with: { ip: BOB_IP, port: PORT } });
  await waitFor(() => alice.transport.counters().connections.open === 0, { describe: 'a refused exchange' });
  assert.equal(states, 0);
  const bob = await start('bob', BOB_IP);
  alice.transport.perform({ kind: 'exchange', with: bob.endpoint });
  await bob.message('state');
});

test('watch-open says who watches, and carries messages both ways', async () => {
  const { alice, bob } = await both();
  alice.watch(bob);
  assert.equal((await alice.event('opened')).peer, 'bob');
  assert.deepEqual((await bob.message('hello')).message, helloOf(alice.name));
  alice.transport.perform({
    kind: 'watch-send',
    peer: bob.name,
    segment: SEGMENT,
    message: nack(alice, 5),
  });
  const { arrival } = await bob.message('nack');
  assert.ok(arrival.connection !== undefined);
  bob.transport.perform({ kind: 'reply', connection: arrival.connection, message: nack(bob, 6) });
  assert.deepEqual((await alice.message('nack')).message, nack(bob, 6));
});

test('watch-open tells how a connection ends: by the peer, refused, without an answer, by another name', async () => {
  const { alice, bob } = await both();
  alice.watch(bob);
  await alice.event('opened');
  bob.transport.close();
  assert.equal((await alice.event('closed')).how, 'fin');

  alice.events.length = 0;
  alice.watch(bob);
  assert.equal((await alice.event('closed')).how, 'rst');

  alice.events.length = 0;
  const other = await start('carol', '127.0.0.13' as Ip);
  alice.watch(bob, other.endpoint);
  assert.equal((await alice.event('closed')).how, 'timeout');
});

test('watch-open tells of a reset and of a peer that accepts and says nothing', async () => {
  const alice = await start('alice', ALICE_IP);
  const bob = new Host('bob', BOB_IP);
  const accepted: Socket[] = [];
  const server = createServer((socket) => accepted.push(socket));
  closers.push(() => server.close());
  server.listen(PORT, BOB_IP);
  await once(server, 'listening');
  alice.watch(bob);
  const socket = await waitFor(() => accepted[0], { describe: 'the connection' });
  socket.resetAndDestroy();
  assert.equal((await alice.event('closed')).how, 'rst');

  alice.events.length = 0;
  alice.watch(bob);
  const closed = await alice.event('closed');
  assert.equal(closed.how, 'timeout');
});

test('watch-close ends a connection without a word', async () => {
  const { alice, bob } = await both();
  alice.watch(bob);
  await alice.event('opened');
  alice.transport.perform({ kind: 'watch-close', peer: bob.name, segment: SEGMENT });
  await waitFor(() => bob.transport.counters().connections.open === 0, { describe: 'the end at the peer' });
  assert.deepEqual(
    alice.events.filter((event) => event.kind === 'closed'),
    [],
  );
});

test('a watcher that connects anew takes the place of its older connection', async () => {
  const { alice, bob } = await both();
  alice.watch(bob);
  await alice.event('opened');
  const twin = await start('alice', '127.0.0.14' as Ip);
  twin.watch(bob);
  await twin.event('opened');
  assert.equal((await alice.event('closed')).how, 'fin');
  assert.equal(bob.transport.counters().connections.open, 1);
});

test('close() sends what was sent before it', async () => {
  const { alice, bob } = await both();
  alice.watch(bob);
  await alice.event('opened');
  const farewell: Message = {
    kind: 'farewell',
    from: alice.name,
    incarnation: 7,
    why: 'restarting',
    leaseLeftMs: 1_000,
  };
  alice.transport.perform({ kind: 'watch-send', peer: bob.name, segment: SEGMENT, message: farewell });
  alice.transport.close();
  assert.deepEqual((await bob.message('farewell')).message, farewell);
});

test('packets and connections of a source that is not allowed are turned away', async () => {
  const allow = parsePrefix('127.0.0.12/32');
  assert.ok(allow.ok);
  const alice = await start('alice', ALICE_IP);
  const bob = await start('bob', BOB_IP, { allow: [allow.value] });
  alice.send(nack(alice, 1), bob);
  assert.equal(await bob.refusals('source'), 1);
  alice.transport.perform({ kind: 'exchange', with: bob.endpoint });
  await waitFor(() => bob.transport.counters().connections.turnedAway === 1, {
    describe: 'the connection to be refused',
  });
  assert.deepEqual(bob.events, []);
});

test('a connection to a host with another key is refused and told on both sides', async () => {
  const alice = await start('alice', ALICE_IP, { keys: [newKey()] });
  const bob = await start('bob', BOB_IP);
  assert.deepEqual(alice.transport.refusals(60_000), []);
  alice.transport.perform({ kind: 'exchange', with: bob.endpoint });
  await alice.refusals('key');
  await bob.refusals('key');
  assert.deepEqual(alice.transport.refusals(60_000), [{ why: 'key', from: BOB_IP }]);
  assert.deepEqual(bob.transport.refusals(60_000), [{ why: 'key', from: ALICE_IP }]);
  assert.deepEqual(alice.warnings, [{ why: 'key', from: BOB_IP, count: 1 }]);
});

test('packets under another key or label change nothing, and are logged once for all', async () => {
  const alice = await start('alice', ALICE_IP, { keys: [newKey()] });
  const carol = await start('carol', '127.0.0.13' as Ip, { label: 'staging' });
  const bob = await start('bob', BOB_IP);
  for (let seq = 0; seq < 5; seq++) alice.send(nack(alice, seq), bob);
  carol.send(nack(carol, 1), bob);
  await bob.refusals('label');
  await waitFor(() => bob.transport.counters().refused['key'] === 5, { describe: 'five packets' });
  assert.deepEqual(bob.warnings, [
    { why: 'key', from: ALICE_IP, count: 1 },
    { why: 'label', from: '127.0.0.13', count: 1 },
  ]);
  assert.deepEqual(bob.events, []);
  assert.deepEqual(bob.transport.counters().sessions, { proven: 0, unproven: 0, held: 0 });
});

test('a datagram of anything is refused', async () => {
  const bob = await start('bob', BOB_IP);
  const socket = createSocket('udp4');
  closers.push(() => socket.close());
  socket.send('GET / HTTP/1.1', PORT, BOB_IP);
  assert.equal(await bob.refusals('size'), 1);
});

test('a message that is sealed right and none all the same is refused with its reason', async () => {
  const bob = await start('bob', BOB_IP);
  const client = await rawStream(bob);
  client.socket.write(client.stream.seal(Buffer.of(1, 250)));
  await once(client.socket, 'close');
  assert.equal(bob.transport.counters().connections.malformed, 1);
  assert.equal(bob.transport.counters().connections.open, 0);
});

type RawStream = { readonly socket: Socket; readonly stream: SealedStream };

/** A connection with both preambles, whose records the test writes itself. */
async function rawStream(to: Host, keys: readonly GossipKey[] = KEYS): Promise<RawStream> {
  const stream = new SealedStream(new Envelope('default', keys));
  const socket = connect({ host: to.ip, port: PORT, localAddress: '127.0.0.99' });
  closers.push(() => socket.destroy());
  socket.on('error', () => {});
  socket.write(stream.preamble());
  const [data] = (await once(socket, 'data')) as [Buffer];
  assert.deepEqual(stream.push(data), []);
  return { socket, stream };
}

test('a connection that says nothing of lbd is closed at its first bytes', async () => {
  const bob = await start('bob', BOB_IP);
  const socket = connect({ host: BOB_IP, port: PORT });
  socket.on('error', () => {});
  socket.resume();
  socket.write('GET /metrics HTTP/1.1\r\nHost: bob\r\n\r\n');
  await once(socket, 'close');
  assert.equal(bob.transport.counters().connections.failed, 1);
});

test('connections that say nothing at all are bounded for each address, and end after two seconds', async () => {
  const bob = await start('bob', BOB_IP);
  const sockets = Array.from({ length: 40 }, () => connect({ host: BOB_IP, port: PORT }));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (const socket of sockets) socket.on('error', () => {});
  const closed = sockets.map((socket) => once(socket, 'close'));
  await waitFor(() => bob.transport.counters().connections.turnedAway === 8, {
    describe: '8 of 40 to be turned away',
  });
  for (const socket of sockets) socket.resume();
  await Promise.all(closed);
  await waitFor(() => bob.transport.counters().connections.open === 0, { describe: 'no connection left' });
});

test('a peer that does not read is dropped before it costs more than a state', async () => {
  const bob = await start('bob', BOB_IP);
  const { socket, stream } = await rawStream(bob);
  socket.write(stream.seal(encodeMessage(stateOf('mallory' as MemberName, true))));
  const { arrival } = await bob.message('state');
  socket.pause();
  const claims = Array.from({ length: 60_000 }, (_, index) => ({
    ip: `2001:db8::${(index + 1).toString(16)}` as Ip,
    owner: bob.name,
    epoch: 1,
  }));
  const large: State = { ...stateOf(bob.name, false), claims };
  const connection = arrival.connection ?? 0;
  for (let count = 0; count < 24; count++) {
    bob.transport.perform({ kind: 'reply', connection, message: large });
  }
  await waitFor(() => bob.transport.counters().connections.open === 0, { describe: 'the slow peer to go' });
  assert.ok(bob.transport.counters().connections.undelivered > 0);
});

test('setKeys() changes the key under open connections and packets without a loss', async () => {
  const [old, fresh] = [newKey(), newKey()];
  const { alice, bob } = await both({ keys: [old] });
  alice.watch(bob);
  await alice.event('opened');
  let seq = 0;
  for (const keys of [[old, fresh], [fresh, old], [fresh]]) {
    for (const host of [alice, bob]) {
      host.transport.setKeys(keys);
      seq++;
      alice.send(nack(alice, seq), bob);
      alice.transport.perform({
        kind: 'watch-send',
        peer: bob.name,
        segment: SEGMENT,
        message: nack(alice, seq),
      });
      await waitFor(() => bob.events.filter(({ kind }) => kind === 'message').length === 1 + 2 * seq, {
        describe: `both messages of step ${seq}`,
      });
    }
  }
  assert.deepEqual(
    alice.events.filter(({ kind }) => kind === 'closed'),
    [],
  );
});

test('everything works over IPv6 too', async (context) => {
  if (!existsSync('/proc/net/if_inet6')) return context.skip('no IPv6 here');
  const loopback = '::1' as Ip;
  const alice = await start('alice', loopback);
  const bob = await start('bob', loopback, { port: PORT + 1 });
  const there = { ip: loopback, port: PORT + 1 };
  alice.send(nack(alice, 1), there);
  assert.deepEqual((await bob.message('nack')).arrival.from, alice.endpoint);
  alice.watch(bob, there);
  assert.equal((await alice.event('opened')).peer, 'bob');
  assert.equal((await bob.message('hello')).arrival.from.ip, loopback);
});

for (const [where, listenOn, bind] of [
  ['the address to listen on', BOB_IP, [BOB_IP]],
  ['one family of every address', '0.0.0.0', []],
] as const) {
  test(`start() names who else may have the port at ${where}`, async () => {
    const server = createServer();
    closers.push(() => server.close());
    server.listen(PORT, listenOn);
    await once(server, 'listening');
    const bob = new Host('bob', BOB_IP, { bind });
    await assert.rejects(bob.transport.start(), (error: Error) => {
      assert.match(error.message, /cannot listen on TCP [\d.]+:\d+: .*EADDRINUSE.*MetalLB/);
      return true;
    });
  });
}

test('setSegments() moves UDP and TCP to the addresses to listen on', async () => {
  const alice = await start('alice', ALICE_IP);
  const bob = await start('bob', BOB_IP);
  const moved = { ip: '127.0.0.13' as Ip, port: PORT };
  bob.watch(alice);
  await bob.event('opened');
  alice.transport.setSegments([], [moved.ip]);
  await waitFor(
    () => {
      bob.send(nack(bob, 1), moved);
      return alice.events.find(({ kind }) => kind === 'message');
    },
    { describe: 'a packet to the new address' },
  );
  const carol = await start('carol', '127.0.0.14' as Ip);
  carol.watch(alice, moved);
  await carol.event('opened');
  const dave = await start('dave', '127.0.0.15' as Ip);
  dave.watch(alice);
  assert.equal((await dave.event('closed')).how, 'rst');
  // What is open stays.
  assert.equal(
    bob.events.some(({ kind }) => kind === 'closed'),
    false,
  );
});

test('start() without addresses listens on all of them', async () => {
  const alice = await start('alice', ALICE_IP, { bind: [] });
  const bob = await start('bob', BOB_IP, { port: PORT + 1 });
  bob.transport.perform({
    kind: 'send',
    to: { ip: ALICE_IP, port: PORT },
    message: nack(bob, 1),
    segment: undefined,
  });
  const { arrival } = await alice.message('nack');
  assert.equal(arrival.from.ip, BOB_IP);
});
