import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { instant, NEVER } from '../../../src/lib/time.ts';
import { bootTimeMs } from '../../../src/sys/clock.ts';
import {
  AF_INET6,
  AF_UNIX,
  SO_ERROR,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from '../../../src/sys/constants.ts';
import { sockaddrInet6 } from '../../../src/sys/sockaddr.ts';
import { RawSocket } from '../../../src/sys/socket.ts';
import { native, receive, uniqueName, unixAddress, unixPair } from './support.ts';

const LOOPBACK = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Sends until the receiver's queue is full; how many went. */
function fill(sender: RawSocket): number {
  for (let sent = 0; sent < 100_000; sent++) {
    if (sender.send(Uint8Array.of(1)) === 'blocked') return sent;
  }
  throw new Error('a unix socket took 100,000 datagrams that nobody reads');
}

describe('sending', () => {
  it('send() says blocked when the receiver is full, and onWritable() comes when it has read', async () => {
    const { receiver, sender, close } = unixPair();
    const queued = fill(sender);
    assert.ok(queued >= 1);
    const writable = Promise.withResolvers<void>();
    let wakes = 0;
    sender.startPolling({
      onWritable() {
        wakes++;
        writable.resolve();
      },
      onThrow: writable.reject,
    });
    sender.watchWritable();
    await receive(receiver, queued);
    await writable.promise;
    assert.equal(sender.send(Uint8Array.of(2)), 'sent');
    await receive(receiver, 1);
    assert.equal(wakes, 1, 'one wake for one watchWritable()');
    close();
  });

  it('watchWritable() can be asked again from within onWritable()', async () => {
    const { sender, close } = unixPair();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let wakes = 0;
    sender.startPolling(
      {
        onWritable() {
          wakes++;
          if (wakes === 5) resolve();
          else sender.watchWritable();
        },
        onThrow: reject,
      },
      { maxDatagramBytes: 0 },
    );
    sender.watchWritable();
    await promise;
    close();
    assert.equal(wakes, 5);
  });

  it('sendBefore() sends before the deadline, and nothing at or after it', async () => {
    const { receiver, sender, close } = unixPair();
    assert.equal(sender.sendBefore(Uint8Array.of(1), undefined, instant(bootTimeMs() - 0.001)), 'expired');
    assert.equal(sender.sendBefore(Uint8Array.of(2), undefined, bootTimeMs()), 'expired');
    assert.equal(sender.sendBefore(Uint8Array.of(3), undefined, instant(-Infinity)), 'expired');
    assert.equal(sender.sendBefore(Uint8Array.of(4), undefined, instant(bootTimeMs() + 60_000)), 'sent');
    assert.equal(sender.sendBefore(Uint8Array.of(5), undefined, NEVER), 'sent');
    const received = await receive(receiver, 2);
    close();
    assert.deepEqual(
      received.map((datagram) => datagram.bytes[0]),
      [4, 5],
    );
  });

  it('sendBefore() expires when the loop was held up between decision and call', () => {
    const { sender, close } = unixPair();
    const deadline = instant(bootTimeMs() + 5);
    while (native.bootTimeMs() < deadline);
    assert.equal(sender.sendBefore(Uint8Array.of(1), undefined, deadline), 'expired');
    close();
  });

  it('sendBefore() says blocked when full, and refuses a deadline that is no number', () => {
    const { sender, close } = unixPair();
    fill(sender);
    assert.equal(sender.sendBefore(Uint8Array.of(1), undefined, NEVER), 'blocked');
    assert.throws(() => sender.sendBefore(Uint8Array.of(1), undefined, instant(Number.NaN)), TypeError);
    close();
  });

  it('sendMany() sends in order, to each its own address', async () => {
    const names = [uniqueName(), uniqueName()].map(unixAddress);
    const receivers = names.map((name) => {
      const receiver = new RawSocket(AF_UNIX, SOCK_DGRAM);
      receiver.bind(name);
      return receiver;
    });
    const sender = new RawSocket(AF_UNIX, SOCK_DGRAM);
    const datagrams = Array.from({ length: 8 }, (_, index) => ({
      bytes: Uint8Array.of(index),
      address: names[index % 2],
    }));
    assert.deepEqual(sender.sendMany(datagrams), { sent: 8, failure: undefined });
    assert.deepEqual(sender.sendMany([]), { sent: 0, failure: undefined });
    const received = await Promise.all(receivers.map((receiver) => receive(receiver, 4)));
    assert.deepEqual(
      received.map((list) => list.map((datagram) => datagram.bytes[0])),
      [
        [0, 2, 4, 6],
        [1, 3, 5, 7],
      ],
    );
    for (const socket of [...receivers, sender]) socket.close();
  });

  it('sendMany() of thousands goes in chunks and loses none', async () => {
    const receiver = new RawSocket(AF_INET6, SOCK_DGRAM);
    receiver.bind(sockaddrInet6(LOOPBACK, 0));
    const sender = new RawSocket(AF_INET6, SOCK_DGRAM);
    const address = receiver.localAddress();
    for (let round = 0; round < 10; round++) {
      const datagrams = Array.from({ length: 129 }, (_, index) => ({
        bytes: new Uint8Array(index),
        address,
      }));
      assert.deepEqual(sender.sendMany(datagrams), { sent: 129, failure: undefined });
      const received = await receive(receiver, 129);
      assert.deepEqual(
        received.map((datagram) => datagram.bytes.length),
        datagrams.map((datagram) => datagram.bytes.length),
      );
    }
    receiver.close();
    sender.close();
  });

  it('sendMany() says how many went and what the next one met', () => {
    const { sender, close } = unixPair();
    const datagrams = Array.from({ length: 10_000 }, () => ({ bytes: Uint8Array.of(1) }));
    const { sent, failure } = sender.sendMany(datagrams);
    assert.ok(sent >= 1 && sent < 10_000);
    assert.equal(failure, 'EAGAIN');
    const refused = sender.sendMany([{ bytes: Uint8Array.of(1), address: unixAddress(uniqueName()) }]);
    assert.deepEqual(refused, { sent: 0, failure: 'ECONNREFUSED' });
    close();
  });

  it('sendMany() survives getters that free the bytes or close the socket meanwhile', () => {
    const { sender, close } = unixPair();
    const bytes = new Uint8Array(100_000);
    const trap = {
      get bytes(): Uint8Array {
        structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
        return Uint8Array.of(2);
      },
    };
    assert.deepEqual(sender.sendMany([{ bytes }, trap]), { sent: 2, failure: undefined });
    const closing = {
      get bytes(): Uint8Array {
        sender.close();
        return Uint8Array.of(2);
      },
    };
    assert.throws(() => sender.sendMany([{ bytes: Uint8Array.of(1) }, closing]), /EBADF/);
    close();
  });

  it('connect() of a stream is pending, then SO_ERROR tells how it ended', async () => {
    const closed = new RawSocket(AF_INET6, SOCK_STREAM);
    closed.bind(sockaddrInet6(LOOPBACK, 0)); // bound and not listening: refuses
    const stream = new RawSocket(AF_INET6, SOCK_STREAM);
    assert.equal(stream.connect(closed.localAddress()), 'pending');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    stream.startPolling({ onWritable: resolve, onError: reject, onThrow: reject }, { maxDatagramBytes: 0 });
    stream.watchWritable();
    await promise;
    assert.equal(stream.numberOption(SOL_SOCKET, SO_ERROR), 111, 'ECONNREFUSED');
    stream.close();
    closed.close();
  });
});
