import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { readSysctlNumber, sysctlPath, writeSysctl } from '../../sys/sysctl.ts';
import {
  ALL_INTERFACES,
  isAsExpected,
  planSysctls,
  type SysctlFinding,
  type SysctlPlace,
  type SysctlReading,
  type SysctlWrite,
  sysctlName,
} from '../sysctl-plan.ts';
import type { SysctlState } from '../types.ts';
import { SysctlWatch } from './sysctl-watch.ts';

/**
 * Keeps the ARP sysctls of the watched NICs as `sysctl-plan.ts` wants them. No notification of rtnetlink tells when they
 * change (RTM_NEWNETCONF covers forwarding and its like, not ARP); `SysctlWatch` hears of most writes, and for the others
 * the files are read once in a while: 0.5 ms for ten NICs. What was written is never taken back, see docs/architecture.md.
 */
const CHECK_INTERVAL_MS = 1_000;
/** A first write is looked at at once, more of them together: whoever fights over a value does not fill the day. */
const CHECK_SOON_INTERVAL_MS = 50;

export type SysctlGuardOptions = {
  readonly logger: Logger;
  /** What an earlier run of lbd found before it wrote, by `key`. */
  readonly before?: ReadonlyMap<string, string>;
  /** False: only tells how they are. */
  readonly enforce: boolean;
  /** `before()` has something new that should outlive this process. */
  readonly onBefore?: () => void;
  /** In place of /proc/sys, for tests. */
  readonly root?: string;
};

export class SysctlGuard {
  readonly #logger: Logger;
  readonly #onBefore: () => void;
  readonly #root: string | undefined;
  readonly #before: Map<string, string>;
  #enforce: boolean;
  /** Keys that were once as they should be in this run: another value after that is a drift. */
  #settled: ReadonlySet<string> = new Set();
  readonly #drifts = new Map<string, number>();
  readonly #writeErrors = new Map<string, string>();
  #interfaces: readonly string[] = [];
  #findings: readonly SysctlFinding[] = [];
  #timer: NodeJS.Timeout | undefined;
  readonly #watch: SysctlWatch;
  /** Of `checkSoon()`. */
  #checkLater: NodeJS.Timeout | undefined;
  #checkedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SysctlGuardOptions) {
    this.#logger = options.logger;
    this.#onBefore = options.onBefore ?? (() => {});
    this.#root = options.root;
    this.#enforce = options.enforce;
    this.#before = new Map(options.before);
    this.#watch = new SysctlWatch({ logger: options.logger, onWrite: () => this.checkSoon() });
  }

  /**
   * Puts the sysctls of these NICs, by name, right at once and keeps them so; those of others are left as they are.
   * Harmless, and nearly free, when they are watched already.
   */
  watch(interfaces: readonly string[]): void {
    const wanted = [...new Set(interfaces)].sort();
    if (wanted.join(' ') === this.#interfaces.join(' ')) return;
    this.#interfaces = wanted;
    clearInterval(this.#timer);
    this.check();
    if (wanted.length === 0) return;
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL_MS);
    this.#timer.unref();
  }

  /** As `check()`, for something that may come often: that somebody wrote to one of the files, or a link changed. */
  checkSoon(): void {
    if (this.#checkLater !== undefined) return;
    const pauseMs = this.#checkedAtMs + CHECK_SOON_INTERVAL_MS - performance.now();
    if (pauseMs <= 0) return this.check();
    this.#checkLater = setTimeout(() => this.check(), pauseMs).unref();
  }

  setEnforce(enforce: boolean): void {
    if (enforce === this.#enforce) return;
    this.#enforce = enforce;
    this.check();
  }

  /** Reads everything and writes what is wrong. */
  check(): void {
    clearTimeout(this.#checkLater);
    this.#checkLater = undefined;
    this.#checkedAtMs = performance.now();
    // First, so that nothing that is written from now on is missed.
    this.#watch.follow(this.#places().map((place) => sysctlPath({ family: 'ipv4', ...place }, this.#root)));
    const plan = this.#plan();
    const writes = this.#enforce ? plan.writes : [];
    for (const write of writes) this.#put(write);
    this.#findings = writes.length === 0 ? plan.findings : this.#plan().findings;
    this.#settle(new Set(writes.map(sysctlName)), this.#enforce ? [] : plan.writes);
  }

  #settle(written: ReadonlySet<string>, leftWrong: readonly SysctlWrite[]): void {
    for (const key of this.#writeErrors.keys()) if (!written.has(key)) this.#writeErrors.delete(key);
    // A NIC that went and comes back starts over with the kernel's default: no drift.
    const unreadable = this.#findings.filter((finding) => finding.effective === undefined);
    const unsettled = new Set([...unreadable, ...leftWrong].map(sysctlName));
    for (const key of this.#writeErrors.keys()) unsettled.add(key);
    const keys = this.#places().map(sysctlName);
    this.#settled = new Set(keys.filter((key) => !unsettled.has(key)));
  }

  /** What each value was before lbd first wrote it, by key, to be kept for the next run. */
  before(): ReadonlyMap<string, string> {
    return this.#before;
  }

  states(): readonly SysctlState[] {
    const rows = this.#findings.map((finding) => this.#state(finding));
    // A value that holds for all NICs has a row of its own once lbd had to touch it.
    for (const place of this.#places().filter((each) => each.interface === ALL_INTERFACES)) {
      const key = sysctlName(place);
      if (!this.#before.has(key) && !this.#writeErrors.has(key)) continue;
      const reading = this.#read(place);
      const effective = reading.kind === 'value' ? reading.value : undefined;
      const error = reading.kind === 'error' ? reading.text : undefined;
      rows.push(this.#state({ ...place, expected: 'at most 2', effective, error }));
    }
    return rows;
  }

  /** The values stay as they are: on a host with kube-ipvs0, to take them back would make duplicates. */
  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#checkLater);
    this.#watch.close();
  }

  #plan(): ReturnType<typeof planSysctls> {
    return planSysctls(this.#interfaces, (place) => this.#read(place));
  }

  #places(): readonly SysctlPlace[] {
    if (this.#interfaces.length === 0) return [];
    return [...this.#interfaces, ALL_INTERFACES].flatMap((name): SysctlPlace[] => [
      { interface: name, key: 'arp_ignore' },
      { interface: name, key: 'arp_announce' },
    ]);
  }

  #state(finding: SysctlFinding): SysctlState {
    const key = sysctlName(finding);
    return {
      interface: finding.interface,
      key,
      expected: finding.expected,
      current: finding.effective === undefined ? undefined : String(finding.effective),
      before: this.#before.get(key),
      drifts: this.#drifts.get(key) ?? 0,
      error: this.#writeErrors.get(key) ?? finding.error ?? this.#leftAlone(finding),
    };
  }

  #leftAlone(finding: SysctlFinding): string | undefined {
    if (this.#enforce || finding.interface === ALL_INTERFACES || isAsExpected(finding)) return undefined;
    const { effective, expected } = finding;
    const key = sysctlName(finding);
    return `${key} is in effect ${effective}, expected ${expected}: [arp] enforce_sysctls = false leaves it so`;
  }

  #read(place: SysctlPlace): SysctlReading {
    try {
      return { kind: 'value', value: readSysctlNumber({ family: 'ipv4', ...place }, this.#root) };
    } catch (thrown) {
      return { kind: 'error', text: errorText(thrown) };
    }
  }

  #put(write: SysctlWrite): void {
    const key = sysctlName(write);
    const found = this.#read(write);
    const was = found.kind === 'value' ? String(found.value) : undefined;
    try {
      writeSysctl({ family: 'ipv4', interface: write.interface, key: write.key }, write.value, this.#root);
    } catch (thrown) {
      const text = errorText(thrown);
      if (this.#writeErrors.get(key) !== text)
        this.#logger.error({ key, error: text }, 'sysctl.write-failed');
      this.#writeErrors.set(key, text);
      return;
    }
    this.#writeErrors.delete(key);
    if (this.#settled.has(key)) {
      const drifts = (this.#drifts.get(key) ?? 0) + 1;
      this.#drifts.set(key, drifts);
      this.#logger.warn({ key, was, now: write.value, drifts }, 'sysctl.drift');
    } else this.#logger.info({ key, was, now: write.value }, 'sysctl.written');
    if (was === undefined || this.#before.has(key)) return;
    this.#before.set(key, was);
    this.#onBefore();
  }
}
