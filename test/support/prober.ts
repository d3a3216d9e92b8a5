import { fileURLToPath } from 'node:url';
import { LbdError } from '../../src/lib/errors.ts';
import type { LabHost } from './lab-host.ts';
import { favoured, type LabProcess } from './lab-process.ts';
import { SOURCE_ENVIRONMENT } from './lab-source.ts';
import { labTimeMs } from './lab-time.ts';
import { firstOfFamily, linkLocal } from './lab-topology.ts';
import {
  type Answer,
  type Duplicates,
  duplicates,
  type Gap,
  longestGap,
  type Tenure,
  type TimeWindow,
  tenures,
} from './prober-log.ts';
import { waitFor, within } from './wait.ts';

/**
 * The instrument for gaps and duplicates: asks on the wire who has an address (ARP, or neighbour solicitations for
 * v6) every few milliseconds from a host of the lab, and keeps who answered when. All times are `labTimeMs`.
 *
 *   await using prober = await Prober.start(lab.host('client'), { addresses: ['10.77.0.200'] });
 *   const { mac, atMs } = await prober.firstAnswer('10.77.0.200');
 */

export type ProberOptions = {
  readonly addresses: readonly string[];
  /** Default 10; 1 is the least. */
  readonly intervalMs?: number;
  /** Default eth0. */
  readonly nic?: string;
};

/** What the agent is told. */
export type ProberTask = {
  readonly nic: string;
  readonly mac: string;
  readonly sources: { readonly v4: string | undefined; readonly v6: string | undefined };
  readonly addresses: readonly string[];
  readonly intervalMs: number;
};

export type SeenKind =
  /** Gratuitous ARP in its request form and in its reply form. */
  | 'arp-announcement'
  | 'arp-announcement-reply'
  /** Sender 0.0.0.0: is the address free? */
  | 'arp-probe'
  | 'arp-request'
  /** From ::, the same question of v6. */
  | 'ns-probe'
  | 'ns-request'
  | 'na-unsolicited';

/** Something that went by without being asked for. `ip` is what it is about, `mac` who sent it. */
export type Seen = {
  readonly atMs: number;
  readonly kind: SeenKind;
  readonly ip: string;
  readonly mac: string;
};

export type ProberReport =
  | { readonly kind: 'started'; readonly atMs: number }
  | {
      readonly kind: 'answers';
      readonly list: readonly (readonly [
        atMs: number,
        ip: string,
        mac: string,
        probe: number,
        sentAtMs: number,
      ])[];
    }
  | {
      readonly kind: 'seen';
      readonly list: readonly (readonly [atMs: number, kind: SeenKind, ip: string, mac: string])[];
    }
  /** The prober itself was kept from asking in this time. */
  | { readonly kind: 'late'; readonly fromMs: number; readonly toMs: number }
  | { readonly kind: 'error'; readonly text: string };

export type AnswerWait = {
  /** Only answers from then on count; default: all. */
  readonly sinceMs?: number;
  /** Only answers of this MAC count. */
  readonly mac?: string;
  /** Answers of this one do not. */
  readonly notOf?: string;
  /** Default 10 s. */
  readonly timeoutMs?: number;
};

const AGENT = fileURLToPath(new URL('prober-agent.ts', import.meta.url));
const START_TIMEOUT_MS = 10_000;
const WAIT_TIMEOUT_MS = 10_000;
/** A MAC that misses this many questions, and at least this long, has stopped answering. */
const PAUSE_PROBES = 5;
const LEAST_PAUSE_MS = 20;

export class Prober {
  readonly intervalMs: number;
  readonly #agent: LabProcess;
  readonly #answers = new Map<string, Answer[]>();
  readonly #seen: Seen[] = [];
  readonly #late: Gap[] = [];
  readonly #errors: string[] = [];
  readonly #listeners = new Set<(ip: string, answer: Answer) => void>();

  private constructor(agent: LabProcess, intervalMs: number) {
    this.#agent = agent;
    this.intervalMs = intervalMs;
    agent.onLine((line, stream) => {
      if (stream === 'stdout') this.#take(JSON.parse(line));
    });
  }

  /** Resolves when the first questions are on the wire. */
  static async start(host: LabHost, options: ProberOptions): Promise<Prober> {
    const nic = host.nic(options.nic ?? 'eth0');
    const task: ProberTask = {
      nic: nic.name,
      mac: nic.mac,
      sources: {
        v4: firstOfFamily(nic.addresses, 'v4'),
        v6: firstOfFamily(nic.addresses, 'v6') ?? linkLocal(nic.mac),
      },
      addresses: options.addresses,
      intervalMs: options.intervalMs ?? 10,
    };
    // Above others, or a busy machine makes gaps that nobody else sees.
    const agent = await host.spawn(favoured([process.execPath, AGENT, JSON.stringify(task)]), {
      env: SOURCE_ENVIRONMENT,
    });
    const prober = new Prober(agent, task.intervalMs);
    await agent.waitForLine(/"started"/, { timeoutMs: START_TIMEOUT_MS });
    return prober;
  }

  /** Asks for these as well, from now on. */
  add(addresses: readonly string[]): void {
    this.#agent.write(`${JSON.stringify(addresses)}\n`);
  }

  /** All answers so far for an address, in the order of their time. */
  answers(ip: string): readonly Answer[] {
    return this.#answers.get(ip) ?? [];
  }

  /** The first answer, come or to come, since `sinceMs`. */
  async firstAnswer(ip: string, options: AnswerWait = {}): Promise<Answer> {
    const counts = (answer: Answer) =>
      answer.atMs >= (options.sinceMs ?? 0) &&
      answer.mac !== options.notOf &&
      (options.mac === undefined || answer.mac === options.mac);
    const known = this.answers(ip).find(counts);
    if (known !== undefined) return known;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    const listener = (from: string, answer: Answer) => {
      if (from === ip && counts(answer)) resolve(answer);
    };
    this.#listeners.add(listener);
    try {
      const who = options.mac === undefined ? '' : ` of ${options.mac}`;
      return await within(
        promise,
        options.timeoutMs ?? WAIT_TIMEOUT_MS,
        () => `an answer${who} for ${ip}; so far: ${JSON.stringify(this.macs(ip))} ${this.#complaints()}`,
      );
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Waits until nobody has answered for `quietMs`; resolves with the time of the last answer, or undefined. */
  async silence(
    ip: string,
    options: { readonly quietMs?: number; readonly timeoutMs?: number } = {},
  ): Promise<number | undefined> {
    const quietMs = options.quietMs ?? this.#pauseMs;
    const startedAtMs = labTimeMs();
    await waitFor(() => labTimeMs() - Math.max(this.answers(ip).at(-1)?.atMs ?? 0, startedAtMs) > quietMs, {
      timeoutMs: options.timeoutMs ?? WAIT_TIMEOUT_MS,
      describe: `${quietMs} ms without an answer for ${ip}`,
    });
    return this.answers(ip).at(-1)?.atMs;
  }

  /** The longest time between answers; undefined when there are none to measure between. */
  longestGap(ip: string, window?: TimeWindow): Gap | undefined {
    return longestGap(this.answers(ip), window);
  }

  /** Who answered for the address, from when to when. */
  macs(ip: string): readonly Tenure[] {
    return tenures(this.answers(ip), this.#pauseMs);
  }

  /** How often, and for how long, two hosts answered for the address at once. */
  duplicates(ip: string): Duplicates {
    return duplicates(this.answers(ip), this.#pauseMs);
  }

  /** What went by unasked: announcements, probes and requests of others, about one address or all. */
  seen(ip?: string, kind?: SeenKind): readonly Seen[] {
    return this.#seen.filter(
      (entry) => (ip === undefined || entry.ip === ip) && (kind === undefined || entry.kind === kind),
    );
  }

  /** Times in which the prober itself was late with its questions: gaps there are nobody else's. */
  get late(): readonly Gap[] {
    return this.#late;
  }

  async stop(): Promise<void> {
    await this.#agent.stop('SIGKILL');
    if (this.#errors.length > 0) throw new LbdError('lab.prober', this.#complaints());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.stop('SIGKILL');
  }

  get #pauseMs(): number {
    return Math.max(PAUSE_PROBES * this.intervalMs, LEAST_PAUSE_MS);
  }

  #complaints(): string {
    return `${this.#errors.slice(0, 5).join('; ')} ${this.#agent.stderr.trim()}`;
  }

  #take(report: ProberReport): void {
    switch (report.kind) {
      case 'started':
        break;
      case 'answers':
        for (const [atMs, ip, mac, probe, sentAtMs] of report.list) {
          this.#takeAnswer(ip, { atMs, mac, probe, sentAtMs });
        }
        break;
      case 'seen':
        for (const [atMs, kind, ip, mac] of report.list) this.#seen.push({ atMs, kind, ip, mac });
        break;
      case 'late':
        this.#late.push({ ms: report.toMs - report.fromMs, fromMs: report.fromMs, toMs: report.toMs });
        break;
      case 'error':
        this.#errors.push(report.text);
        break;
      default:
        report satisfies never;
    }
  }

  #takeAnswer(ip: string, answer: Answer): void {
    const known = this.#answers.get(ip) ?? [];
    known.push(answer);
    this.#answers.set(ip, known);
    for (const listener of this.#listeners) listener(ip, answer);
  }
}
