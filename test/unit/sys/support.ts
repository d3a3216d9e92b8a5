import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { AF_UNIX, SOCK_DGRAM } from '../../../src/sys/constants.ts';
import { loadNative, type NativeAddon } from '../../../src/sys/native.ts';
import { sockaddrUnix } from '../../../src/sys/sockaddr.ts';
import { type Datagram, RawSocket, type SocketListener } from '../../../src/sys/socket.ts';

/** The addon under test: the sanitized one when sanitized.test.ts runs these files again in a child. */
export const native: NativeAddon = loadNative(process.env['LBD_TEST_ADDON']);

export function unixAddress(name: string): Uint8Array {
  const address = sockaddrUnix(name);
  if (address === undefined) throw new Error(`bad unix socket name ${name}`);
  return address;
}

export function uniqueName(): string {
  return `@lbd-test-${process.pid}-${randomBytes(6).toString('hex')}`;
}

/** A bound receiver and a sender connected to it, both in the abstract namespace. */
export function unixPair(): { readonly receiver: RawSocket; readonly sender: RawSocket; close(): void } {
  const address = unixAddress(uniqueName());
  const receiver = new RawSocket(AF_UNIX, SOCK_DGRAM);
  const sender = new RawSocket(AF_UNIX, SOCK_DGRAM);
  receiver.bind(address);
  sender.connect(address);
  return {
    receiver,
    sender,
    close() {
      receiver.close();
      sender.close();
    },
  };
}

/** A listener that fails the process on what a test does not expect. */
export function listener(expected: Partial<SocketListener>): SocketListener {
  return {
    onError(error) {
      throw error;
    },
    onThrow(thrown) {
      throw thrown;
    },
    ...expected,
  };
}

/** Polls until `count` datagrams have come, then stops. */
export function receive(socket: RawSocket, count: number, maxDatagramBytes?: number): Promise<Datagram[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Datagram[]>();
  const received: Datagram[] = [];
  socket.startPolling(
    {
      onDatagrams(datagrams) {
        received.push(...datagrams);
        if (received.length < count) return;
        socket.stopPolling();
        resolve(received);
      },
      onError: reject,
      onThrow: reject,
    },
    { maxDatagramBytes },
  );
  return promise;
}

export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** One round of the event loop, in which libuv also finishes closing handles. */
export function nextLoopRound(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Runs `action` as nobody when this process is root, to whom no permission is denied. */
export function asUnprivileged<T>(action: () => T): T {
  if (process.geteuid?.() !== 0) return action();
  process.seteuid?.(65_534);
  try {
    return action();
  } finally {
    process.seteuid?.(0);
  }
}
