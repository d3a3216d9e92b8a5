import { errorText, LbdError } from '../../lib/errors.ts';
import { formatEndpoint, type Ip } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';

/** The host has no such family, or none that can be used. */
const NO_FAMILY: ReadonlySet<unknown> = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL']);

/** An address that is still being checked for duplicates, or not there yet, can soon be bound. */
const RETRY_MS = 200;

export const EVERY_ADDRESS: readonly Ip[] = ['0.0.0.0' as Ip, '::' as Ip];

export type ListenersOptions<Socket> = {
  readonly protocol: 'UDP' | 'TCP';
  readonly port: number;
  readonly logger: Logger;
  /** Rejects with the system's error when that address cannot be bound. */
  readonly open: (ip: Ip) => Promise<Socket>;
  readonly close: (socket: Socket) => void;
};

type Slot<Socket> = {
  readonly ip: Ip;
  socket: Socket | undefined;
  retry: NodeJS.Timeout | undefined;
  /** The last failure that was logged, so that a retry logs nothing new. */
  failure: string | undefined;
};

/** One socket of a port for each address that is wanted now. What cannot be bound is tried until it can. */
export class Listeners<Socket> {
  readonly #options: ListenersOptions<Socket>;
  readonly #slots = new Map<Ip, Slot<Socket>>();

  constructor(options: ListenersOptions<Socket>) {
    this.#options = options;
  }

  get(ip: Ip): Socket | undefined {
    return this.#slots.get(ip)?.socket;
  }

  /** Those that are there now. */
  *open(): Iterable<readonly [Ip, Socket]> {
    for (const { ip, socket } of this.#slots.values()) if (socket !== undefined) yield [ip, socket];
  }

  /** Those of the given addresses that are there, at once. Rejects with an LbdError when the port cannot be had. */
  async start(addresses: Iterable<Ip>): Promise<void> {
    for (const ip of addresses) {
      const slot = this.#add(ip);
      try {
        slot.socket = await this.#options.open(ip);
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') throw this.#failure(ip, thrown);
        this.#retry(slot, thrown);
      }
    }
  }

  /** Every address of the host. A family that the host has not is passed over; a port that another has is not. */
  async startEverywhere(): Promise<void> {
    let failure: unknown;
    for (const ip of EVERY_ADDRESS) {
      const slot = this.#add(ip);
      try {
        slot.socket = await this.#options.open(ip);
      } catch (thrown) {
        failure = this.#failure(ip, thrown);
        if (!NO_FAMILY.has((thrown as NodeJS.ErrnoException).code)) throw failure;
        this.#slots.delete(ip);
      }
    }
    if (this.#slots.size === 0) throw failure;
  }

  /** What to listen on from now on, beside every address when that was wanted. */
  set(addresses: ReadonlySet<Ip>): void {
    for (const [ip, slot] of this.#slots) {
      if (addresses.has(ip) || EVERY_ADDRESS.includes(ip)) continue;
      this.#slots.delete(ip);
      this.#close(slot);
    }
    for (const ip of addresses) if (!this.#slots.has(ip)) this.#open(this.#add(ip));
  }

  /** A socket failed for good: a new one is opened in its place. */
  failed(ip: Ip, thrown: unknown): void {
    const slot = this.#slots.get(ip);
    if (slot === undefined) return;
    this.#close(slot);
    this.#retry(slot, thrown);
  }

  close(): void {
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    for (const slot of slots) this.#close(slot);
  }

  #add(ip: Ip): Slot<Socket> {
    const slot: Slot<Socket> = { ip, socket: undefined, retry: undefined, failure: undefined };
    this.#slots.set(ip, slot);
    return slot;
  }

  #open(slot: Slot<Socket>): void {
    slot.retry = undefined;
    this.#options.open(slot.ip).then(
      (socket) => {
        if (this.#slots.get(slot.ip) !== slot) return this.#options.close(socket);
        slot.socket = socket;
        slot.failure = undefined;
      },
      (thrown) => this.#retry(slot, thrown),
    );
  }

  #close(slot: Slot<Socket>): void {
    clearTimeout(slot.retry);
    const { socket } = slot;
    slot.socket = undefined;
    if (socket !== undefined) this.#options.close(socket);
  }

  #retry(slot: Slot<Socket>, thrown: unknown): void {
    if (this.#slots.get(slot.ip) !== slot) return;
    const failure = errorText(thrown);
    if (failure !== slot.failure) {
      this.#options.logger.debug({ ip: slot.ip, error: failure }, 'gossip.bind.waits');
      slot.failure = failure;
    }
    slot.retry = setTimeout(() => this.#open(slot), RETRY_MS);
  }

  /** Names the neighbour that most likely has the port. */
  #failure(ip: Ip, cause: unknown): LbdError {
    const { protocol, port } = this.#options;
    const where = `${protocol} ${formatEndpoint(ip, port)}`;
    const hint =
      (cause as NodeJS.ErrnoException | undefined)?.code === 'EADDRINUSE'
        ? "; something else has it, such as MetalLB's speaker, whose members use port 7946 too: set gossip.port"
        : '';
    return new LbdError('gossip.bind-failed', `cannot listen on ${where}: ${errorText(cause)}${hint}`, {
      fields: { ip, port },
      cause,
    });
  }
}
