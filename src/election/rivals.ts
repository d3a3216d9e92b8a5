import type { Mac } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import type { Effect } from './effects.ts';
import type { Ownership } from './ownership.ts';
import { Reannouncing } from './reannouncing.ts';
import type { Swim } from './swim.ts';
import type { Claim, LocalState, MemberName } from './types.ts';

/** Members that answer, or may have answered, for what this host owns: they are told, and clients hear who has it. */
export class Rivals {
  readonly #name: MemberName;
  readonly #swim: Swim;
  readonly #ownership: Ownership;
  readonly #out: Effect[];
  readonly #reannouncing = new Reannouncing();

  constructor(name: MemberName, swim: Swim, ownership: Ownership, out: Effect[]) {
    this.#name = name;
    this.#swim = swim;
    this.#ownership = ownership;
    this.#out = out;
  }

  /** What became of a grant: an address that was taken over had an owner who may be back. */
  localChanged(ip: Ip, state: LocalState): void {
    const entry = state === 'held' ? this.#ownership.grants().get(ip)?.entry : undefined;
    if (entry?.kind === 'take-over') this.#reannouncing.tookOver(ip, entry.predecessor.name);
  }

  /** Who believed to own what this host owns, as after a network that was cut in two, may have answered for it. */
  claimed(claims: readonly Claim[], from: MemberName, now: Instant): void {
    const lost = claims.flatMap(({ ip }) => (this.#ownership.isLeftOver(ip) ? [ip] : []));
    if (lost.length > 0) this.#out.push({ kind: 'withdraw', ips: lost });
    for (const { ip, owner } of claims) {
      if (owner === from && this.#isMine(ip)) this.#reannouncing.heard(ip, now);
    }
  }

  /** Of two members the claims decide: the one that is wrong is told, and lets go. */
  heardOnWire(ip: Ip, mac: Mac, now: Instant): void {
    for (const { name, meta } of this.#swim.members().values()) {
      if (!meta.segments.some((segment) => segment.mac === mac)) continue;
      this.#ownership.rivalHeard(ip, name, now);
      this.#reannouncing.heard(ip, now);
      return;
    }
  }

  /** A member is there again. */
  isBack(name: MemberName, now: Instant): void {
    this.#reannouncing.isBack(name, now);
  }

  advance(now: Instant): void {
    const announced = this.#reannouncing.take(now).filter((ip) => this.#isMine(ip));
    if (announced.length > 0) this.#out.push({ kind: 'announce', ips: announced });
  }

  deadline(): Instant {
    return this.#reannouncing.deadline();
  }

  #isMine(ip: Ip): boolean {
    return this.#ownership.claims().get(ip)?.owner === this.#name;
  }
}
