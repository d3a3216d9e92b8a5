import { type Ip, prefixContains } from '../lib/ip.ts';
import { after, type Instant } from '../lib/time.ts';
import type { TokenBucket } from '../lib/token-bucket.ts';
import type { Alarms } from './alarms.ts';
import type { Announcement, Announcing } from './announcing.ts';
import type { Entries } from './entries.ts';
import type { KernelRequests } from './kernel-requests.ts';
import {
  adoptedRenewal,
  lifetimeFor,
  newlyHeld,
  nextRenewal,
  renewDeadline,
  renewRetryMs,
} from './lifetime.ts';
import type { Announced, Held, Outcome, Report, Target } from './local-types.ts';
import { isSecondary } from './placement.ts';
import type { ProbeFrame } from './probing.ts';
import { Renewals } from './renewals.ts';
import { hearMember, hearRival } from './rivals.ts';
import type { IfIndex, Mac } from './types.ts';
import { countDone, countRepair, upkeepOf } from './upkeep.ts';
import { type Scope, WireChecks } from './wire-checks.ts';

export type HeldAddressesParts = {
  readonly entries: Entries;
  readonly kernel: KernelRequests;
  readonly announcing: Announcing;
  /** When to look at an address again. */
  readonly wakeAt: Alarms<Ip>;
  /** What all questions of the host may put on the wire. */
  readonly probeBudget: TokenBucket;
  readonly report: (report: Report) => void;
  /** Its lifetime ran out, or nearly. */
  readonly lost: (ip: Ip, entry: Held, now: Instant) => void;
};

/** What is done for the addresses that this host holds: renewed, repaired, announced again, defended. */
export class HeldAddresses {
  readonly #parts: HeldAddressesParts;
  readonly renewals = new Renewals();
  readonly #checks: WireChecks;
  /** All v6 addresses of the host, whose number makes a renewal dear. */
  v6OfHost = 0;
  #configuredMs: number;
  #lifetimeMs: number;
  /** Not announced when it was due, because the host might not be the owner any more. */
  readonly #owed = new Set<Ip>();

  constructor(parts: HeldAddressesParts, configuredMs: number) {
    this.#parts = parts;
    this.#checks = new WireChecks(parts.probeBudget);
    this.#configuredMs = configuredMs;
    this.#lifetimeMs = configuredMs;
  }

  /** Kernel lifetime of each address; 0 is permanent. It grows at once with their number, and shrinks when all are renewed. */
  get lifetimeMs(): number {
    this.#lifetimeMs = Math.max(this.#lifetimeMs, this.#neededMs());
    return this.#lifetimeMs;
  }

  /** How long some address of ours stays in the kernel unless renewed: 0 when none is there, undefined for ever. */
  leaseLeftMs(now: Instant): number | undefined {
    return this.#parts.entries.heldCount === 0 ? 0 : this.renewals.leaseLeftMs(now);
  }

  /** When the last renewal or addition that the kernel confirmed was asked for. */
  get lastRenewedAt(): Instant | undefined {
    return this.renewals.lastRenewedAt;
  }

  configure(configuredMs: number): void {
    this.#configuredMs = configuredMs;
    this.#lifetimeMs = this.#neededMs();
  }

  #neededMs(): number {
    const { heldCount, heldV6Count: v6 } = this.#parts.entries;
    return lifetimeFor(this.#configuredMs, {
      v4: heldCount - v6,
      v6,
      v6OfHost: Math.max(v6, this.v6OfHost),
    });
  }

  /** Whether one that is held may be renewed and announced now: as a peer confirmed, and as the wire did. */
  mayRenew(ip: Ip, { target: { ifIndex }, since }: Held): boolean {
    return this.renewals.isAllowed(ifIndex, ip) && !this.#checks.covers(ifIndex, ip, since);
  }

  /** Returns whether more is allowed than until now; what is held there is renewed when the wire was asked. */
  allow(allowed: boolean, scope: Scope, now: Instant): boolean {
    if (!this.renewals.allow(allowed, scope.ifIndex, scope.subnet)) return false;
    if (!allowed) this.#checks.interrupt(scope);
    else this.#checks.begin(scope, this.#heldIn(scope), now);
    return allowed;
  }

  /** What the wire is asked about addresses that are held; what it has confirmed is looked at again. */
  checkWire(now: Instant): readonly ProbeFrame[] {
    const { entries, wakeAt } = this.#parts;
    const { frames, ended } = this.#checks.advance(now);
    for (const scope of ended) for (const { ip } of this.#heldIn(scope)) wakeAt.set(ip, now);
    if (ended.length > 0) {
      this.#announceOwed(now);
      if (entries.heldCount > 0) this.renewals.by(now);
    }
    return frames.filter(({ ip }) => entries.get(ip)?.status === 'held');
  }

  get checkedAt(): Instant {
    return this.#checks.deadline();
  }

  /** Probes for these did not leave. */
  unsent(ips: readonly Ip[], now: Instant): void {
    this.#checks.unsent(ips, now);
  }

  #heldIn({ ifIndex, subnet }: Scope): readonly { readonly ip: Ip; readonly ifIndex: IfIndex }[] {
    return [...this.#parts.entries.all].flatMap(([ip, entry]) => {
      if (entry.status !== 'held' || entry.aside !== undefined) return [];
      if (ifIndex !== undefined && entry.target.ifIndex !== ifIndex) return [];
      return subnet === undefined || prefixContains(subnet, ip)
        ? [{ ip, ifIndex: entry.target.ifIndex }]
        : [];
    });
  }

  /** The kernel has `ip` from now on, or had it before lbd started. */
  begin(ip: Ip, target: Target, validUntil: Instant, now: Instant, how: 'taken' | 'adopted'): void {
    const { entries, announcing, report } = this.#parts;
    const { ifIndex } = target;
    entries.set(ip, newlyHeld(target, validUntil, now));
    this.renewals.found(validUntil);
    if (how === 'taken') announcing.start(ip, ifIndex, now);
    else announcing.once(ip, ifIndex, now);
    report({ kind: 'held', ip, ifIndex, how });
    const { lifetimeMs } = this;
    const due =
      how === 'adopted' ? adoptedRenewal(now, validUntil, lifetimeMs) : nextRenewal(now, lifetimeMs);
    this.renewals.by(due);
  }

  /** Looks at one address, given what the kernel has of it. */
  keep(ip: Ip, entry: Held, now: Instant): void {
    const { kernel, announcing, wakeAt, report, lost } = this.#parts;
    const { target } = entry;
    const present = kernel.get(ip, target);
    const upkeep = upkeepOf(entry, present, isSecondary(ip, target), this.lifetimeMs, now);
    if (upkeep.kind === 'nothing') return;
    if (upkeep.kind === 'lost') return lost(ip, entry, now);
    if (upkeep.kind === 'wait') return wakeAt.set(ip, upkeep.until);
    // It is looked at again when it is allowed.
    if (!this.mayRenew(ip, entry)) return;
    if (upkeep.kind === 'renew') {
      kernel.appeared({ ip, ...target, validUntil: entry.validUntil });
      return kernel.create('renew', ip, target, this.lifetimeMs, renewDeadline(entry));
    }
    countRepair(entry, now);
    const { repairs } = entry;
    if (upkeep.kind === 'restore') {
      if (present?.isUnrouted === true) {
        kernel.remove(ip, target);
        kernel.create('add', ip, target, this.lifetimeMs, renewDeadline(entry));
        return report({ kind: 'repaired', ip, ifIndex: target.ifIndex, was: 'changed', repairs });
      }
      kernel.appeared({ ip, ...target, validUntil: entry.validUntil });
      kernel.create('renew', ip, target, this.lifetimeMs, renewDeadline(entry));
      return report({ kind: 'repaired', ip, ifIndex: target.ifIndex, was: 'changed', repairs });
    }
    kernel.create('add', ip, target, this.lifetimeMs, renewDeadline(entry));
    announcing.start(ip, target.ifIndex, now);
    report({ kind: 'repaired', ip, ifIndex: target.ifIndex, was: 'removed', repairs });
  }

  /** The host's own address is back, for which it was taken off: it goes on where it was. */
  resume(ip: Ip, entry: Held, now: Instant): void {
    const { kernel, announcing, lost } = this.#parts;
    const { target } = entry;
    entry.aside = undefined;
    entry.missingSince = undefined;
    if (now >= renewDeadline(entry)) return lost(ip, entry, now);
    if (!this.mayRenew(ip, entry)) return;
    kernel.create('add', ip, target, this.lifetimeMs, renewDeadline(entry));
    announcing.start(ip, target.ifIndex, now);
  }

  /** Renews all in one batch, as far as that is allowed, and gives up what is too late. */
  renewAll(now: Instant): void {
    const { entries, kernel, lost } = this.#parts;
    this.renewals.forgetLease();
    this.#lifetimeMs = this.#neededMs();
    for (const [ip, entry] of entries.all) {
      if (entry.status !== 'held' || entry.aside !== undefined) continue;
      const deadline = renewDeadline(entry);
      if (now >= deadline) lost(ip, entry, now);
      else {
        this.renewals.found(entry.validUntil);
        if (this.mayRenew(ip, entry)) kernel.create('renew', ip, entry.target, this.lifetimeMs, deadline);
      }
    }
    this.renewals.done(now, this.lifetimeMs, entries.heldCount > 0);
  }

  /** The kernel renewed or repaired one, for a lifetime that counts from `sentAt`. */
  renewed(entry: Held, validUntil: Instant, sentAt: Instant, now: Instant): void {
    countDone(entry, now);
    entry.validUntil = validUntil;
    entry.renewedAt = sentAt;
    entry.failure = undefined;
  }

  /** The kernel did not. */
  notRenewed(ip: Ip, entry: Held, outcome: Extract<Outcome, { ok: false }>, now: Instant): void {
    const { wakeAt, report, lost } = this.#parts;
    if (now >= renewDeadline(entry)) return lost(ip, entry, now);
    // A repair that met an address: the notification on its way says whose it is.
    if (outcome.errno === 'EEXIST') return;
    wakeAt.set(ip, after(now, renewRetryMs(this.lifetimeMs)));
    if (entry.failure !== outcome.message && outcome.errno !== 'ETIME') {
      report({ kind: 'renew-failed', ip, ifIndex: entry.target.ifIndex, reason: outcome.message });
    }
    entry.failure = outcome.message;
  }

  /**
   * Somebody else says that he has it. Between members the claims decide: it may be on its way to that one, or it is his
   * since this host was cut off, and whoever is told by the election that it is his after all announces it then.
   */
  rivalHeard(
    ip: Ip,
    entry: Held,
    rival: { readonly mac: Mac; readonly isMember: boolean },
    now: Instant,
  ): void {
    const { ifIndex } = entry.target;
    const { mac, isMember } = rival;
    const { announcing } = this.#parts;
    if (isMember) {
      announcing.quiet(ip);
      this.#checks.memberHeard(ifIndex, ip, now);
      if (hearMember(entry, mac, now)) this.#parts.report({ kind: 'rival-heard', ip, mac, ifIndex });
      return;
    }
    if (!this.renewals.isAllowed(ifIndex, ip)) return;
    const { defend, report } = hearRival(entry, mac, now);
    if (report) this.#parts.report({ kind: 'rival-heard', ip, mac, ifIndex });
    if (defend) announcing.once(ip, ifIndex, now);
  }

  announce(ips: readonly Ip[], now: Instant): void {
    const { entries, announcing } = this.#parts;
    for (const ip of ips) {
      const entry = entries.get(ip);
      if (entry?.status === 'held') announcing.again(ip, entry.target.ifIndex, now);
    }
  }

  /**
   * What is to be announced now. A host that may not be the owner any more does not turn clients to itself: it makes up for
   * it when it may again.
   */
  announceDue(now: Instant): readonly Announcement[] {
    const { entries, announcing } = this.#parts;
    return announcing.advance(now).filter((announcement) => {
      const { ip, ifIndex } = announcement;
      entries.announced(ip);
      const entry = entries.get(ip);
      const may = entry?.status === 'held' ? this.mayRenew(ip, entry) : this.renewals.isAllowed(ifIndex, ip);
      if (may) return true;
      announcing.notMade(announcement);
      this.#owed.add(ip);
      return false;
    });
  }

  #announceOwed(now: Instant): void {
    const { entries, announcing } = this.#parts;
    for (const ip of this.#owed) {
      const entry = entries.get(ip);
      if (entry?.status === 'held') {
        if (!this.mayRenew(ip, entry)) continue;
        announcing.again(ip, entry.target.ifIndex, now);
      }
      this.#owed.delete(ip);
    }
  }

  /** Frames of announcements did not leave. */
  notAnnounced(frames: readonly Announced[], now: Instant): void {
    const { entries, announcing } = this.#parts;
    for (const { ip, form } of frames) {
      const entry = entries.get(ip);
      if (entry?.status === 'held') announcing.unsent(ip, entry.target.ifIndex, form, now);
    }
  }

  /** Each is announced every `intervalMs` from now on; 0 is never. */
  announceEvery(intervalMs: number, now: Instant): void {
    const { entries, announcing } = this.#parts;
    const held = [...entries.all].flatMap(([ip, entry]) =>
      entry.status === 'held' ? [[ip, entry.target.ifIndex] as const] : [],
    );
    announcing.every(intervalMs, held, now);
  }

  /** What the kernel took along with the link, nobody removed; and whoever is behind it may have forgotten everything. */
  bounced(ifIndex: IfIndex, now: Instant): void {
    for (const [ip, entry] of [...this.#parts.entries.all]) {
      if (entry.status !== 'held' || entry.target.ifIndex !== ifIndex || entry.aside !== undefined) continue;
      entry.lastRepair = undefined;
      this.keep(ip, entry, now);
    }
    this.announceAll(ifIndex, now);
  }

  /** The NIC came back, or has another hardware address. */
  announceAll(ifIndex: IfIndex, now: Instant): void {
    const { entries, announcing } = this.#parts;
    for (const [ip, entry] of entries.all) {
      if (entry.status === 'held' && entry.target.ifIndex === ifIndex) announcing.start(ip, ifIndex, now);
    }
  }
}
