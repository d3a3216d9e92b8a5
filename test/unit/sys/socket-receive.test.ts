import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { assemble, JUMP_EQUAL, LOAD_BYTE, RETURN } from '../../../src/sys/bpf.ts';
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  IPPROTO_IPV6,
  IPV6_RECVHOPLIMIT,
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_ROUTE,
  SO_RCVBUF,
  SO_REUSEPORT,
  SO_TIMESTAMPNS,
  SOCK_DGRAM,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
} from '../../../src/sys/constants.ts';
import {
  parseSockaddrNetlink,
  sockaddrInet,
  sockaddrInet6,
  sockaddrNetlink,
} from '../../../src/sys/sockaddr.ts';
import { type Datagram, RawSocket } from '../../../src/sys/socket.ts';
import { isSystemError, type SystemError } from '../../../src/sys/system-error.ts';
import { listener, native, nextLoopRound, receive, unixPair } from './support.ts';

const LOOPBACK = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
/** linux/netlink.h: a family in which unprivileged processes may send to groups. */
const NETLINK_USERSOCK = 2;
const NLMSG_DONE = 3;
const RTM_GETLINK = 18;
const RTM_NEWLINK = 16;
const NLM_F_REQUEST_DUMP = 0x301;

/** The message types of a netlink datagram. */
function messageTypes(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const types: number[] = [];
  for (let at = 0; at + 16 <= bytes.length; at += (view.getUint32(at, true) + 3) & ~3) {
    types.push(view.getUint16(at + 4, true));
  }
  return types;
}

/** Collects the first byte of each datagram. */
function firstBytes() {
  const delivered: (number | undefined)[] = [];
  const onDatagrams = (datagrams: readonly Datagram[]): void => {
    delivered.push(...datagrams.map(({ bytes }) => bytes[0]));
  };
  return { delivered, onDatagrams };
}

/** Long enough for what was sent to be read. */
async function loopRounds(): Promise<void> {
  for (let round = 0; round < 3; round++) await nextLoopRound();
}

describe('receiving', () => {
  it('a netlink dump of links arrives, from the kernel, until NLMSG_DONE', async () => {
    const socket = new RawSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    socket.bind(sockaddrNetlink());
    const request = new Uint8Array(32);
    const view = new DataView(request.buffer);
    view.setUint32(0, request.length, true);
    view.setUint16(4, RTM_GETLINK, true);
    view.setUint16(6, NLM_F_REQUEST_DUMP, true);

    const { promise, resolve, reject } = Promise.withResolvers<number[]>();
    const types: number[] = [];
    socket.startPolling({
      onDatagrams(datagrams) {
        for (const datagram of datagrams) {
          assert.deepEqual(parseSockaddrNetlink(datagram.sender), { pid: 0, groups: 0 });
          types.push(...messageTypes(datagram.bytes));
        }
        if (types.at(-1) === NLMSG_DONE) resolve(types);
      },
      onError: reject,
      onThrow: reject,
    });
    assert.equal(socket.send(request, sockaddrNetlink()), 'sent');
    const links = (await promise).filter((type) => type === RTM_NEWLINK);
    socket.close();
    assert.ok(links.length >= 1, 'at least the loopback');
  });

  it('onError() tells ENOBUFS when netlink overran, and what comes later still arrives', async () => {
    const receiver = new RawSocket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    receiver.setOption(SOL_SOCKET, SO_RCVBUF, 2048);
    receiver.bind(sockaddrNetlink());
    const group = 21;
    receiver.setOption(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    const sender = new RawSocket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    const multicast = (bytes: Uint8Array): void => {
      try {
        sender.send(bytes, sockaddrNetlink(0, 1 << (group - 1)));
      } catch (error) {
        // The group has it by now; the refusal is of the unicast copy to pid 0, where no kernel listens.
        assert.ok(isSystemError(error, 'ECONNREFUSED'), String(error));
      }
    };

    const errors: (SystemError & { readonly stopped: boolean })[] = [];
    const afterOverrun = Promise.withResolvers<void>();
    const afterResume = Promise.withResolvers<void>();
    let received = 0;
    receiver.startPolling({
      onDatagrams(datagrams) {
        received += datagrams.length;
        if (errors.length > 0) afterOverrun.resolve();
        if (datagrams.some((datagram) => datagram.bytes[0] === 0xee)) afterResume.resolve();
      },
      onError: (error) => errors.push(error),
      onThrow: afterOverrun.reject,
    });
    for (let sent = 0; sent < 100; sent++) multicast(new Uint8Array(200).fill(1));
    await afterOverrun.promise;
    assert.equal(errors.length, 1);
    assert.equal(errors[0]?.code, 'ENOBUFS');
    assert.equal(errors[0]?.message, 'recvmsg(AF_NETLINK): ENOBUFS: No buffer space available');
    assert.equal(errors[0]?.stopped, false);
    assert.ok(received < 100, 'some were lost');

    multicast(new Uint8Array(200).fill(0xee));
    await afterResume.promise;
    receiver.close();
    sender.close();
  });

  it('a datagram longer than maxDatagramBytes comes cut, marked, with its full length', async () => {
    const { receiver, sender, close } = unixPair();
    sender.send(new Uint8Array(100).fill(7));
    sender.send(new Uint8Array(16).fill(8));
    sender.send(new Uint8Array(0));
    const [cut, whole, empty] = await receive(receiver, 3, 16);
    close();
    assert.ok(cut !== undefined && whole !== undefined && empty !== undefined);
    assert.deepEqual([cut.bytes.length, cut.fullLength, cut.isTruncated], [16, 100, true]);
    assert.deepEqual([whole.bytes.length, whole.fullLength, whole.isTruncated], [16, 16, false]);
    assert.deepEqual([empty.bytes.length, empty.fullLength, empty.isTruncated], [0, 0, false]);
    assert.deepEqual(whole.bytes, new Uint8Array(16).fill(8));
  });

  it('the largest datagrams arrive whole', async () => {
    const { receiver, sender, close } = unixPair();
    for (const size of [65_536, 1, 65_535, 40_000, 30_001]) {
      assert.equal(sender.send(new Uint8Array(size).fill(size & 0xff)), 'sent');
      const [datagram] = await receive(receiver, 1);
      assert.deepEqual(datagram?.bytes, new Uint8Array(size).fill(size & 0xff));
      assert.equal(datagram?.isTruncated, false);
    }
    close();
  });

  it('a wake delivers at most 64 datagrams, and the loop gets a turn before the next', async () => {
    const receiver = new RawSocket(AF_INET6, SOCK_DGRAM);
    receiver.bind(sockaddrInet6(LOOPBACK, 0));
    const sender = new RawSocket(AF_INET6, SOCK_DGRAM);
    sender.connect(receiver.localAddress());
    for (let sent = 0; sent < 150; sent++) sender.send(Uint8Array.of(sent));
    const batches: number[] = [];
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let rounds = 0;
    const count = (): void => {
      rounds++;
      if (batches.length < 3) setImmediate(count);
    };
    setImmediate(count);
    receiver.startPolling({
      onDatagrams(datagrams) {
        batches.push(datagrams.length);
        if (batches.length === 3) resolve();
      },
      onError: reject,
      onThrow: reject,
    });
    await promise;
    receiver.close();
    sender.close();
    assert.deepEqual(batches, [64, 64, 22]);
    assert.ok(rounds >= 2, `the loop turned ${rounds} times`);
  });

  it('timestamps and hop limits come with the datagrams that were asked to have them', async () => {
    const receiver = new RawSocket(AF_INET6, SOCK_DGRAM);
    receiver.bind(sockaddrInet6(LOOPBACK, 0));
    receiver.setOption(SOL_SOCKET, SO_TIMESTAMPNS, 1);
    receiver.setOption(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    const sender = new RawSocket(AF_INET6, SOCK_DGRAM);
    const before = native.realTimeMs();
    sender.send(Uint8Array.of(1, 2, 3), receiver.localAddress());
    const [datagram] = await receive(receiver, 1);
    receiver.close();
    sender.close();
    assert.ok(datagram?.timestampMs !== undefined);
    assert.ok(datagram.timestampMs >= before - 1 && datagram.timestampMs <= native.realTimeMs());
    assert.equal(datagram.hopLimit, 64);
    assert.equal(datagram.sender.length, 28);
  });

  it('without those options they are undefined', async () => {
    const { receiver, sender, close } = unixPair();
    sender.send(Uint8Array.of(1));
    const [datagram] = await receive(receiver, 1);
    close();
    assert.equal(datagram?.timestampMs, undefined);
    assert.equal(datagram?.hopLimit, undefined);
    assert.equal(datagram?.sender.length, 0, 'the sender has no name');
  });

  it('signals that interrupt the loop lose and duplicate nothing', async () => {
    const { receiver, sender, close } = unixPair();
    let signals = 0;
    const onSignal = (): void => {
      signals++;
    };
    process.on('SIGWINCH', onSignal);
    const received: number[] = [];
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    receiver.startPolling({
      onDatagrams(datagrams) {
        for (const { bytes } of datagrams) received.push(new DataView(bytes.slice().buffer).getUint32(0));
        if (received.length === 500) resolve();
      },
      onError: reject,
      onThrow: reject,
    });
    let next = 0;
    const sendSome = (): void => {
      for (let sent = 0; sent < 5 && next < 500; sent++, next++) {
        const bytes = new Uint8Array(4);
        new DataView(bytes.buffer).setUint32(0, next);
        process.kill(process.pid, 'SIGWINCH');
        assert.equal(sender.send(bytes), 'sent');
      }
      if (next < 500) setImmediate(sendSome);
    };
    sendSome();
    await promise;
    await nextLoopRound();
    process.removeListener('SIGWINCH', onSignal);
    close();
    assert.deepEqual(
      received,
      Array.from({ length: 500 }, (_, index) => index),
    );
    assert.ok(signals > 0);
  });

  it('stopPolling() leaves datagrams queued for the next startPolling()', async () => {
    const { receiver, sender, close } = unixPair();
    for (let round = 0; round < 3; round++) {
      sender.send(Uint8Array.of(round));
      const [datagram] = await receive(receiver, 1);
      assert.deepEqual(datagram?.bytes, Uint8Array.of(round));
    }
    close();
  });

  it('deliverNow() delivers what has arrived before the loop turns, and nothing when not polling', async () => {
    const { receiver, sender, close } = unixPair();
    const { delivered, onDatagrams } = firstBytes();
    receiver.deliverNow();
    receiver.startPolling(listener({ onDatagrams }));
    receiver.deliverNow();
    assert.deepEqual(delivered, []);
    sender.send(Uint8Array.of(1));
    sender.send(Uint8Array.of(2));
    receiver.deliverNow();
    assert.deepEqual(delivered, [1, 2]);
    await loopRounds();
    assert.deepEqual(delivered, [1, 2], 'once');
    receiver.stopPolling();
    sender.send(Uint8Array.of(3));
    receiver.deliverNow();
    assert.deepEqual(delivered, [1, 2]);
    close();
    receiver.deliverNow();
  });

  it('a listener that closes the socket within deliverNow() hears no more', () => {
    const { receiver, sender, close } = unixPair();
    let batches = 0;
    receiver.startPolling(
      listener({
        onDatagrams: () => {
          batches += 1;
          receiver.close();
        },
      }),
    );
    sender.send(Uint8Array.of(1));
    receiver.deliverNow();
    assert.equal(batches, 1);
    close();
  });

  it('while polling is paused datagrams wait, for deliverNow() or for its end', async () => {
    const { receiver, sender, close } = unixPair();
    const { delivered, onDatagrams } = firstBytes();
    receiver.startPolling(listener({ onDatagrams }));
    receiver.pausePolling(true);
    sender.send(Uint8Array.of(1));
    await loopRounds();
    assert.deepEqual(delivered, []);
    receiver.deliverNow();
    assert.deepEqual(delivered, [1]);
    sender.send(Uint8Array.of(2));
    await loopRounds();
    assert.deepEqual(delivered, [1]);
    receiver.pausePolling(false);
    await loopRounds();
    assert.deepEqual(delivered, [1, 2]);
    close();
  });

  it('a program tells the sockets of one port which of them gets a datagram', async () => {
    const sockets = [0, 1].map(() => {
      const socket = new RawSocket(AF_INET, SOCK_DGRAM);
      socket.setOption(SOL_SOCKET, SO_REUSEPORT, 1);
      return socket;
    });
    const [first, second] = sockets as [RawSocket, RawSocket];
    first.bind(sockaddrInet(Uint8Array.of(127, 0, 0, 1), 0));
    const address = first.localAddress();
    second.bind(address);
    // As routine packets of gossip: those that begin with 7 are for the second.
    second.attachReuseportFilter(
      assemble([
        [LOAD_BYTE, 0, 0, 0],
        [JUMP_EQUAL, 0, 1, 7],
        [RETURN, 0, 0, 1],
        [RETURN, 0, 0, 0],
      ]),
    );
    const got: number[][] = [[], []];
    sockets.forEach((socket, index) => {
      socket.startPolling(
        listener({
          onDatagrams: (datagrams) => got[index]?.push(...datagrams.map(({ bytes }) => bytes[0] ?? -1)),
        }),
      );
    });
    const sender = new RawSocket(AF_INET, SOCK_DGRAM);
    for (const bytes of [[7], [1], [7, 7], [], [2]]) sender.send(Uint8Array.from(bytes), address);
    await loopRounds();
    assert.deepEqual(got, [
      [1, -1, 2],
      [7, 7],
    ]);
    for (const socket of [...sockets, sender]) socket.close();
  });

  it('views of one batch stay true after later batches', async () => {
    const { receiver, sender, close } = unixPair();
    const kept: Datagram[] = [];
    for (let round = 0; round < 20; round++) {
      sender.send(new Uint8Array(1000).fill(round));
      kept.push(...(await receive(receiver, 1)));
    }
    close();
    kept.forEach((datagram, round) => {
      assert.ok(datagram.bytes.every((byte) => byte === round));
    });
  });
});
