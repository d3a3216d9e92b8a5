import { after, earliest, type Instant, NEVER } from '../../lib/time.ts';
import { bootTimeMs } from '../../sys/clock.ts';
import { LinkDamping } from '../link-damping.ts';
import type { ObservedChanges } from '../observed.ts';
import type { IfIndex, Link } from '../types.ts';

/** While a link flaps, its host is looked at so often: each turn changes addresses and routes as well. */
const LOOK_INTERVAL_MS = 50;
/** A timer may fire up to 1 ms early by its own rounding. */
const TIMER_ROUNDING_MS = 1;

/** The links of the host as they are to be taken; see `link-damping.ts`. Owns its timer and nothing else. */
export class SteadyLinks {
  readonly #damping = new LinkDamping();
  readonly #onLook: (bounced: readonly IfIndex[]) => void;
  #timer: NodeJS.Timeout | undefined;
  #lookedAt: Instant | undefined;
  #isLookDue = false;

  /** `onLook`: the host is to be looked at, and these links stopped flapping that were taken for up all the time. */
  constructor(onLook: (bounced: readonly IfIndex[]) => void) {
    this.#onLook = onLook;
  }

  /** Whether the host is to be looked at now that something changed; where not, `onLook` comes. */
  mayLook(): boolean {
    const now = bootTimeMs();
    const isSoon = this.#lookedAt !== undefined && now < after(this.#lookedAt, LOOK_INTERVAL_MS);
    if (isSoon && this.#damping.isFlapping()) {
      this.#isLookDue = true;
      this.#arm();
      return false;
    }
    this.#lookedAt = now;
    this.#isLookDue = false;
    return true;
  }

  /** Returns which links were down for a moment and are up as before. */
  turned(turns: ObservedChanges['linkTurns'], links: ReadonlyMap<IfIndex, Link>): readonly IfIndex[] {
    const bounced = [...(turns ?? [])].flatMap(([ifIndex, count]) => {
      const link = links.get(ifIndex);
      return link !== undefined && this.#damping.turned(link, count, bootTimeMs()) ? [ifIndex] : [];
    });
    this.#arm();
    return bounced;
  }

  believed(links: ReadonlyMap<IfIndex, Link>): Iterable<Link> {
    return this.#damping.believed(links);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    if (this.#timer !== undefined) return;
    const lookAt =
      this.#isLookDue && this.#lookedAt !== undefined ? after(this.#lookedAt, LOOK_INTERVAL_MS) : NEVER;
    const deadline = earliest(this.#damping.deadline(), lookAt);
    if (deadline === NEVER) return;
    const pauseMs = Math.max(0, deadline - bootTimeMs()) + TIMER_ROUNDING_MS;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#fired(bootTimeMs());
      this.#arm();
    }, pauseMs);
  }

  #fired(now: Instant): void {
    const isSteady = this.#damping.deadline() <= now;
    const bounced = isSteady ? this.#damping.takeSteady(now) : [];
    const isLookDue =
      this.#isLookDue && this.#lookedAt !== undefined && now >= after(this.#lookedAt, LOOK_INTERVAL_MS);
    if (!isSteady && !isLookDue) return;
    this.#lookedAt = now;
    this.#isLookDue = false;
    this.#onLook(bounced);
  }
}
