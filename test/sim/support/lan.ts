import type { Random } from '../../../src/lib/prng.ts';
import type { EventQueue } from './event-queue.ts';

/** One switched segment: ports that may be dead, deaf or mute, groups that hear only themselves, loss and delay. */

export type PortId = number;

type Port = {
  up: boolean;
  /** Frames from the segment reach it. */
  hears: boolean;
  /** Its frames reach the segment. */
  speaks: boolean;
  /** Ports of other groups are not reached: a segment cut in two. */
  group: number;
};

export type LanSettings = {
  /** One way, milliseconds: `latencyMs` plus an exponential tail of `jitterMs`. */
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly loss: number;
  readonly duplication: number;
  /** How often a packet takes up to ten times as long, and is overtaken thereby. */
  readonly reordering: number;
};

export const QUIET_LAN: LanSettings = {
  latencyMs: 0.1,
  jitterMs: 0.05,
  loss: 0,
  duplication: 0.001,
  reordering: 0.001,
};

const RETRANSMIT_MS = 200;
const MAX_RETRANSMIT_MS = 3_200;

export class Lan {
  settings: LanSettings;
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #ports: Port[] = [];
  /** Pairs between which nothing of gossip passes, while frames do: `from * 65,536 + to`. */
  readonly #blocked = new Set<number>();
  /** Called after any change of who reaches whom. */
  onChange: (port: PortId | undefined) => void = () => {};

  constructor(queue: EventQueue, random: Random, settings: LanSettings = QUIET_LAN) {
    this.#queue = queue;
    this.#random = random;
    this.settings = settings;
  }

  addPort(): PortId {
    this.#ports.push({ up: true, hears: true, speaks: true, group: 0 });
    return this.#ports.length - 1;
  }

  setPort(id: PortId, change: Partial<Port>): void {
    Object.assign(this.#port(id), change);
    this.onChange(id);
  }

  /** Blocks gossip one way; frames still pass. */
  block(from: PortId, to: PortId): void {
    this.#blocked.add(from * 65_536 + to);
  }

  unblock(from: PortId, to: PortId): void {
    this.#blocked.delete(from * 65_536 + to);
  }

  /** Whether the port carries frames both ways. */
  isIntact(id: PortId): boolean {
    const { up, hears, speaks } = this.#port(id);
    return up && hears && speaks;
  }

  /** Whether both are on the same side of a cut. */
  areTogether(one: PortId, other: PortId): boolean {
    return this.#port(one).group === this.#port(other).group;
  }

  /** Whether a frame from one port reaches the other. */
  passes(from: PortId, to: PortId): boolean {
    const sender = this.#port(from);
    const receiver = this.#port(to);
    return sender.up && receiver.up && sender.speaks && receiver.hears && sender.group === receiver.group;
  }

  /** A datagram or unicast frame: delivered once, twice or never. */
  send(from: PortId, to: PortId, deliver: () => void, isGossip = true): void {
    const { loss, duplication } = this.settings;
    if (loss > 0 && this.#random() < loss) return;
    if (isGossip && this.#blocked.size > 0 && this.#blocked.has(from * 65_536 + to)) return;
    if (!this.passes(from, to)) return;
    this.#queue.in(this.#delay(), deliver);
    if (duplication > 0 && this.#random() < duplication) this.#queue.in(this.#delay(), deliver);
  }

  /** A frame to everybody; `deliver` is called once and asks `passes()` for each port itself. */
  broadcast(deliver: () => void): void {
    this.#queue.in(this.#delay(), deliver);
  }

  /** Whether this copy of a broadcast frame is lost on its way to one port. */
  losesCopy(): boolean {
    return this.settings.loss > 0 && this.#random() < this.settings.loss;
  }

  /**
   * A segment of a TCP connection: retransmitted until it arrives, for `timeoutMs`; then `fail` is called. `isOpen` says
   * whether both ends still care.
   */
  stream(
    from: PortId,
    to: PortId,
    deliver: () => void,
    options: { readonly fail?: () => void; readonly timeoutMs?: number } = {},
  ): void {
    const { fail, timeoutMs = 15_000 } = options;
    const startedAt = this.#queue.now;
    const attempt = (retransmitMs: number): void => {
      const lost = this.settings.loss > 0 && this.#random() < this.settings.loss * 2;
      const isBlocked =
        this.#blocked.size > 0 &&
        (this.#blocked.has(from * 65_536 + to) || this.#blocked.has(to * 65_536 + from));
      if (!lost && !isBlocked && this.passes(from, to) && this.passes(to, from)) {
        this.#queue.in(this.#delay(), deliver);
      } else if (this.#queue.now - startedAt > timeoutMs) fail?.();
      else this.#queue.in(retransmitMs, () => attempt(Math.min(MAX_RETRANSMIT_MS, 2 * retransmitMs)));
    };
    attempt(RETRANSMIT_MS);
  }

  #delay(): number {
    const { latencyMs, jitterMs, reordering } = this.settings;
    const delay = latencyMs - jitterMs * Math.log(1 - this.#random());
    if (reordering > 0 && this.#random() < reordering) return delay * (1 + 9 * this.#random());
    return delay;
  }

  #port(id: PortId): Port {
    const port = this.#ports[id];
    if (port === undefined) throw new Error(`there is no port ${id}`);
    return port;
  }
}
