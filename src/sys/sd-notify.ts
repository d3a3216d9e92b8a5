import { LbdError } from '../lib/errors.ts';
import { AF_UNIX, SOCK_DGRAM } from './constants.ts';
import { sockaddrUnix } from './sockaddr.ts';
import { RawSocket } from './socket.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Messages kept while the service manager does not read; past it the oldest goes, as the newest matters most. */
const PENDING_MESSAGES_MAX = 32;

/**
 * Tells systemd how the service is doing, as sd_notify(3) does: a datagram to $NOTIFY_SOCKET. Without that variable
 * every method does nothing. Nothing here throws after construction: a service manager that went away must not stop
 * the service, so a failure goes to `onError`.
 */
export class ServiceNotifier {
  readonly #socket: RawSocket | undefined;
  readonly #onError: (error: unknown) => void;
  #pending: Uint8Array[] = [];

  /** Throws LbdError `notify.unreachable` when $NOTIFY_SOCKET is set and cannot be connected to. */
  constructor(environment: Environment, onError: (error: unknown) => void) {
    this.#onError = onError;
    const path = environment['NOTIFY_SOCKET'];
    this.#socket = path === undefined || path === '' ? undefined : openNotifySocket(path);
  }

  /** Start-up is done; units ordered after this one may start. */
  ready(): void {
    this.#notify('READY=1');
  }

  /** One line for `systemctl status`. */
  status(text: string): void {
    this.#notify(`STATUS=${text.replaceAll('\n', ' ')}`);
  }

  stopping(): void {
    this.#notify('STOPPING=1');
  }

  /** Type=notify-reload: the configuration is being read again; `ready()` ends it. */
  reloading(): void {
    // hrtime is CLOCK_MONOTONIC, the clock systemd compares MONOTONIC_USEC with.
    this.#notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  /** Still alive; to be sent every `watchdogIntervalMs()`. */
  watchdog(): void {
    this.#notify('WATCHDOG=1');
  }

  close(): void {
    this.#socket?.close();
  }

  #notify(message: string): void {
    if (this.#socket === undefined) return;
    this.#pending.push(new TextEncoder().encode(message));
    if (this.#pending.length > PENDING_MESSAGES_MAX) this.#pending.shift();
    if (this.#pending.length === 1) this.#flush(this.#socket);
  }

  #flush(socket: RawSocket): void {
    try {
      for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
        if (socket.send(next) === 'blocked') {
          this.#flushWhenWritable(socket);
          return;
        }
        this.#pending.shift();
      }
      socket.stopPolling();
    } catch (error) {
      this.#pending = [];
      this.#onError(error);
    }
  }

  #flushWhenWritable(socket: RawSocket): void {
    socket.stopPolling();
    socket.startPolling(
      { onWritable: () => this.#flush(socket), onThrow: (thrown) => this.#onError(thrown) },
      { maxDatagramBytes: 0 },
    );
    socket.watchWritable();
  }
}

function openNotifySocket(path: string): RawSocket {
  const address = path.startsWith('/') || path.startsWith('@') ? sockaddrUnix(path) : undefined;
  if (address === undefined) {
    throw new LbdError(
      'notify.unreachable',
      `NOTIFY_SOCKET="${path}": expected an absolute path or @name of at most 107 bytes`,
    );
  }
  const socket = new RawSocket(AF_UNIX, SOCK_DGRAM);
  try {
    // Connected, so that "writable" tells of systemd's queue and not only of our own buffer.
    socket.connect(address);
    return socket;
  } catch (cause) {
    socket.close();
    throw new LbdError('notify.unreachable', `cannot reach the service manager at NOTIFY_SOCKET="${path}"`, {
      cause,
    });
  }
}

/**
 * How often `watchdog()` is due, in ms: half of $WATCHDOG_USEC, as sd_watchdog_enabled(3) recommends. Undefined when
 * the service manager does not ask for it, or asks another process ($WATCHDOG_PID).
 */
export function watchdogIntervalMs(environment: Environment, pid: number = process.pid): number | undefined {
  const timeoutUs = Number(environment['WATCHDOG_USEC']);
  const watchedPid = environment['WATCHDOG_PID'];
  if (!Number.isSafeInteger(timeoutUs) || timeoutUs <= 0) return undefined;
  if (watchedPid !== undefined && watchedPid !== '' && Number(watchedPid) !== pid) return undefined;
  return timeoutUs / 1000 / 2;
}
