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
/** One request in a batch, as measured with rtnetlink. */
const REQUEST_MS = 0.02;
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
  /** Not before this is the kernel's next answer: it does one batch after the other. */
  #busyUntil = 0;

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

  /** Carries out one batch, as rtnetlink does; `done` gets the answers. */
  program(
    requests: readonly Program[],
    deadline: Instant | undefined,
    done: (outcomes: readonly Outcome[]) => void,
  ): void {
    const { queue, clock } = this.#options;
    const startAt = Math.max(queue.now, this.#busyUntil);
    this.#busyUntil = startAt + BATCH_MS + REQUEST_MS * requests.length;
    queue.at(startAt + BATCH_MS / 2, () => {
      const isLate = deadline !== undefined && clock() > deadline;
      const present: KernelAddress[] = [];
      const gone: KernelAddress[] = [];
      const outcomes = requests.map((request): Outcome => {
        if (isLate) return { ok: false, request, errno: 'ETIME', message: 'too late' };
        return this.#apply(request, present, gone);
      });
      queue.at(this.#busyUntil, () => {
        done(outcomes);
        this.#options.notify(present, gone);
      });
    });
  }

  /** The host lost power. */
  clear(): void {
    const ips = [...this.#entries.keys()];
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
