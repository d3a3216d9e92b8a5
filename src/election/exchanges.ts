import type { Random } from '../lib/prng.ts';
import { after, earliest, type Instant, instant, NEVER } from '../lib/time.ts';
import type { Effect } from './effects.ts';
import type { MemberTable } from './member-table.ts';
import { Pace } from './pace.ts';
import { Seeds } from './seeds.ts';
import type { ElectionSettings } from './settings.ts';
import type { Endpoint } from './types.ts';

/** After bulk news, or when one of several dead turns out to live, everybody is looked for eagerly for so long. */
const EAGER_MS = 3_000;
const EAGER_PUSH_PULL_MS = 1_000;
/** Up to so many members, states are exchanged every `pushPullMs`; each doubling adds that much again. */
const PUSH_PULL_SCALE_FROM = 32;
/** What something unexpected asks for: with each member once in so long, and so many a second. */
const EXCHANGE_PAUSE_MS = 1_000;
const EXCHANGES_PER_S = 4;

/** With whom whole states are exchanged, and when: seeds, somebody now and then, and whoever knows what we missed. */
export class Exchanges {
  readonly #settings: ElectionSettings;
  readonly #table: MemberTable;
  readonly #random: Random;
  readonly #out: Effect[];
  readonly #seeds: Seeds;
  readonly #pace = new Pace<string>(EXCHANGE_PAUSE_MS, EXCHANGES_PER_S);
  #nextAt: Instant = NEVER;
  #eagerUntil: Instant = instant(Number.NEGATIVE_INFINITY);
  #stopped = false;

  constructor(settings: ElectionSettings, table: MemberTable, random: Random, out: Effect[]) {
    this.#settings = settings;
    this.#table = table;
    this.#random = random;
    this.#out = out;
    this.#seeds = new Seeds(random);
  }

  seeds(endpoints: readonly Endpoint[], now: Instant): void {
    if (!this.#stopped) this.#seeds.replace(endpoints, now);
  }

  stop(): void {
    this.#stopped = true;
    this.#seeds.stop();
    this.#nextAt = NEVER;
  }

  /** At once, but not for everything that asks for it. */
  ask(endpoint: Endpoint, now: Instant): void {
    if (!this.#stopped && this.#pace.allows(endpointKey(endpoint), now)) this.with(endpoint);
  }

  with(endpoint: Endpoint): void {
    this.#out.push({ kind: 'exchange', with: endpoint });
  }

  isEager(now: Instant): boolean {
    return now < this.#eagerUntil;
  }

  beEager(now: Instant): void {
    this.#eagerUntil = after(now, EAGER_MS);
    if (!this.#stopped) this.#nextAt = earliest(this.#nextAt, after(now, this.#pauseMs(now)));
  }

  /** There may be somebody to exchange states with now. */
  wake(now: Instant): void {
    if (this.#nextAt === NEVER && this.#table.hereCount > 0 && !this.#stopped) {
      this.#nextAt = after(now, this.#pauseMs(now));
    }
  }

  deadline(): Instant {
    return earliest(this.#seeds.deadline(), this.#nextAt);
  }

  advance(now: Instant): void {
    if (now >= this.#seeds.deadline()) this.#askSeeds(now);
    if (now < this.#nextAt) return;
    this.#nextAt = NEVER;
    const [target] = this.#table.sampleAlive(1, undefined);
    if (target !== undefined) this.with(target.meta.endpoint);
    this.wake(now);
  }

  #askSeeds(now: Instant): void {
    const members = new Set<string>();
    for (const { state, meta } of this.#table.all.values()) {
      if (state === 'alive') members.add(endpointKey(meta.endpoint));
    }
    const alone = members.size <= 1;
    for (const endpoint of this.#seeds.take(now, alone, (seed) => members.has(endpointKey(seed)))) {
      this.with(endpoint);
    }
  }

  #pauseMs(now: Instant): number {
    if (this.isEager(now)) return EAGER_PUSH_PULL_MS * (0.5 + this.#random());
    const scale = Math.max(1, 1 + Math.ceil(Math.log2(this.#table.hereCount / PUSH_PULL_SCALE_FROM)));
    return this.#settings.pushPullMs * scale * (0.75 + this.#random() / 2);
  }
}

function endpointKey({ ip, port }: Endpoint): string {
  return `${ip} ${port}`;
}
