import type { LocalState } from '../election/types.ts';
import { FAMILY_BITS, familyOf, type Ip } from '../lib/ip.ts';
import { after, doublingPauseMs, earliest, type Instant, NEVER } from '../lib/time.ts';
import { Alarms } from './alarms.ts';
import { Announcing } from './announcing.ts';
import { Candidates } from './candidates.ts';
import { Entries, localState } from './entries.ts';
import { samePlace } from './kernel-addresses.ts';
import { KernelRequests } from './kernel-requests.ts';
import { newlyHeld, nextRenewal, renewDeadline, renewRetryMs } from './lifetime.ts';
import type { Effect, Entry, Event, Held, LocalSettings, Program, Report, Target } from './local-types.ts';
import {
  EMPTY_HOST,
  type HostView,
  isNicUp,
  macOf,
  type NicSelection,
  nicOf,
  selectNic,
  stayOnNic,
} from './nic-selection.ts';
import { Renewals } from './renewals.ts';
import { hearRival } from './rivals.ts';
import type { TakeOverState } from './take-over.ts';
import type { DesiredAddress, IfIndex, KernelAddress, WireEvidence } from './types.ts';
import type { WireClaim } from './wire-claims.ts';
import { FIRST, WireQuestions } from './wire-questions.ts';

/**
 * The local addresses of one host: where each belongs, whether the wire is free of it, that the kernel has it with a
 * running lifetime, that the segment knows. Level-triggered: `settle(ip)` looks at what is wanted, what the host is
 * and what the kernel has, and moves one address to where it should be; events only say which addresses to look at.
 *
 *   waiting ──NIC there──► probing ──silence──► adding ──done──► held ──renewed too late──► probing
 *                             └──answer──► conflict   └──error──► failed
 *
 * conflict and failed are tried again; any state goes to waiting when the NIC goes (held after SUBNET_GRACE_MS if only
 * the host's own subnet went) or when somebody else's address is found in this place.
 * Ours and present in the kernel at start: held at once (adoption), whatever the wire says.
 * Wanted no more, in any state: removed from the kernel, forgotten.
 *
 * The state is mutable and owned by the instance, because hosts hold 10,000 addresses; there is no clock, randomness
 * or I/O in here, and the same events at the same instants give the same effects.
 */

/** A held address survives so long while its NIC is up but the host's own subnet is gone (a DHCP client restarting). */
export const SUBNET_GRACE_MS = 5_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 30_000;
/** Repairs of one address closer together than this wait, so that two programs at war do not burn the host. */
const REPAIR_INTERVAL_MS = 50;

export class LocalAddresses {
  #settings: LocalSettings;
  readonly #entries = new Entries();
  readonly #kernel = new KernelRequests();
  readonly #questions = new WireQuestions();
  readonly #announcing = new Announcing();
  readonly #renewals = new Renewals();
  /** Undefined until Services are known: until then what the kernel has of ours is kept alive as it is. */
  #desired: Map<Ip, DesiredAddress> | undefined;
  readonly #candidates = new Candidates(this.#questions.probing, (ip) => this.select(ip));
  #host: HostView = EMPTY_HOST;
  #selections = new Map<Ip, NicSelection>();
  /** Entries to look at again at an instant: retries, grace, repairs. */
  readonly #wakeAt = new Alarms<Ip>();
  #effects: Effect[] = [];

  constructor(settings: LocalSettings) {
    this.#settings = settings;
  }

  step(event: Event, now: Instant): readonly Effect[] {
    this.#effects = [];
    this.#handle(event, now);
    this.#advance(now);
    for (const [ip, state] of this.#entries.takeChanges()) {
      this.#effects.push({ kind: 'state-changed', ip, state });
    }
    const programs = this.#kernel.take();
    // First in the list: what is programmed is announced, not the reverse.
    return programs.length === 0 ? this.#effects : [...programs, ...this.#effects];
  }

  /** When `step()` wants a `time-passed` event next. */
  deadline(): Instant {
    return earliest(
      this.#renewals.at,
      this.#wakeAt.first(),
      this.#candidates.deadline(),
      this.#questions.deadline(),
      this.#announcing.deadline(),
    );
  }

  entries(): ReadonlyMap<Ip, Entry> {
    return this.#entries.all;
  }

  /** Where `ip` stands, in the election's words. */
  state(ip: Ip): LocalState {
    return localState(this.#entries.get(ip));
  }

  /** How long some address of ours stays in the kernel unless renewed: 0 when none is there, undefined for ever. */
  leaseLeftMs(now: Instant): number | undefined {
    const { leaseEndsAt } = this.#renewals;
    if (this.#entries.heldCount === 0 || leaseEndsAt === undefined) return 0;
    return leaseEndsAt === NEVER ? undefined : Math.max(0, leaseEndsAt - now);
  }

  /** When the last renewal or addition that the kernel confirmed was asked for. */
  lastRenewedAt(): Instant | undefined {
    return this.#renewals.lastRenewedAt;
  }

  /** Whether a request that was decided before is still meant; what is not must not reach the kernel (safety rule 4). */
  isMeant(request: Program): boolean {
    if (request.op === 'remove') return true;
    const entry = this.#entries.get(request.ip);
    if (entry?.status !== 'held' && entry?.status !== 'adding') return false;
    return samePlace(entry.target, request) && this.#renewals.isAllowed(request.ifIndex);
  }

  host(): HostView {
    return this.#host;
  }

  desired(ip: Ip): DesiredAddress | undefined {
    return this.#desired?.get(ip);
  }

  announcements(ip: Ip): number {
    return this.#announcing.count(ip);
  }

  /** Whether a claim on `ip`, heard on that NIC, would change anything here. */
  isInterestedIn(ip: Ip, ifIndex: IfIndex): boolean {
    if (this.#questions.isInterestedIn(ip, ifIndex)) return true;
    const entry = this.#entries.get(ip);
    if (entry === undefined && !this.#candidates.has(ip)) return false;
    if (entry !== undefined && 'target' in entry) return entry.target.ifIndex === ifIndex;
    return nicOf(this.select(ip)) === ifIndex;
  }

  /** The wire's word on `ip`, while it counts. */
  evidence(ip: Ip, now: Instant): WireEvidence | undefined {
    return this.#questions.probing.evidence(ip, now);
  }

  /** How it stands with an address that waits for the end of its last owner. */
  takeOver(ip: Ip): TakeOverState | undefined {
    return this.#questions.takeOver(ip);
  }

  select(ip: Ip): NicSelection {
    const known = this.#selections.get(ip);
    if (known !== undefined) return known;
    const selection = selectNic(ip, this.#host);
    this.#selections.set(ip, selection);
    return selection;
  }

  #handle(event: Event, now: Instant): void {
    switch (event.kind) {
      case 'desired-changed':
        return this.#onDesired(event.addresses, event.candidates, now);
      case 'host-changed':
        return this.#onHost(event.host, now);
      case 'addresses-changed':
        return this.#onKernel(event.present, event.gone, now);
      case 'withdraw':
        return this.#onWithdraw(event.ips, now);
      case 'renewals':
        return this.#onRenewals(event.allowed, event.ifIndex, now);
      case 'claim-heard':
        return this.#onClaim(event.claim, event.ifIndex, now);
      case 'probes-unsent':
        return this.#questions.unsent(event.ips, now);
      case 'programmed':
        return this.#onProgrammed(event.outcomes, event.sentAt, now);
      case 'settings-changed':
        return this.#onSettings(event.settings, now);
      case 'stopped':
        return this.#removeAll(now);
      case 'time-passed':
        return;
      default:
        event satisfies never;
    }
  }

  // --- events -------------------------------------------------------------------------------------------------

  #onDesired(addresses: readonly DesiredAddress[], candidates: readonly Ip[], now: Instant): void {
    const before = this.#desired;
    this.#desired = new Map(addresses.map((address) => [address.ip, address]));
    this.#candidates.replace(candidates);
    for (const ip of this.#selections.keys()) {
      if (!this.#desired.has(ip) && !this.#candidates.has(ip)) this.#selections.delete(ip);
    }
    for (const [ip, { entry }] of this.#desired) {
      const known = this.#entries.get(ip);
      const isNews = this.#questions.entitle(ip, entry ?? FIRST, known?.status === 'held', now);
      if (isNews || before?.has(ip) !== true || known === undefined) this.#settle(ip, now);
    }
    for (const ip of [...this.entries().keys()]) if (!this.#desired.has(ip)) this.#settle(ip, now);
    if (before === undefined) this.#removeOrphans(this.#kernel.all());
  }

  /** Unlike what is wanted no more: whether anybody else has one of these is not known. */
  #onWithdraw(ips: readonly Ip[], now: Instant): void {
    for (const ip of ips) {
      this.#desired?.delete(ip);
      this.#drop(ip, now);
      this.#questions.forget(ip);
    }
  }

  #onRenewals(allowed: boolean, ifIndex: IfIndex | undefined, now: Instant): void {
    if (!this.#renewals.allow(allowed, ifIndex) || !allowed) return;
    if (this.#entries.heldCount > 0) this.#renewals.by(now);
    for (const [ip, entry] of [...this.entries()]) {
      if ('target' in entry && this.#renewals.isAllowed(entry.target.ifIndex)) this.#settle(ip, now);
    }
  }

  #onHost(host: HostView, now: Instant): void {
    if (host.signature === this.#host.signature) return;
    for (const nic of this.#host.nics) {
      const after = host.nics.find((other) => other.ifIndex === nic.ifIndex);
      if (after?.up === true && !(nic.up && after.mac === nic.mac)) this.#announceAll(nic.ifIndex, now);
    }
    this.#host = host;
    this.#selections = new Map();
    this.#questions.keepOnly((ip) => nicOf(this.select(ip)));
    for (const ip of this.#desired?.keys() ?? []) this.#settle(ip, now);
    for (const ip of [...this.entries().keys()]) if (this.#desired?.has(ip) !== true) this.#settle(ip, now);
    for (const { ip } of this.#kernel.all()) if (this.#entries.get(ip) === undefined) this.#settle(ip, now);
    this.#candidates.look(now);
  }

  #onSettings(settings: LocalSettings, now: Instant): void {
    this.#settings = settings;
    for (const ip of [...this.entries().keys()]) this.#settle(ip, now);
    this.#renewals.by(now);
  }

  #onKernel(present: readonly KernelAddress[], gone: readonly KernelAddress[], now: Instant): void {
    for (const address of gone) this.#kernel.vanished(address.ip, address);
    for (const { ip, ifIndex, prefixLength, validSeconds } of present) {
      this.#kernel.appeared({ ip, ifIndex, prefixLength, validUntil: after(now, validSeconds * 1000) });
    }
    for (const address of gone) this.#settle(address.ip, now);
    for (const address of present) this.#settle(address.ip, now);
    if (this.#desired !== undefined) this.#removeOrphans(present);
  }

  #onClaim(claim: WireClaim, ifIndex: IfIndex, now: Instant): void {
    const { ip, mac } = claim;
    if (this.#host.macs.has(mac) || !this.isInterestedIn(ip, ifIndex)) return;
    const entry = this.#entries.get(ip);
    if (entry?.status === 'held') {
      if (claim.kind === 'wants') return;
      const { defend, report } = hearRival(entry, mac, now);
      if (report) this.#report({ kind: 'rival-heard', ip, mac, ifIndex });
      if (defend) this.#announcing.once(ip, ifIndex, now);
      return;
    }
    const before = this.evidence(ip, now)?.kind;
    if (!this.#questions.heard(claim, ifIndex, macOf(this.#host, ifIndex), now)) return;
    if (before !== 'answered' && this.#candidates.has(ip)) this.#effects.push({ kind: 'evidence-changed' });
    this.#settle(ip, now);
  }

  #onProgrammed(
    outcomes: Extract<Event, { kind: 'programmed' }>['outcomes'],
    sentAt: Instant,
    now: Instant,
  ): void {
    for (const outcome of outcomes) {
      const { request } = outcome;
      if (request.op === 'remove') {
        if (!outcome.ok && outcome.errno !== 'EADDRNOTAVAIL' && outcome.errno !== 'ENODEV') {
          const { ip, ifIndex } = request;
          this.#report({ kind: 'remove-failed', ip, ifIndex, reason: outcome.message });
        }
        continue;
      }
      const entry = this.#entries.get(request.ip);
      const current = entry !== undefined && 'target' in entry && samePlace(entry.target, request);
      if (!outcome.ok) {
        if (current) this.#onProgramFailed(request, entry, outcome, now);
        continue;
      }
      const validUntil = after(sentAt, request.lifetimeMs === 0 ? NEVER : request.lifetimeMs);
      const { ip, ifIndex, prefixLength } = request;
      this.#kernel.appeared({ ip, ifIndex, prefixLength, validUntil });
      if (current) this.#renewals.confirmed(validUntil, sentAt);
      if (!current) {
        this.#settle(request.ip, now);
        this.#removeOrphans([request]);
      } else if (entry.status === 'adding') {
        this.#hold(request.ip, entry.target, validUntil, now, 'taken');
      } else if (entry.status === 'held') {
        entry.validUntil = validUntil;
        entry.renewedAt = sentAt;
        entry.failure = undefined;
      }
    }
  }

  #onProgramFailed(
    request: Program,
    entry: Entry,
    outcome: { readonly errno: string; readonly message: string },
    now: Instant,
  ): void {
    const { ip } = request;
    if (entry.status === 'held') {
      if (now >= renewDeadline(entry)) return this.#takeAnew(ip, entry, now);
      // A repair that met an address: the notification on its way says whose it is.
      if (outcome.errno === 'EEXIST') return;
      this.#wakeAt.set(ip, after(now, renewRetryMs(this.#settings.lifetimeMs)));
      if (entry.failure !== outcome.message && outcome.errno !== 'ETIME') {
        this.#report({ kind: 'renew-failed', ip, ifIndex: request.ifIndex, reason: outcome.message });
      }
      entry.failure = outcome.message;
      return;
    }
    if (entry.status !== 'adding') return;
    if (outcome.errno === 'ETIME') {
      this.#questions.late(ip);
      return this.#probe(ip, entry.target, entry.attempts, now);
    }
    if (outcome.errno === 'EEXIST') {
      // Somebody was faster on this very host: the notification that follows says who, until then it is foreign.
      this.#wait(ip, 'foreign', `${ip} is already on this NIC and was not put there by lbd`);
      this.#wakeAt.set(ip, after(now, RETRY_FIRST_MS));
      return;
    }
    const attempts = entry.attempts + 1;
    const retryAt = after(now, doublingPauseMs(attempts, RETRY_FIRST_MS, RETRY_LAST_MS));
    this.#entries.set(ip, { status: 'failed', reason: outcome.message, attempts, retryAt });
    this.#wakeAt.set(ip, retryAt);
    this.#report({ kind: 'add-failed', ip, ifIndex: request.ifIndex, reason: outcome.message });
  }

  // --- one address --------------------------------------------------------------------------------------------

  /** Moves one address to where it should be, given all that is known now. Safe to call at any time. */
  #settle(ip: Ip, now: Instant): void {
    this.#wakeAt.cancel(ip);
    const entry = this.#entries.get(ip);
    if (this.#desired === undefined ? !this.#kernel.has(ip) : !this.#desired.has(ip))
      return this.#drop(ip, now);
    const chosen = this.select(ip);
    const selection =
      entry?.status === 'held' ? stayOnNic(ip, this.#host, entry.target.ifIndex, chosen) : chosen;
    if (selection.kind === 'blocked') return this.#wait(ip, 'foreign', selection.reason);
    if (selection.kind === 'none') return this.#withoutNic(ip, entry, selection.reason, now);
    const target: Target = {
      ifIndex: selection.nic.ifIndex,
      prefixLength: this.#settings.prefix === 'subnet' ? selection.subnet.length : FAMILY_BITS[familyOf(ip)],
    };
    if (entry?.status === 'held') {
      entry.graceUntil = undefined;
      if (samePlace(entry.target, target)) return this.#checkHeld(ip, entry, now);
      this.#kernel.remove(ip, entry.target);
      this.#forget(ip);
    }
    if (entry?.status === 'adding' && samePlace(entry.target, target)) return;
    const present = this.#kernel.get(ip, target);
    if (present !== undefined) return this.#hold(ip, target, present.validUntil, now, 'adopted');
    this.#approach(ip, target, now);
  }

  /** Towards holding: by what the wire said, ask it, wait, or add. */
  #approach(ip: Ip, target: Target, now: Instant): void {
    const entry = this.#entries.get(ip);
    if (entry?.status === 'failed' && now < entry.retryAt) {
      this.#wakeAt.set(ip, entry.retryAt);
      return;
    }
    const attempts = entry !== undefined && 'attempts' in entry ? entry.attempts : 0;
    const word = this.#questions.ask(ip, target.ifIndex, now);
    if (word.kind === 'answered') {
      const isKnown = entry?.status === 'conflict' && entry.mac === word.mac;
      this.#entries.set(ip, { status: 'conflict', target, mac: word.mac, retryAt: word.retryAt });
      this.#wakeAt.set(ip, word.retryAt);
      if (!isKnown) this.#report({ kind: 'conflict', ip, mac: word.mac, ifIndex: target.ifIndex });
    } else if (word.kind === 'free' && this.#renewals.isAllowed(target.ifIndex)) {
      this.#entries.set(ip, { status: 'adding', target, attempts });
      const deadline = after(now, this.#questions.addWithinMs(ip));
      this.#kernel.create('add', ip, target, this.#settings.lifetimeMs, deadline);
    } else if (entry?.status !== 'conflict') {
      this.#entries.set(ip, { status: 'probing', target, attempts });
    }
  }

  /** Not free as far as is known: the wire is asked, whatever state the address was in. */
  #probe(ip: Ip, target: Target, attempts: number, now: Instant): void {
    this.#entries.set(ip, { status: 'probing', target, attempts });
    this.#approach(ip, target, now);
  }

  /** A held address that the kernel no longer has was removed by somebody, unless its time was up. */
  #checkHeld(ip: Ip, entry: Held, now: Instant): void {
    const { lifetimeMs } = this.#settings;
    const present = this.#kernel.get(ip, entry.target);
    if (present !== undefined) {
      const isPermanent = present.validUntil === NEVER;
      if (isPermanent === (lifetimeMs === 0) && entry.failure === undefined) return;
      if (!this.#renewals.isAllowed(entry.target.ifIndex)) return;
      // Somebody gave it another kind of lifetime, or the last renewal failed.
      this.#kernel.appeared({ ip, ...entry.target, validUntil: entry.validUntil });
      this.#kernel.create('renew', ip, entry.target, lifetimeMs, renewDeadline(entry));
      return;
    }
    if (now >= renewDeadline(entry)) return this.#takeAnew(ip, entry, now);
    if (!this.#renewals.isAllowed(entry.target.ifIndex)) return;
    const waitUntil = after(entry.repairedAt ?? after(now, -REPAIR_INTERVAL_MS), REPAIR_INTERVAL_MS);
    if (now < waitUntil) {
      this.#wakeAt.set(ip, waitUntil);
      return;
    }
    entry.repairedAt = now;
    entry.repairs += 1;
    this.#kernel.create('add', ip, entry.target, lifetimeMs, renewDeadline(entry));
    this.#announcing.start(ip, entry.target.ifIndex, now);
    this.#report({ kind: 'repaired', ip, ifIndex: entry.target.ifIndex, repairs: entry.repairs });
  }

  #hold(ip: Ip, target: Target, validUntil: Instant, now: Instant, how: 'taken' | 'adopted'): void {
    this.#entries.set(ip, newlyHeld(target, validUntil, now));
    this.#questions.spend(ip);
    this.#renewals.found(validUntil);
    if (how === 'taken') this.#announcing.start(ip, target.ifIndex, now);
    else this.#announcing.once(ip, target.ifIndex, now);
    this.#report({ kind: 'held', ip, ifIndex: target.ifIndex, how });
    this.#renewals.by(how === 'adopted' ? now : nextRenewal(now, this.#settings.lifetimeMs));
  }

  #withoutNic(ip: Ip, entry: Entry | undefined, reason: string, now: Instant): void {
    if (entry?.status === 'held' && isNicUp(this.#host, entry.target.ifIndex)) {
      entry.graceUntil ??= after(now, SUBNET_GRACE_MS);
      if (now < entry.graceUntil) {
        this.#wakeAt.set(ip, entry.graceUntil);
        return this.#checkHeld(ip, entry, now);
      }
    }
    this.#wait(ip, 'no-interface', reason);
  }

  /** Not held and not on the way to it, until the host changes. What the kernel has of ours is taken away. */
  #wait(ip: Ip, why: 'no-interface' | 'foreign', reason: string): void {
    const entry = this.#entries.get(ip);
    this.#kernel.removeAllOf(ip);
    if (entry?.status === 'waiting' && entry.reason === reason) return;
    this.#forget(ip);
    this.#entries.set(ip, { status: 'waiting', why, reason });
    // A NIC that goes does so in steps, each with its own reason: status says the last, the log the first.
    if (entry?.status === 'waiting' && entry.why === why) return;
    this.#report({ kind: 'waiting', ip, why, reason, wasHeld: entry?.status === 'held' });
  }

  /** The lifetime ran out, or nearly: the address counts as given up, and the wire is asked before it is used again. */
  #takeAnew(ip: Ip, entry: Held, now: Instant): void {
    this.#announcing.stop(ip);
    this.#questions.spend(ip);
    this.#kernel.remove(ip, entry.target);
    this.#report({ kind: 'lost', ip, ifIndex: entry.target.ifIndex });
    this.#probe(ip, entry.target, 0, now);
  }

  #drop(ip: Ip, now: Instant): void {
    this.#kernel.removeAllOf(ip);
    this.#questions.revoke(ip);
    const entry = this.#entries.get(ip);
    if (entry === undefined) return;
    this.#forget(ip);
    // Whoever else had it would have been heard while we did: it can be given again at once.
    if (entry.status === 'held' && entry.rival === undefined)
      this.#questions.probing.trust(ip, entry.target.ifIndex, now);
    this.#report({ kind: 'dropped', ip, wasHeld: entry.status === 'held' });
  }

  #forget(ip: Ip): void {
    this.#entries.delete(ip);
    this.#wakeAt.cancel(ip);
    this.#announcing.stop(ip);
    this.#questions.forget(ip);
  }

  // --- the kernel ---------------------------------------------------------------------------------------------

  /** Ours in the kernel, but not where an entry holds it: leftovers of another configuration or an earlier life. */
  #removeOrphans(addresses: readonly (Target & { readonly ip: Ip })[]): void {
    for (const { ip, ifIndex, prefixLength } of addresses) {
      const entry = this.#entries.get(ip);
      const wanted =
        entry !== undefined && 'target' in entry && samePlace(entry.target, { ifIndex, prefixLength });
      if (!wanted) this.#kernel.remove(ip, { ifIndex, prefixLength });
    }
  }

  #removeAll(now: Instant): void {
    for (const address of this.#kernel.all()) this.#kernel.remove(address.ip, address);
    for (const ip of [...this.entries().keys()]) this.#drop(ip, now);
    this.#desired = new Map();
    this.#candidates.replace([]);
    this.#renewals.done(now, 0, false);
  }

  // --- time ---------------------------------------------------------------------------------------------------

  #advance(now: Instant): void {
    for (const ip of this.#wakeAt.takeDue(now)) this.#settle(ip, now);
    if (this.#renewals.at <= now) this.#renewAll(now);
    this.#candidates.advance(now, (ip) => this.#entries.get(ip) !== undefined);
    const round = this.#questions.advance(now);
    for (const ip of round.concluded) this.#settle(ip, now);
    if (round.concluded.length > 0) this.#candidates.look(now);
    if (round.concluded.some((ip) => this.#candidates.has(ip)))
      this.#effects.push({ kind: 'evidence-changed' });
    for (const served of round.served) this.#report({ kind: 'still-served', ...served });
    for (const { ip, ifIndex, to } of round.frames)
      this.#effects.push({ kind: 'send', frame: 'probe', ip, ifIndex, to });
    for (const { ip, ifIndex } of this.#announcing.advance(now)) {
      this.#effects.push({ kind: 'send', frame: 'announce', ip, ifIndex, to: undefined });
    }
  }

  #renewAll(now: Instant): void {
    const { lifetimeMs } = this.#settings;
    this.#renewals.forgetLease();
    for (const [ip, entry] of this.entries()) {
      if (entry.status !== 'held') continue;
      const deadline = renewDeadline(entry);
      if (now >= deadline) this.#takeAnew(ip, entry, now);
      else {
        this.#renewals.found(entry.validUntil);
        const isAllowed = this.#renewals.isAllowed(entry.target.ifIndex);
        if (isAllowed) this.#kernel.create('renew', ip, entry.target, lifetimeMs, deadline);
      }
    }
    this.#renewals.done(now, lifetimeMs, this.#entries.heldCount > 0);
  }

  #announceAll(ifIndex: IfIndex, now: Instant): void {
    for (const [ip, entry] of this.entries()) {
      if (entry.status === 'held' && entry.target.ifIndex === ifIndex)
        this.#announcing.start(ip, ifIndex, now);
    }
  }

  #report(report: Report): void {
    this.#effects.push({ kind: 'report', report });
  }
}
