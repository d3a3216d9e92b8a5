import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { IfIndex, Link } from './types.ts';

/**
 * What to believe of links that flap. The first turns of a link, up or down, count at once, because a take-over may depend
 * on it. After that, as long as it turns so often, another one counts only when it has lasted: between two turns nothing
 * useful can be done to thousands of addresses, and all of it would have to be undone by the next.
 *
 *   steady ──the fifth turn within a second──► flapping ──30 ms without a turn──► steady
 *
 * Bounded by the links of the host. Mutable, owned by the driver of local addresses.
 */

export const FLAPPING_TURNS = 5;
export const FLAPPING_WITHIN_MS = 1_000;
/** A third of what may pass until the addresses are right after the last turn. */
export const STEADY_AFTER_MS = 30;

const IFF_UP = 0x1;
const IFF_LOWER_UP = 0x10000;

/** Administratively up and with carrier. */
export function isLinkUp({ flags }: Pick<Link, 'flags'>): boolean {
  return (flags & IFF_UP) !== 0 && (flags & IFF_LOWER_UP) !== 0;
}

type Turning = {
  isUp: boolean;
  /** What is gone by. */
  believedUp: boolean;
  /** When it was last believed to be up, and it then turned. */
  upUntil: Instant;
  /** The last ones, at most FLAPPING_TURNS. */
  turnedAt: readonly Instant[];
  isFlapping: boolean;
};

export class LinkDamping {
  readonly #links = new Map<IfIndex, Turning>();

  /**
   * The link has turned `turns` times and is now as it is. Returns whether it is steady and up as before, so that nothing
   * but this tells that it was down.
   */
  turned(link: Link, turns: number, now: Instant): boolean {
    const isUp = isLinkUp(link);
    const known = this.#links.get(link.index);
    const believedUp = known?.believedUp ?? isUp === (turns % 2 === 0);
    const more = Array.from({ length: Math.min(turns, FLAPPING_TURNS) }, () => now);
    const turnedAt = [...(known?.turnedAt ?? []), ...more].slice(-FLAPPING_TURNS);
    const since = turnedAt.length < FLAPPING_TURNS ? undefined : turnedAt[0];
    const isFlapping = since !== undefined && now < after(since, FLAPPING_WITHIN_MS);
    const upUntil = believedUp ? now : (known?.upUntil ?? (Number.NEGATIVE_INFINITY as Instant));
    // One that was up before is taken for up meanwhile, also when the turn before this one was believed: what is on it stays.
    const wasUp = now < after(upUntil, FLAPPING_WITHIN_MS);
    const damped = isFlapping && (known?.isFlapping === true ? believedUp : wasUp);
    this.#links.set(link.index, {
      isUp,
      believedUp: isFlapping ? damped : isUp,
      upUntil,
      turnedAt,
      isFlapping,
    });
    return !isFlapping && isUp && believedUp;
  }

  /** Ends the flapping of those that have not turned for a while; returns which of them are up, as was believed all the time. */
  takeSteady(now: Instant): readonly IfIndex[] {
    const bounced: IfIndex[] = [];
    for (const [ifIndex, link] of this.#links) {
      if (!link.isFlapping || now < steadyAt(link)) continue;
      link.isFlapping = false;
      if (link.isUp && link.believedUp) bounced.push(ifIndex);
      link.believedUp = link.isUp;
    }
    return bounced;
  }

  isFlapping(): boolean {
    for (const link of this.#links.values()) if (link.isFlapping) return true;
    return false;
  }

  /** When `takeSteady()` has something next, if nothing turns. */
  deadline(): Instant {
    let first: Instant = NEVER;
    for (const link of this.#links.values()) if (link.isFlapping) first = earliest(first, steadyAt(link));
    return first;
  }

  /** The links as they are to be taken; one that is not there is forgotten. */
  believed(links: ReadonlyMap<IfIndex, Link>): Iterable<Link> {
    for (const ifIndex of this.#links.keys()) if (!links.has(ifIndex)) this.#links.delete(ifIndex);
    if (this.#links.size === 0) return links.values();
    return [...links.values()].map((link) => {
      const turning = this.#links.get(link.index);
      if (turning?.isFlapping !== true || turning.believedUp === isLinkUp(link)) return link;
      const { flags } = link;
      return { ...link, flags: turning.believedUp ? flags | IFF_UP | IFF_LOWER_UP : flags & ~IFF_LOWER_UP };
    });
  }
}

function steadyAt({ turnedAt }: Turning): Instant {
  const last = turnedAt.at(-1);
  return last === undefined ? NEVER : after(last, STEADY_AFTER_MS);
}
