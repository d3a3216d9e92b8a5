import type { LocalState } from '../election/types.ts';
import type { Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, instant, NEVER } from '../lib/time.ts';
import { Alarms } from './alarms.ts';
import { Announcing } from './announcing.ts';
import { Candidates } from './candidates.ts';
import { Entries, localState } from './entries.ts';
import { HeldAddresses } from './held-addresses.ts';
import { samePlace } from './kernel-addresses.ts';
import { KernelRequests } from './kernel-requests.ts';
import type {
  Effect,
  Entry,
  Event,
  Held,
  LocalSettings,
  Outcome,
  Placed,
  Program,
  Report,
  Target,
} from './local-types.ts';
import type { HostView, NicSelection } from './nic-selection.ts';
import { isSecondary, Placement } from './placement.ts';
import { probeBudget } from './probing.ts';
import { RETRY_FIRST_MS, retryAfterRefusal } from './refusal-pace.ts';
import type { TakeOverState } from './take-over.ts';
import type { AddressStatus, DesiredAddress, IfIndex, KernelAddress, WireEvidence } from './types.ts';
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

export class LocalAddresses {
  #settings: LocalSettings;
  readonly #placement = new Placement();
  readonly #entries = new Entries();
  readonly #kernel = new KernelRequests();
  readonly #probeBudget = probeBudget();
  readonly #questions = new WireQuestions(this.#probeBudget);
  readonly #announcing = new Announcing();
  /** Undefined until Services are known: until then what the kernel has of ours is kept alive as it is. */
  #desired: Map<Ip, DesiredAddress> | undefined;
  readonly #candidates = new Candidates(this.#questions.probing, (ip) => this.select(ip));
  /** Entries to look at again at an instant: retries, grace, repairs. */
  readonly #wakeAt = new Alarms<Ip>();
  #effects: Effect[] = [];

  readonly #held: HeldAddresses;

  constructor(settings: LocalSettings) {
    this.#settings = settings;
    this.#held = new HeldAddresses(
      {
        entries: this.#entries,
        kernel: this.#kernel,
        announcing: this.#announcing,
        wakeAt: this.#wakeAt,
        probeBudget: this.#probeBudget,
        report: (report) => this.#report(report),
        lost: (ip, entry, now) => this.#takeAnew(ip, entry, now),
      },
      settings.lifetimeMs,
    );
    this.#announcing.every(settings.announceIntervalMs ?? 0, [], instant(0));
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
      this.#held.renewals.at,
      this.#held.checkedAt,
      this.#wakeAt.first(),
      this.#candidates.deadline(),
      this.#questions.deadline(),
      this.#announcing.deadline(),
      this.#kernel.keptUntil,
    );
  }

  entries(): ReadonlyMap<Ip, Entry> {
    return this.#entries.all;
  }

  /** Where `ip` stands, in the election's words. */
  state(ip: Ip): LocalState {
    return localState(this.#entries.get(ip));
  }

  /** How long what the kernel has of ours lasts. */
  get lease(): Pick<HeldAddresses, 'lifetimeMs' | 'leaseLeftMs' | 'lastRenewedAt'> {
    return this.#held;
  }

  /** Whether a request that was decided before is still meant; what is not must not reach the kernel (safety rule 4). */
  isMeant(request: Program): boolean {
    if (request.op === 'remove') return true;
    const entry = this.#entries.get(request.ip);
    if (entry?.status !== 'held' && entry?.status !== 'adding') return false;
    if (entry.status === 'held' && entry.aside !== undefined) return false;
    if (!samePlace(entry.target, request)) return false;
    if (entry.status === 'held') return this.#held.mayRenew(request.ip, entry);
    return this.#held.renewals.isAllowed(request.ifIndex, request.ip);
  }

  host(): HostView {
    return this.#placement.host;
  }

  desired(ip: Ip): DesiredAddress | undefined {
    return this.#desired?.get(ip);
  }

  announcements(ip: Ip): Pick<AddressStatus, 'announcements' | 'unsentFrames'> {
    return { announcements: this.#announcing.count(ip), unsentFrames: this.#announcing.unsentCount(ip) };
  }

  /** Whether a claim on `ip`, heard on that NIC, would change anything here. */
  isInterestedIn(ip: Ip, ifIndex: IfIndex): boolean {
    if (this.#questions.isInterestedIn(ip, ifIndex)) return true;
    const entry = this.#entries.get(ip);
    if (entry === undefined && !this.#candidates.has(ip)) return false;
    if (entry !== undefined && 'target' in entry) return entry.target.ifIndex === ifIndex;
    return this.#placement.nicOf(ip) === ifIndex;
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
    return this.#placement.select(ip);
  }

  #handle(event: Event, now: Instant): void {
    switch (event.kind) {
      case 'desired-changed':
        return this.#onDesired(event.addresses, event.candidates, now);
      case 'host-changed':
        return this.#onHost(event.host, now);
      case 'link-bounced':
        return this.#held.bounced(event.ifIndex, now);
      case 'addresses-changed':
        this.#held.v6OfHost = event.v6OfHost ?? this.#held.v6OfHost;
        return this.#onKernel(event.present, event.gone, now);
      case 'withdraw':
        return this.#onWithdraw(event.ips, now);
      case 'announce':
        return this.#held.announce(event.ips, now);
      case 'renewals':
        return this.#onRenewals(event, now);
      case 'claim-heard':
        return this.#onClaim(event.claim, event.ifIndex, event.isMember === true, now);
      case 'probes-unsent':
        this.#held.unsent(event.ips, now);
        return this.#questions.unsent(event.ips, now);
      case 'announcements-unsent':
        return this.#held.notAnnounced(event.frames, now);
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
    this.#placement.keepOnly((ip) => this.#desired?.has(ip) === true || this.#candidates.has(ip));
    for (const [ip, { entry }] of this.#desired) {
      const known = this.#entries.get(ip);
      const isNews = this.#questions.entitle(ip, entry ?? FIRST, known?.status === 'held');
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

  #onRenewals(event: Extract<Event, { kind: 'renewals' }>, now: Instant): void {
    if (!this.#held.allow(event.allowed, event, now)) return;
    for (const [ip, entry] of [...this.entries()]) {
      if ('target' in entry && this.#held.renewals.isAllowed(entry.target.ifIndex, ip)) this.#settle(ip, now);
    }
  }

  #onHost(host: HostView, now: Instant): void {
    const renewed = this.#placement.replace(host);
    if (renewed === undefined) return;
    for (const ifIndex of renewed) this.#held.announceAll(ifIndex, now);
    this.#questions.keepOnly((ip) => this.#placement.nicOf(ip));
    for (const ip of this.#desired?.keys() ?? []) this.#settle(ip, now);
    for (const ip of [...this.entries().keys()]) if (this.#desired?.has(ip) !== true) this.#settle(ip, now);
    for (const { ip } of this.#kernel.all()) if (this.#entries.get(ip) === undefined) this.#settle(ip, now);
    this.#candidates.look(now);
  }

  #onSettings(settings: LocalSettings, now: Instant): void {
    this.#settings = settings;
    this.#held.configure(settings.lifetimeMs);
    this.#held.announceEvery(settings.announceIntervalMs ?? 0, now);
    for (const ip of [...this.entries().keys()]) this.#settle(ip, now);
    this.#held.renewals.by(now);
  }

  #onKernel(present: readonly KernelAddress[], gone: readonly Placed[], now: Instant): void {
    for (const address of gone) this.#kernel.vanished(address.ip, address);
    for (const address of present) this.#kernel.noticed(address, now);
    for (const address of gone) this.#settle(address.ip, now);
    for (const address of present) this.#settle(address.ip, now);
    if (this.#desired !== undefined) this.#removeOrphans(present);
  }

  #onClaim(claim: WireClaim, ifIndex: IfIndex, isMember: boolean, now: Instant): void {
    const { ip, mac } = claim;
    if (this.#placement.host.macs.has(mac) || !this.isInterestedIn(ip, ifIndex)) return;
    const entry = this.#entries.get(ip);
    if (entry?.status === 'held') {
      if (claim.kind === 'wants') return;
      return this.#held.rivalHeard(ip, entry, { mac, isMember }, now);
    }
    const before = this.evidence(ip, now)?.kind;
    if (!this.#questions.heard(claim, ifIndex, this.#placement.macOf(ifIndex), now)) return;
    if (before !== 'answered' && this.#candidates.has(ip)) this.#effects.push({ kind: 'evidence-changed' });
    this.#settle(ip, now);
  }

  #onProgrammed(outcomes: readonly Outcome[], sentAt: Instant, now: Instant): void {
    for (const outcome of outcomes) {
      const { request } = outcome;
      if (request.op === 'remove') {
        this.#onRemoved(outcome, now);
        continue;
      }
      const entry = this.#entries.get(request.ip);
      const current = entry !== undefined && 'target' in entry && samePlace(entry.target, request);
      if (!outcome.ok) {
        if (current) this.#onProgramFailed(entry, outcome, now);
        continue;
      }
      const validUntil = after(sentAt, request.lifetimeMs === 0 ? NEVER : request.lifetimeMs);
      const { ip, ifIndex, prefixLength } = request;
      const address = { ip, ifIndex, prefixLength, validUntil };
      if (request.op === 'add') this.#kernel.appeared(address);
      else this.#kernel.renewed(address);
      if (current) this.#held.renewals.confirmed(validUntil, sentAt);
      if (!current) {
        this.#settle(request.ip, now);
        this.#removeOrphans([request]);
      } else if (entry.status === 'adding') {
        this.#hold(request.ip, entry.target, validUntil, now, 'taken');
      } else if (entry.status === 'held') {
        this.#held.renewed(entry, validUntil, sentAt, now);
      }
    }
  }

  #onRemoved(outcome: Outcome, now: Instant): void {
    if (outcome.ok) return;
    const { ip, ifIndex } = outcome.request;
    if (outcome.errno === 'EADDRNOTAVAIL' || outcome.errno === 'ENODEV')
      return this.#kernel.vanished(ip, outcome.request);
    this.#kernel.kept(ip, outcome.request, now);
    this.#report({ kind: 'remove-failed', ip, ifIndex, reason: outcome.message });
  }

  #onProgramFailed(entry: Entry, outcome: Extract<Outcome, { ok: false }>, now: Instant): void {
    const { ip, ifIndex } = outcome.request;
    if (entry.status === 'held') return this.#held.notRenewed(ip, entry, outcome, now);
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
    const retryAt = retryAfterRefusal(attempts, now);
    this.#entries.set(ip, { status: 'failed', reason: outcome.message, attempts, retryAt });
    this.#wakeAt.set(ip, retryAt);
    this.#report({ kind: 'add-failed', ip, ifIndex, reason: outcome.message });
  }

  // --- one address --------------------------------------------------------------------------------------------

  /** Moves one address to where it should be, given all that is known now. Safe to call at any time. */
  #settle(ip: Ip, now: Instant): void {
    this.#wakeAt.cancel(ip);
    const entry = this.#entries.get(ip);
    if (this.#desired === undefined ? !this.#kernel.has(ip) : !this.#desired.has(ip))
      return this.#drop(ip, now);
    const heldOn = entry?.status === 'held' ? entry.target.ifIndex : undefined;
    const place = this.#placement.of(ip, this.#settings.prefix, heldOn);
    if (place.kind === 'blocked') return this.#wait(ip, 'foreign', place.reason);
    if (place.kind === 'none') return this.#withoutNic(ip, entry, place.reason, now);
    const { target } = place;
    if (entry?.status === 'held') {
      entry.graceUntil = undefined;
      if (samePlace(entry.target, target)) {
        if (entry.aside !== undefined) return this.#held.resume(ip, entry, now);
        return this.#held.keep(ip, entry, now);
      }
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
    } else if (word.kind === 'free' && this.#held.renewals.isAllowed(target.ifIndex, ip)) {
      this.#entries.set(ip, { status: 'adding', target, attempts });
      const deadline = this.#questions.addUntil(ip, now);
      this.#kernel.create('add', ip, target, this.#held.lifetimeMs, deadline);
    } else if (entry?.status !== 'conflict') {
      this.#entries.set(ip, { status: 'probing', target, attempts });
    }
  }

  /** Not free as far as is known: the wire is asked, whatever state the address was in. */
  #probe(ip: Ip, target: Target, attempts: number, now: Instant): void {
    this.#entries.set(ip, { status: 'probing', target, attempts });
    this.#approach(ip, target, now);
  }

  #hold(ip: Ip, target: Target, validUntil: Instant, now: Instant, how: 'taken' | 'adopted'): void {
    this.#held.begin(ip, target, validUntil, now, how);
    if (how === 'taken' && this.desired(ip)?.entry?.kind === 'hand-over') this.#entries.keepBack(ip);
    this.#questions.spend(ip);
  }

  #withoutNic(ip: Ip, entry: Entry | undefined, reason: string, now: Instant): void {
    if (entry?.status === 'held' && this.#placement.isUp(entry.target.ifIndex)) {
      entry.graceUntil ??= after(now, SUBNET_GRACE_MS);
      if (now < entry.graceUntil) {
        this.#wakeAt.set(ip, entry.graceUntil);
        if (!isSecondary(ip, entry.target)) return this.#held.keep(ip, entry, now);
        entry.aside = reason;
        return this.#kernel.removeAllOf(ip);
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
    if (entry.status === 'held' && entry.rival === undefined && entry.member === undefined)
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
  #removeOrphans(addresses: readonly Placed[]): void {
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
    this.#held.renewals.done(now, 0, false);
  }

  // --- time ---------------------------------------------------------------------------------------------------

  #advance(now: Instant): void {
    const checked = this.#held.checkWire(now);
    for (const ip of this.#wakeAt.takeDue(now)) this.#settle(ip, now);
    if (this.#kernel.keptUntil <= now) this.#removeOrphans(this.#kernel.takeKept(now));
    if (this.#held.renewals.at <= now) this.#held.renewAll(now);
    this.#candidates.advance(now, (ip) => this.#entries.get(ip) !== undefined);
    const round = this.#questions.advance(now);
    for (const ip of round.concluded) this.#settle(ip, now);
    if (round.concluded.length > 0) this.#candidates.look(now);
    if (round.concluded.some((ip) => this.#candidates.has(ip)))
      this.#effects.push({ kind: 'evidence-changed' });
    for (const served of round.served) this.#report({ kind: 'still-served', ...served });
    for (const { ip, ifIndex, to } of [...checked, ...round.frames])
      this.#effects.push({ kind: 'send', frame: 'probe', ip, ifIndex, to });
    for (const { ip, ifIndex, form } of this.#held.announceDue(now))
      this.#effects.push({ kind: 'send', frame: 'announce', ip, ifIndex, to: undefined, form });
  }

  #report(report: Report): void {
    this.#effects.push({ kind: 'report', report });
  }
}
