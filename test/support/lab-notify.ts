import { AF_UNIX, SOCK_DGRAM } from '../../src/sys/constants.ts';
import { sockaddrUnix } from '../../src/sys/sockaddr.ts';
import { RawSocket } from '../../src/sys/socket.ts';
import { labTimeMs } from './lab-time.ts';
import { within } from './wait.ts';

/** One line of sd_notify(3), and when it came (`labTimeMs`). */
export type Notification = { readonly atMs: number; readonly text: string };

/** The service manager's end of $NOTIFY_SOCKET. */
export class NotifySocket {
  readonly received: Notification[] = [];
  readonly #socket: RawSocket;
  readonly #waiting = new Set<() => void>();

  /** Binds to `path`, which must not exist. */
  constructor(path: string) {
    const address = sockaddrUnix(path);
    if (address === undefined) throw new Error(`${path} is too long for a unix socket`);
    this.#socket = new RawSocket(AF_UNIX, SOCK_DGRAM);
    this.#socket.bind(address);
    this.#socket.startPolling({
      onDatagrams: (datagrams) => {
        for (const { bytes } of datagrams) this.#take(Buffer.from(bytes).toString());
      },
      onThrow: (thrown) => {
        throw thrown;
      },
    });
  }

  /** The first line, received or to come, that matches; rejects as `ended` does when that comes first. */
  async waitFor(
    match: RegExp,
    timeoutMs: number,
    ended: Promise<never>,
    describe: () => string,
  ): Promise<Notification> {
    const find = () => this.received.find(({ text }) => match.test(text));
    const seen = find();
    if (seen !== undefined) return seen;
    const { promise, resolve } = Promise.withResolvers<Notification>();
    const look = () => {
      const found = find();
      if (found !== undefined) resolve(found);
    };
    this.#waiting.add(look);
    try {
      return await within(Promise.race([promise, ended]), timeoutMs, describe);
    } finally {
      this.#waiting.delete(look);
    }
  }

  close(): void {
    this.#socket.close();
  }

  #take(datagram: string): void {
    const atMs = labTimeMs();
    for (const text of datagram.split('\n')) this.received.push({ atMs, text });
    for (const look of this.#waiting) look();
  }
}
