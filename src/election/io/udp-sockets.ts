import { createSocket, type Socket, type SocketOptions } from 'node:dgram';
import { errorText, LbdError } from '../../lib/errors.ts';
import { familyOf, type Ip } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Endpoint } from '../types.ts';

/** An address that is still being checked for duplicates, or not there yet, can soon be bound. */
const BIND_RETRY_MS = 200;
/** Half a second of a thousand members that all speak at once. The kernel cuts it at net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 1 << 20;
/** What waits in this process when the kernel takes no more; beyond it, packets are dropped as the network would. */
const MAX_QUEUED_BYTES = 1 << 20;

export type UdpOptions = {
  readonly port: number;
  /** Empty: every address of the host. */
  readonly bind: readonly Ip[];
  readonly logger: Logger;
  /** `localIp` is undefined for what came to a socket that is bound to no address. */
  readonly onPacket: (packet: Buffer, address: string, port: number, localIp: Ip | undefined) => void;
};

type Slot = {
  readonly ip: Ip;
  readonly localIp: Ip | undefined;
  socket: Socket | undefined;
  retry: NodeJS.Timeout | undefined;
  /** The last failure that was logged, so that a retry logs nothing new. */
  failure: string | undefined;
};

export const ANY_ADDRESS: readonly Ip[] = ['0.0.0.0' as Ip, '::' as Ip];

/**
 * The datagram sockets of one port: those that the configuration wants, and one for each address in a segment, so that a
 * packet for a segment leaves from the address there. SO_REUSEPORT lets them share the port among themselves, and unlike SO_REUSEADDR
 * with no process of another user.
 */
export class UdpSockets {
  readonly #options: UdpOptions;
  readonly #bases = new Map<'v4' | 'v6', Slot>();
  readonly #addressed = new Map<Ip, Slot>();
  #closed = false;
  #sendFailures = 0;
  #overflows = 0;

  constructor(options: UdpOptions) {
    this.#options = options;
  }

  get failures(): { readonly send: number; readonly overflow: number } {
    return { send: this.#sendFailures, overflow: this.#overflows };
  }

  /** Rejects with an LbdError when no socket can be bound; a family that the host has not is passed over. */
  async start(): Promise<void> {
    const { bind } = this.#options;
    const wanted = bind.length === 0 ? ANY_ADDRESS : bind;
    let failure: unknown;
    for (const ip of wanted) {
      const localIp = ANY_ADDRESS.includes(ip) ? undefined : ip;
      const slot: Slot = { ip, localIp, socket: undefined, retry: undefined, failure: undefined };
      try {
        slot.socket = await this.#bind(slot);
        this.#bases.set(familyOf(ip), slot);
      } catch (thrown) {
        failure = thrown;
        if (bind.length > 0) throw bindFailure(ip, this.#options.port, thrown);
      }
    }
    if (this.#bases.size === 0) throw bindFailure(ANY_ADDRESS[0] as Ip, this.#options.port, failure);
  }

  /** The addresses to have a socket of their own from now on. One that cannot be bound is tried until it can. */
  setAddresses(addresses: ReadonlySet<Ip>): void {
    for (const [ip, slot] of this.#addressed) {
      if (addresses.has(ip)) continue;
      this.#addressed.delete(ip);
      closeSlot(slot);
    }
    for (const ip of addresses) {
      if (this.#addressed.has(ip) || this.#bases.get(familyOf(ip))?.localIp === ip) continue;
      const slot: Slot = { ip, localIp: ip, socket: undefined, retry: undefined, failure: undefined };
      this.#addressed.set(ip, slot);
      this.#open(slot);
    }
  }

  /** From the given address of this host, or from any while that has no socket. Failures are counted, as losses are. */
  send(packet: Uint8Array, to: Endpoint, from: Ip | undefined): void {
    const family = familyOf(to.ip);
    const addressed = from !== undefined && familyOf(from) === family ? this.#addressed.get(from) : undefined;
    const socket = addressed?.socket ?? this.#bases.get(family)?.socket;
    if (socket === undefined) {
      this.#sendFailures++;
      return;
    }
    if (socket.getSendQueueSize() > MAX_QUEUED_BYTES) {
      this.#overflows++;
      return;
    }
    socket.send(packet, to.port, to.ip, this.#onSent);
  }

  close(): void {
    this.#closed = true;
    for (const slot of [...this.#bases.values(), ...this.#addressed.values()]) closeSlot(slot);
    this.#bases.clear();
    this.#addressed.clear();
  }

  readonly #onSent = (error: Error | null): void => {
    if (error !== null) this.#sendFailures++;
  };

  #open(slot: Slot): void {
    slot.retry = undefined;
    this.#bind(slot).then(
      (socket) => {
        if (this.#closed || this.#addressed.get(slot.ip) !== slot) {
          socket.close();
          return;
        }
        slot.socket = socket;
        slot.failure = undefined;
      },
      (thrown) => this.#retry(slot, thrown),
    );
  }

  #retry(slot: Slot, thrown: unknown): void {
    slot.socket = undefined;
    if (this.#closed || this.#addressed.get(slot.ip) !== slot) return;
    const failure = errorText(thrown);
    if (failure !== slot.failure) {
      this.#options.logger.debug({ ip: slot.ip, error: failure }, 'gossip.bind.waits');
      slot.failure = failure;
    }
    slot.retry = setTimeout(() => this.#open(slot), BIND_RETRY_MS);
  }

  #bind(slot: Slot): Promise<Socket> {
    const { port, onPacket } = this.#options;
    const v6 = familyOf(slot.ip) === 'v6';
    const socket = createSocket({ ...SOCKET_OPTIONS, type: v6 ? 'udp6' : 'udp4', ipv6Only: v6 });
    return new Promise((resolve, reject) => {
      socket.once('error', (error) => {
        socket.close();
        reject(error);
      });
      socket.bind({ port, address: slot.ip }, () => {
        socket.removeAllListeners('error');
        socket.on('error', (error) => {
          socket.close();
          this.#retry(slot, error);
        });
        socket.on('message', (packet, { address, port: from }) =>
          onPacket(packet, address, from, slot.localIp),
        );
        resolve(socket);
      });
    });
  }
}

const SOCKET_OPTIONS: Omit<SocketOptions, 'type'> & { readonly reusePort: boolean } = {
  reusePort: true,
  recvBufferSize: RECEIVE_BUFFER_BYTES,
  // Only addresses are sent to; a resolver in between would cost a turn of the event loop for each packet.
  lookup: (address, _options, callback) => callback(null, address, address.includes(':') ? 6 : 4),
};

function closeSlot(slot: Slot): void {
  clearTimeout(slot.retry);
  slot.socket?.removeAllListeners();
  slot.socket?.close();
  slot.socket = undefined;
}

/** The failure to bind UDP or TCP, with the neighbour that most likely has the port. */
export function bindFailure(ip: Ip, port: number, cause: unknown, protocol = 'UDP'): LbdError {
  const where = `${protocol} ${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const hint =
    code === 'EADDRINUSE'
      ? "; something else has it, such as MetalLB's speaker, whose members use port 7946 too: set gossip.port"
      : code === 'EADDRNOTAVAIL'
        ? '; this host has no such address: correct gossip.bind'
        : '';
  return new LbdError('gossip.bind-failed', `cannot listen on ${where}: ${errorText(cause)}${hint}`, {
    fields: { ip, port },
    cause,
  });
}
