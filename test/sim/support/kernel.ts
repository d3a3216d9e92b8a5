import type { Outcome, Program } from '../../../src/iface/local-types.ts';
import { type IfIndex, type KernelAddress, LBD_PROTOCOL } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import type { Random } from '../../../src/lib/prng.ts';
import { after, type Instant, NEVER } from '../../../src/lib/time.ts';
import type { EventQueue } from './event-queue.ts';

/**
 * Linux looks at all lifetimes at once, and that late at most (addrconf_verify and check_lifetime round up to a second).
 */
const EXPIRY_LATE_MS = 1_000;
/** One request in a batch, as measured with rtnetlink: 0.02 ms, and 0.2 ms beside 10,000 addresses. */
const REQUEST_MS = 0.02;
const BESIDE_EACH_MS = 0.000_018;
const BATCH_MS = 0.2;

export type KernelOptions = {
  readonly queue: EventQueue;
  readonly random: Random;
  /** The host's clock, and when it shows something in the time of the simulation. */
  readonly clock: () => Instant;
  readonly simTime: (at: Instant) => number;
  /** A machine that is paused removes nothing. */
  readonly isUp: () => boolean;
  readonly onChange: (ip: Ip) => void;
  /** A request is carried out now; `isKnown`: the address is there. */
  readonly onProgram: (request: Program, isKnown: boolean) => void;
  /** As rtnetlink's notifications. */
  readonly notify: (present: readonly KernelAddress[], gone: readonly KernelAddress[]) => void;
};

/** By the host's clock. */
type Entry = { readonly ifIndex: IfIndex; readonly validUntil: Instant };

/** The addresses of one host's NIC as its kernel has them, with lifetimes that end by themselves. */
export class SimKernel {
  readonly #options: KernelOptions;
  readonly #entries = new Map<Ip, Entry>();
  /** When it looks at the lifetimes next. */
  #lookAt: Instant = NEVER;
  /** What goes on when the machine does. */
  #frozen: (() => void)[] = [];
  #lives = 0;

  constructor(options: KernelOptions) {
    this.#options = options;
  }

  has(ip: Ip): boolean {
    return this.#entries.has(ip);
  }

  addresses(): Iterable<Ip> {
    return this.#entries.keys();
  }

  /** What a dump would tell. */
  dump(): KernelAddress[] {
    return [...this.#entries].map(([ip, entry]) => this.#shown(ip, entry));
  }

  /** Carries out one batch, one request after the other; `done` gets all answers when the last is done. */
  program(
    requests: readonly Program[],
    deadline: Instant | undefined,
    done: (outcomes: readonly Outcome[]) => void,
  ): void {
    const { clock } = this.#options;
    const present: KernelAddress[] = [];
    const gone: KernelAddress[] = [];
    const outcomes: Outcome[] = [];
    let isLate = false;
    const next = (): void => {
      const request = requests[outcomes.length];
      if (request === undefined) {
        done(outcomes);
        return this.#options.notify(present, gone);
      }
      outcomes.push(
        isLate
          ? { ok: false, request, errno: 'ETIME', message: 'too late' }
          : this.#apply(request, present, gone),
      );
      this.#later(isLate ? 0 : REQUEST_MS + BESIDE_EACH_MS * this.#entries.size, next);
    };
    this.#later(BATCH_MS, () => {
      isLate = deadline !== undefined && clock() > deadline;
      next();
    });
  }

  /** A paused machine goes on where it was; one that lost power does not. */
  #later(ms: number, task: () => void): void {
    const life = this.#lives;
    this.#options.queue.in(ms, () => {
      if (life !== this.#lives) return;
      if (this.#options.isUp()) task();
      else this.#frozen.push(task);
    });
  }

  /** The host lost power. */
  clear(): void {
    const ips = [...this.#entries.keys()];
    this.#lives += 1;
    this.#frozen = [];
    this.#entries.clear();
    for (const ip of ips) this.#options.onChange(ip);
  }

  #apply(request: Program, present: KernelAddress[], gone: KernelAddress[]): Outcome {
    const { op, ip, ifIndex, lifetimeMs } = request;
    const known = this.#entries.get(ip);
    this.#options.onProgram(request, known !== undefined);
    if (op === 'remove') {
      if (known === undefined) return { ok: false, request, errno: 'EADDRNOTAVAIL', message: 'not there' };
      this.#entries.delete(ip);
      gone.push(this.#shown(ip, known));
      this.#options.onChange(ip);
      return { ok: true, request };
    }
    if (op === 'add' && known !== undefined) {
      return { ok: false, request, errno: 'EEXIST', message: 'there already' };
    }
    const { clock } = this.#options;
    const validUntil = lifetimeMs === 0 ? NEVER : after(clock(), lifetimeMs);
    const entry = { ifIndex, validUntil };
    this.#entries.set(ip, entry);
    present.push(this.#shown(ip, entry));
    if (known === undefined) this.#options.onChange(ip);
    this.#lookAfter(validUntil);
    return { ok: true, request };
  }

  /** The machine goes on after a pause. */
  resumed(): void {
    this.#expire();
    for (const task of this.#frozen.splice(0)) task();
  }

  #lookAfter(validUntil: Instant): void {
    if (validUntil === NEVER) return;
    const { queue, random, simTime, isUp } = this.#options;
    const time = after(validUntil, random() * EXPIRY_LATE_MS);
    if (time >= this.#lookAt) return;
    this.#lookAt = time;
    queue.at(Math.max(queue.now, simTime(time)), () => {
      if (this.#lookAt === time && isUp()) this.#expire();
    });
  }

  #expire(): void {
    this.#lookAt = NEVER;
    const now = this.#options.clock();
    const gone: KernelAddress[] = [];
    let next: Instant = NEVER;
    for (const [ip, entry] of this.#entries) {
      // What is due within a microsecond is due: the two clocks round.
      if (entry.validUntil > now + 1e-3) next = entry.validUntil < next ? entry.validUntil : next;
      else {
        this.#entries.delete(ip);
        gone.push(this.#shown(ip, entry));
        this.#options.onChange(ip);
      }
    }
    this.#lookAfter(next);
    if (gone.length > 0) this.#options.notify([], gone);
  }

  #shown(ip: Ip, entry: Entry): KernelAddress {
    const seconds = Math.max(0, (entry.validUntil - this.#options.clock()) / 1_000);
    return {
      ifIndex: entry.ifIndex,
      ip,
      prefixLength: ip.includes(':') ? 128 : 32,
      scope: 0,
      flags: 0,
      protocol: LBD_PROTOCOL,
      preferredSeconds: seconds,
      validSeconds: seconds,
    };
  }
}
