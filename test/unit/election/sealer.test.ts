import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Envelope, HEADER_BYTES } from '../../../src/election/io/envelope.ts';
import { halfSipHash } from '../../../src/election/io/half-siphash.ts';
import { type GossipKey, newKey } from '../../../src/election/io/key-ring.ts';
import { type Opened, Sealer } from '../../../src/election/io/sealer.ts';
import { LATE_MS } from '../../../src/election/io/sessions.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { bootTimeMs } from '../../../src/sys/clock.ts';

/** Two hosts with clocks of their own, and what stands between them is the test. */
class Host {
  nowMs = 1_000_000;
  readonly envelope: Envelope;
  readonly sealer: Sealer<string>;

  constructor(label: string, keys: readonly GossipKey[] | undefined) {
    this.envelope = new Envelope(label, keys);
    this.sealer = new Sealer(this.envelope, () => this.nowMs);
  }

  seal(text: string): Buffer {
    return Buffer.from(this.sealer.seal(Buffer.from(text)));
  }

  open(packet: Buffer | Uint8Array, context = ''): Opened<string> {
    return this.sealer.open(Buffer.from(packet), context);
  }
}

const KEYS = [newKey()];

function twoHosts(keys: readonly GossipKey[] | undefined = KEYS): { alice: Host; bob: Host } {
  return { alice: new Host('default', keys), bob: new Host('default', keys) };
}

function textOf(body: Uint8Array): string {
  return Buffer.from(body).toString();
}

function answerOf(opened: Opened<string>): Uint8Array {
  assert.ok('answer' in opened && opened.answer !== undefined, JSON.stringify(opened));
  return opened.answer;
}

/** The packet, its challenge, the echo: what `to` has to say to that. */
function introduce(from: Host, to: Host, text = 'first'): Opened<string> {
  const challenge = answerOf(to.open(from.seal(text), text));
  return to.open(answerOf(from.open(challenge)));
}

function refusal(opened: Opened<string>): string {
  return opened.kind === 'refused' ? opened.why : opened.kind;
}

test('halfSipHash() gives the vectors of its authors', () => {
  const bytes = new DataView(Uint8Array.from({ length: 20 }, (_, index) => index).buffer);
  const hash = (from: number, to: number) => halfSipHash(0x03020100, 0x07060504, bytes, from, to);
  assert.equal(hash(0, 0), 0x5b9f35a9);
  assert.equal(hash(0, 4), 0x89466e2a);
  assert.equal(hash(0, 8), 0x8f84b8d0);
  assert.equal(hash(0, 16), 0x84acb5d9);
});

for (const keys of [KEYS, undefined]) {
  const how = keys === undefined ? 'plain' : 'sealed';

  test(`open() holds the first ${how} packet of a session until its echo, then takes packets at once`, () => {
    const { alice, bob } = twoHosts(keys);
    const opened = introduce(alice, bob);
    assert.ok(opened.kind === 'proven');
    assert.deepEqual(
      opened.held.map(({ body, context }) => [textOf(body), context]),
      [['first', 'first']],
    );
    const second = bob.open(alice.seal('second'));
    assert.ok(second.kind === 'fresh');
    assert.equal(textOf(second.body), 'second');
  });

  test(`open() takes no ${how} packet twice, in whatever order packets come`, () => {
    const { alice, bob } = twoHosts(keys);
    introduce(alice, bob);
    const packets = Array.from({ length: 900 }, (_, index) => alice.seal(`packet ${index}`));
    const random = seededRandom(5);
    const shuffled = packets.toSorted(() => random() - 0.5);
    for (const packet of shuffled) assert.equal(refusal(bob.open(packet)), 'fresh');
    for (const packet of shuffled) assert.equal(refusal(bob.open(packet)), 'replayed');
  });
}

test('open() refuses a packet that is older than the window', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  const old = alice.seal('old');
  for (let count = 0; count < 1_024; count++) alice.seal('on the way to somebody else');
  assert.equal(refusal(bob.open(alice.seal('new'))), 'fresh');
  assert.equal(refusal(bob.open(old)), 'replayed');
});

test('open() takes nothing of a recorded session after a restart: nobody echoes for it', () => {
  const { alice, bob } = twoHosts();
  const recorded = [alice.seal('first'), alice.seal('second'), alice.seal('third')];
  const [first] = recorded;
  assert.ok(first !== undefined);
  const challenge = answerOf(bob.open(first));
  const echo = answerOf(alice.open(challenge));
  assert.equal(bob.open(echo).kind, 'proven');
  const restarted = new Host('default', KEYS);
  const kinds = [...recorded, echo].map((packet) => refusal(restarted.open(packet)));
  assert.deepEqual(kinds, ['held', 'held', 'held', 'unasked']);
});

test('open() answers a challenge once, and one for another session never', () => {
  const { alice, bob } = twoHosts();
  const challenge = answerOf(bob.open(alice.seal('first')));
  assert.equal(refusal(alice.open(challenge)), 'challenged');
  for (let count = 0; count < 10; count++) assert.equal(refusal(alice.open(challenge)), 'replayed');
  // Recorded on its way to alice, and played to others and to the next life of alice.
  const next = new Host('default', KEYS);
  for (let count = 0; count < 10; count++) assert.equal(refusal(next.open(challenge)), 'replayed');
});

test('recorded challenges leave room for the challenges of new members', () => {
  const { alice, bob } = twoHosts();
  const recorded = answerOf(bob.open(alice.seal('first')));
  for (let count = 0; count < 20_000; count++) alice.open(recorded);
  assert.equal(introduce(alice, new Host('default', KEYS)).kind, 'proven');
});

test('what was recorded and is sent again is refused without a decryption', (context) => {
  const { alice, bob } = twoHosts();
  const data = alice.seal('first');
  const challenge = answerOf(bob.open(data));
  const echo = answerOf(alice.open(challenge));
  bob.open(echo);
  const next = new Host('default', KEYS);
  next.open(challenge);
  for (const host of [alice, bob, next])
    context.mock.method(host.envelope, 'decrypt', () => assert.fail('decrypted'));
  assert.equal(refusal(bob.open(data)), 'replayed');
  assert.equal(refusal(bob.open(echo)), 'replayed');
  assert.equal(refusal(alice.open(challenge)), 'replayed');
  assert.equal(refusal(next.open(challenge)), 'replayed');
  assert.equal(refusal(next.open(echo)), 'unasked');
});

test('open() asks again for proof when packets were kept back, and lets those go that are late', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  assert.equal(refusal(bob.open(alice.seal('at once'))), 'fresh');
  const kept = alice.seal('kept back');
  for (const host of [alice, bob]) host.nowMs += LATE_MS + 500;
  const challenge = answerOf(bob.open(kept));
  const opened = bob.open(answerOf(alice.open(challenge)));
  assert.ok(opened.kind === 'proven');
  assert.deepEqual(opened.held, []);
  assert.equal(bob.sealer.lateCount, 1);
  assert.equal(refusal(bob.open(alice.seal('at once'))), 'fresh');
});

test('open() takes packets of a host whose clock stood still, after one round trip', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  bob.nowMs += 60_000;
  const opened = introduce(alice, bob, 'after the pause');
  assert.ok(opened.kind === 'proven');
  assert.deepEqual(
    opened.held.map(({ body }) => textOf(body)),
    ['after the pause'],
  );
});

test('wall clocks that are stepped by 300 s change nothing: no packet is refused, none has to prove itself again', (context) => {
  const start = Date.now();
  const clock = (): number => bootTimeMs();
  const [alice, bob] = [new Envelope('default', KEYS), new Envelope('default', KEYS)].map(
    (envelope) => new Sealer<string>(envelope, clock),
  ) as [Sealer<string>, Sealer<string>];
  const pass = (from: Sealer<string>, to: Sealer<string>): Opened<string> =>
    to.open(Buffer.from(from.seal(Buffer.from('heartbeat'))), '');
  const challenge = answerOf(pass(alice, bob));
  const echo = answerOf(alice.open(Buffer.from(challenge), ''));
  assert.equal(bob.open(Buffer.from(echo), '').kind, 'proven');
  context.mock.timers.enable({ apis: ['Date'], now: start });
  for (const stepMs of [300_000, -300_000, -600_000, 0]) {
    const packet = Buffer.from(alice.seal(Buffer.from('on its way')));
    context.mock.timers.setTime(Math.max(0, start + stepMs));
    assert.equal(bob.open(packet, '').kind, 'fresh', `${stepMs} ms`);
    assert.equal(pass(alice, bob).kind, 'fresh', `${stepMs} ms`);
  }
});

test('open() follows clocks that drift apart without another proof', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  for (let minute = 0; minute < 24 * 60; minute++) {
    alice.nowMs += 60_000;
    // 100 ppm: 8.6 s a day.
    bob.nowMs += 60_006;
    assert.equal(refusal(bob.open(alice.seal('heartbeat'))), 'fresh');
  }
});

test('open() takes the proof of a slow path, whose echo comes after further challenges', () => {
  const { alice, bob } = twoHosts();
  const challenge = answerOf(bob.open(alice.seal('first')));
  for (let count = 0; count < 10; count++) {
    bob.nowMs += 60;
    bob.open(alice.seal('again'));
  }
  assert.equal(bob.open(answerOf(alice.open(challenge))).kind, 'proven');
});

test('open() takes no echo after its time', () => {
  const { alice, bob } = twoHosts();
  const challenge = answerOf(bob.open(alice.seal('first')));
  const echo = answerOf(alice.open(challenge));
  bob.nowMs += 2_001;
  assert.equal(refusal(bob.open(echo)), 'unasked');
});

test('open() sends at most one challenge in 50 ms, and holds 8 packets of a session', () => {
  const { alice, bob } = twoHosts();
  const challenge = answerOf(bob.open(alice.seal('0')));
  for (let count = 1; count < 20; count++) {
    const opened = bob.open(alice.seal(String(count)));
    assert.ok(opened.kind === 'held');
    assert.equal(opened.answer, undefined);
  }
  assert.equal(bob.sealer.sessions.held, 8);
  const opened = bob.open(answerOf(alice.open(challenge)));
  assert.ok(opened.kind === 'proven');
  assert.deepEqual(
    opened.held.map(({ body }) => textOf(body)),
    ['12', '13', '14', '15', '16', '17', '18', '19'],
  );
});

test('open() keeps a bounded number of sessions that prove nothing', () => {
  const { bob } = twoHosts();
  for (let count = 0; count < 3_000; count++) bob.open(new Host('default', KEYS).seal('hello'));
  const { proven, unproven, held } = bob.sealer.sessions;
  assert.deepEqual({ proven, unproven }, { proven: 0, unproven: 1_024 });
  assert.ok(held <= 1_024);
});

test('open() refuses with the reason that an operator needs', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  const plain = new Host('default', undefined);
  const good = alice.seal('message');
  const forged = Buffer.from(alice.seal('message'));
  forged[30] = (forged[30] ?? 0) ^ 1;
  const renumbered = Buffer.from(good);
  renumbered[15] = (renumbered[15] ?? 0) ^ 1;
  const cases: readonly (readonly [string, Host, Buffer])[] = [
    ['size', bob, Buffer.alloc(0)],
    ['size', bob, good.subarray(0, 19)],
    ['forged', bob, Buffer.from(alice.seal('message')).subarray(0, 25)],
    ['version', bob, Buffer.alloc(60)],
    ['version', bob, Buffer.from('GET / HTTP/1.1\r\nHost: example.com')],
    ['sealing', plain, good],
    ['sealing', bob, plain.seal('message')],
    ['label', new Host('staging', KEYS), good],
    ['key', new Host('default', [newKey()]), good],
    ['key', bob, renumbered],
    ['forged', bob, forged],
    ['own', alice, good],
  ];
  for (const [why, host, packet] of cases) assert.equal(refusal(host.open(packet)), why, why);
});

test('open() decrypts nothing that was changed on the way, or put together from two packets', (context) => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  const decrypt = context.mock.method(bob.envelope, 'decrypt');
  const [one, other] = [alice.seal('one message'), alice.seal('one another')];
  for (let at = 0; at < one.length; at++) {
    const changed = Buffer.from(one);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    assert.equal(bob.open(changed).kind, 'refused');
  }
  const mixed = Buffer.concat([one.subarray(0, HEADER_BYTES), other.subarray(HEADER_BYTES)]);
  assert.equal(refusal(bob.open(mixed)), 'forged');
  // One in 65,536 gets as far, by chance.
  assert.ok(decrypt.mock.callCount() <= 1);
  assert.equal(refusal(bob.open(one)), 'fresh');
});

test('setKeys() rotates keys without refusing a packet of anybody on the way', () => {
  const [old, fresh] = [newKey(), newKey()];
  const { alice, bob } = twoHosts([old]);
  introduce(alice, bob);
  introduce(bob, alice);
  const steps = [[old, fresh], [fresh, old], [fresh]];
  for (const keys of steps) {
    for (const host of [alice, bob]) {
      const under = [alice.seal('before'), bob.seal('before')];
      host.envelope.setKeys(keys);
      assert.equal(refusal(bob.open(under[0] ?? Buffer.alloc(0))), 'fresh');
      assert.equal(refusal(alice.open(under[1] ?? Buffer.alloc(0))), 'fresh');
      assert.equal(refusal(bob.open(alice.seal('after'))), 'fresh');
      assert.equal(refusal(alice.open(bob.seal('after'))), 'fresh');
    }
  }
  const late = new Host('default', [old]);
  assert.equal(refusal(bob.open(late.seal('removed'))), 'key');
});

test('open() begins a new session before the time of one runs out', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  alice.nowMs += 2 ** 31;
  bob.nowMs += 2 ** 31;
  assert.equal(introduce(alice, bob).kind, 'proven');
  assert.equal(bob.sealer.sessions.proven, 2);
});

test('open() adds no more than 40 bytes to a message, and as many under a mutation change nothing', () => {
  const { alice, bob } = twoHosts();
  introduce(alice, bob);
  const message = 'a message of some length';
  assert.equal(alice.seal(message).length - message.length, 40);
  const random = seededRandom(11);
  for (let count = 0; count < 20_000; count++) {
    const packet = Buffer.from(alice.seal(message));
    const at = Math.floor(random() * packet.length);
    packet[at] = (packet[at] ?? 0) ^ (1 << Math.floor(random() * 8));
    assert.equal(bob.open(packet).kind, 'refused');
  }
  assert.deepEqual(bob.sealer.sessions, { proven: 1, unproven: 0, held: 0 });
  assert.equal(refusal(bob.open(alice.seal(message))), 'fresh');
});
