import type { LocalState } from '../../election/types.ts';
import { errorText } from '../../lib/errors.ts';
import type { Ip, Prefix } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import { after, type Instant, NEVER } from '../../lib/time.ts';
import { bootTimeMs } from '../../sys/clock.ts';
import { DueTimer } from '../../sys/due-timer.ts';
import { netlinkProcess } from '../../sys/netlink-process.ts';
import { toAddressRequest } from '../address-request.ts';
import { FrameBatches } from '../frame-batches.ts';
import { probeFrame, requestFrame, unicastProbeFrame } from '../frames.ts';
import { LocalAddresses } from '../local-addresses.ts';
import { addressStatuses, interfaceName, wireVerdict } from '../local-status.ts';
import type {
  Effect,
  Event,
  LocalSettings,
  Outcome,
  Placed,
  Program,
  Report,
  WireVerdict,
} from '../local-types.ts';
import { NicNames } from '../nic-names.ts';
import type { NicRules } from '../nic-rules.ts';
import { type HostView, interfacesInUse, type Nic, viewHost } from '../nic-selection.ts';
import { addressKey, type ObservedChanges } from '../observed.ts';
import { ownAddress } from '../own-address.ts';
import { type Batch, ProgramQueue } from '../program-queue.ts';
import type { AddressStatus, DesiredAddress, IfIndex, KernelAddress, Mac } from '../types.ts';
import { isVirtualLink } from '../virtual-link.ts';
import type { WireClaim } from '../wire-claims.ts';
import type { Ownership } from './ownership.ts';
import { failure, goneSince, named, ownershipOf } from './program-outcomes.ts';
import { allowPromotions } from './promotion.ts';
import type { Rtnetlink } from './rtnetlink.ts';
import { SteadyLinks } from './steady-links.ts';
import type { Wire } from './wire.ts';

/** What happened to an address, with names in place of numbers. */
export type NamedReport = {
  readonly report: Report;
  readonly interface: string | undefined;
  /** Who uses the address. */
  readonly services: readonly string[];
  /** Of a repair, who made it necessary, where the kernel tells. */
  readonly by?: string;
};

export type LocalDriverOptions = {
  readonly rtnetlink: Rtnetlink;
  readonly wire: Wire;
  readonly ownership: Ownership;
  readonly settings: LocalSettings;
  readonly rules: NicRules;
  readonly logger: Logger;
  readonly onReport: (report: NamedReport) => void;
  /** The host, or what the wire says about candidates, changed: allocation may come out differently. */
  readonly onChange: () => void;
  /** Addresses that have come to another state, in the turn in which the kernel or the wire said so. */
  readonly onLocalChange?: (changes: ReadonlyMap<Ip, LocalState>) => void;
  /** Whether that is another host's of those that share the addresses out among them. */
  readonly isMember?: (mac: Mac) => boolean;
  /** Every claim on the wire, of whatever address. */
  readonly onClaim?: (ifIndex: IfIndex, claim: WireClaim, at: Instant) => void;
  /**
   * Before anything is decided at `now`: whoever forbids renewals after a pause of the host has its chance to see the
   * pause first. May call everything here.
   */
  readonly beforeStep?: (now: Instant) => void;
};

/** So much before a deadline, nothing is due yet. */
const TIME_STEP_MS = 0.001;

/** Runs the machine of local addresses on the kernel, the wire and the clock. Owns its timer and nothing else. */
export class LocalDriver {
  readonly #options: LocalDriverOptions;
  readonly #machine: LocalAddresses;
  #rules: NicRules;
  readonly #names = new NicNames();
  readonly #steady = new SteadyLinks((bounced) => {
    this.#viewHost();
    this.#bounced(bounced);
  });
  /** An answer that waits in a socket is no silence: they are read first. */
  readonly #timer = new DueTimer(() => this.#deliver({ kind: 'time-passed' }));
  #nics: readonly Nic[] = [];
  readonly #queue = new ProgramQueue();
  /** How many addresses of v6 the host has, as told to the machine last. */
  #v6OfHost = 0;
  /** Whose netlink request removed or changed an address that is held, until that is put right. */
  readonly #askers = new Map<Ip, number>();
  #isBeforeStep = false;
  #isProgramming = false;
  #whenIdle: (() => void)[] = [];
  #closed = false;
  /** The time of the last step. */
  #now: Instant = bootTimeMs();

  constructor(options: LocalDriverOptions) {
    this.#options = options;
    this.#machine = new LocalAddresses(options.settings);
    this.#rules = options.rules;
  }

  /** Takes over what the kernel has; to be called once, after `Rtnetlink.start()`. */
  start(): void {
    const addresses = [...this.#options.rtnetlink.observed().addresses.values()];
    this.#options.ownership.forgetAllBut(addresses);
    this.#viewHost();
    const ours = addresses.filter((address) => this.#isOurs(address) && !this.#isVirtual(address));
    this.#addressesChanged(ours, []);
  }

  kernelChanged(changes: ObservedChanges): void {
    const present = changes.addresses.present.filter((address) => this.#isOurs(address));
    const foreign = changes.addresses.present.filter((address) => !this.#isOurs(address));
    const gone = changes.addresses.gone;
    const linksChanged = changes.links.present.length > 0 || changes.links.gone.length > 0;
    const hostChanged = foreign.length > 0 || gone.some((address) => !this.#isOurs(address));
    this.#options.ownership.present(present);
    this.#options.ownership.absent(gone);
    const bounced = this.#steady.turned(changes.linkTurns, this.#options.rtnetlink.observed().links);
    const mayDiffer = linksChanged || changes.routesChanged || hostChanged;
    if (mayDiffer && this.#steady.mayLook()) this.#viewHost();
    this.#bounced(bounced);
    this.#noteAskers([...present, ...gone], changes.askedBy);
    // An address that lost the tag is somebody else's now.
    const local = present.filter((address) => !this.#isVirtual(address));
    const lost = [...gone, ...foreign].filter((address) => !this.#isVirtual(address));
    this.#addressesChanged(local, lost);
  }

  #bounced(links: readonly IfIndex[]): void {
    for (const ifIndex of links) this.#deliver({ kind: 'link-bounced', ifIndex });
  }

  #addressesChanged(present: readonly KernelAddress[], gone: readonly Placed[]): void {
    const { v6Count: v6OfHost } = this.#options.rtnetlink.observed();
    if (present.length + gone.length === 0 && v6OfHost === this.#v6OfHost) return;
    this.#v6OfHost = v6OfHost;
    this.#deliver({ kind: 'addresses-changed', present, gone, v6OfHost });
  }

  #noteAskers(addresses: readonly KernelAddress[], askedBy: ObservedChanges['askedBy']): void {
    for (const address of addresses) {
      const port = askedBy?.get(addressKey(address));
      if (port === undefined || this.#machine.state(address.ip) !== 'held') this.#askers.delete(address.ip);
      else this.#askers.set(address.ip, port);
    }
  }

  /** What the plan wants held, and which free addresses a Service might get next. */
  plan(addresses: readonly DesiredAddress[], candidates: readonly Ip[]): void {
    this.#deliver({ kind: 'desired-changed', addresses, candidates });
  }

  /** Takes these off the host at once; see the event. */
  withdraw(ips: readonly Ip[]): void {
    if (ips.length > 0) this.#deliver({ kind: 'withdraw', ips });
  }

  /** Announces those of these that are held, as if they were new: somebody else who answered for them has let go. */
  announce(ips: readonly Ip[]): void {
    if (ips.length > 0) this.#deliver({ kind: 'announce', ips });
  }

  /** Whether addresses in that subnet of that NIC, or on all, may be renewed and added. */
  allowRenewals(allowed: boolean, ifIndex?: IfIndex, subnet?: Prefix): void {
    this.#deliver({ kind: 'renewals', allowed, ifIndex, subnet });
  }

  /** How long some address of ours stays in the kernel unless renewed: 0 when none is there, undefined for ever. */
  leaseLeftMs(now: Instant): number | undefined {
    return this.#machine.lease.leaseLeftMs(now);
  }

  /** Kernel lifetime of each address now, which grows with their number; 0 is permanent. */
  lifetimeMs(): number {
    return this.#machine.lease.lifetimeMs;
  }

  /** When the last renewal or addition that the kernel confirmed was asked for. */
  lastRenewedAt(): Instant | undefined {
    return this.#machine.lease.lastRenewedAt;
  }

  state(ip: Ip): LocalState {
    return this.#machine.state(ip);
  }

  host(): HostView {
    return this.#machine.host();
  }

  /** The gateways of the default routes over that NIC. */
  gateways(ifIndex: IfIndex): readonly Ip[] {
    const { routes } = this.#options.rtnetlink.observed();
    const own = routes.filter((route) => route.ifIndex === ifIndex && route.destination.length === 0);
    return [...new Set(own.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway])))];
  }

  /**
   * Asks who has these addresses, as any host on that NIC asks; what is answered comes by `onClaim`. Returns how many
   * requests were sent.
   */
  askReference(ifIndex: IfIndex, ips: readonly Ip[]): number {
    const nic = this.#nics.find((known) => known.ifIndex === ifIndex);
    if (nic === undefined || this.#closed) return 0;
    const frames = ips.flatMap((ip) => {
      const source = ownAddress(this.#machine.host(), nic, ip);
      return source === undefined ? [] : [requestFrame(nic.mac, source, ip)];
    });
    return frames.length === 0 ? 0 : this.#options.wire.send(ifIndex, frames).sent;
  }

  reconfigure(settings: LocalSettings, rules: NicRules): void {
    this.#rules = rules;
    this.#names.forget();
    this.#viewHost();
    this.#deliver({ kind: 'settings-changed', settings });
  }

  verdict(ip: Ip): WireVerdict {
    return wireVerdict(this.#machine, ip, bootTimeMs());
  }

  statuses(): readonly AddressStatus[] {
    return addressStatuses(this.#machine, bootTimeMs());
  }

  /** NICs that carry local addresses, or would. */
  nics(): readonly Nic[] {
    return this.#nics;
  }

  /** Removes everything of ours from the kernel; resolves when the kernel has answered. */
  async removeAll(): Promise<void> {
    this.#deliver({ kind: 'stopped' });
    while (this.#isProgramming) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }

  /** Stops renewing; what is in the kernel stays there until its lifetime ends. */
  close(): void {
    this.#closed = true;
    this.#steady.close();
    this.#timer.close();
  }

  /** Somebody on the wire said that it has an address. Most of what is heard concerns none of ours. */
  claimHeard(ifIndex: IfIndex, claim: WireClaim, at = bootTimeMs()): void {
    this.#options.onClaim?.(ifIndex, claim, at);
    if (!this.#machine.isInterestedIn(claim.ip, ifIndex)) return;
    const isMember = this.#options.isMember?.(claim.mac) ?? false;
    this.#deliver({ kind: 'claim-heard', ifIndex, claim, isMember });
  }

  #isOurs(address: KernelAddress): boolean {
    return this.#options.ownership.isOurs(address);
  }

  /** On lbd's own link, which is not for local addresses. */
  #isVirtual(address: KernelAddress): boolean {
    const link = this.#options.rtnetlink.observed().links.get(address.ifIndex);
    return link !== undefined && isVirtualLink(link);
  }

  #viewHost(): void {
    const { links, addresses, routes } = this.#options.rtnetlink.observed();
    const facts = { links: this.#steady.believed(links), addresses: addresses.values(), routes };
    const host = viewHost(facts, this.#rules, (address) => this.#isOurs(address), this.#names.all);
    this.#names.learn(host);
    if (host.signature === this.#machine.host().signature) return;
    this.#watch(interfacesInUse(host));
    this.#deliver({ kind: 'host-changed', host });
    this.#options.onChange();
  }

  #watch(nics: readonly Nic[]): void {
    const { wire } = this.#options;
    for (const nic of this.#nics)
      if (!nics.some((other) => other.ifIndex === nic.ifIndex)) wire.unwatch(nic.ifIndex);
    for (const nic of nics) wire.watch(nic.ifIndex, nic.mac);
    this.#nics = nics;
  }

  #deliver(event: Event): void {
    if (this.#closed) return;
    const now = this.#timeOf(event);
    this.#beforeStep(now);
    const effects = this.#machine.step(event, now);
    const batches = new FrameBatches();
    const states = new Map<Ip, LocalState>();
    const reports: Report[] = [];
    let evidenceChanged = false;
    for (const effect of effects) {
      if (effect.kind === 'program') this.#program(effect.requests, effect.deadline);
      else if (effect.kind === 'send') this.#collectFrame(batches, effect);
      else if (effect.kind === 'state-changed') states.set(effect.ip, effect.state);
      else if (effect.kind === 'report') reports.push(effect.report);
      else evidenceChanged = true;
    }
    const unsent = batches.send((ifIndex, frames) => this.#options.wire.send(ifIndex, frames).unsent);
    this.#timer.set(this.#machine.deadline());
    // Last: whoever is told may decide something that comes back here at once.
    const names = new Map<number, string | undefined>();
    for (const report of reports) this.#report(report, names);
    if (states.size > 0) this.#options.onLocalChange?.(states);
    if (evidenceChanged) this.#options.onChange();
    if (unsent.probes.length > 0) this.#deliver({ kind: 'probes-unsent', ips: unsent.probes });
    if (unsent.announcements.length > 0)
      this.#deliver({ kind: 'announcements-unsent', frames: unsent.announcements });
  }

  #beforeStep(now: Instant): void {
    if (this.#isBeforeStep || this.#options.beforeStep === undefined) return;
    this.#isBeforeStep = true;
    try {
      this.#options.beforeStep(now);
    } finally {
      this.#isBeforeStep = false;
    }
  }

  #collectFrame(batches: FrameBatches, effect: Extract<Effect, { kind: 'send' }>): void {
    const { ifIndex, ip, to, form } = effect;
    const nic = this.#nics.find((known) => known.ifIndex === ifIndex);
    if (effect.frame === 'announce') return batches.announce(nic, ip, form);
    if (nic === undefined) return;
    const frame =
      to === undefined
        ? probeFrame(nic.mac, ip)
        : unicastProbeFrame(nic.mac, ip, to, ownAddress(this.#machine.host(), nic, ip));
    batches.probe(nic, ip, frame);
  }

  /** `names` are those of netlink ports that are known already. */
  #report(report: Report, names: Map<number, string | undefined>): void {
    const name = 'ifIndex' in report ? interfaceName(this.#machine, report.ifIndex) : undefined;
    const services = this.#machine.desired(report.ip)?.services ?? [];
    const port = report.kind === 'repaired' ? this.#askers.get(report.ip) : undefined;
    this.#askers.delete(report.ip);
    if (port !== undefined && !names.has(port)) names.set(port, netlinkProcess(port));
    const by = port === undefined ? undefined : names.get(port);
    this.#options.onReport({ report, interface: name, services, ...(by === undefined ? {} : { by }) });
  }

  /**
   * One batch at a time: what comes up while the kernel is busy goes with the next one, so that a thousand changes in
   * as many turns of the event loop do not become a thousand round trips, in the order of the queue; each is looked at
   * once more before it goes.
   */
  #program(requests: readonly Program[], deadline: Instant | undefined): void {
    this.#queue.push(requests, deadline);
    if (!this.#isProgramming) this.#programNext();
  }

  #programNext(): void {
    const batch = this.#queue.take();
    this.#isProgramming = batch !== undefined;
    if (batch !== undefined) this.#apply(batch);
  }

  #apply({ requests: asked, deadline }: Batch): void {
    const sentAt = bootTimeMs();
    const failures: Outcome[] = [];
    let requests: readonly Program[] = asked.filter((request) => {
      const refused = this.#refuse(request);
      if (refused !== undefined) failures.push(refused);
      return refused === undefined;
    });
    const refusal = this.#options.ownership.claim(requests.filter(({ op }) => op !== 'remove'));
    if (refusal !== undefined) {
      // Nothing new without memory of it; what is there already is renewed and removed all the same.
      for (const request of requests)
        if (request.op === 'add') failures.push(failure(request, 'EIO', refusal));
      requests = requests.filter(({ op }) => op !== 'add');
    }
    const promotion = allowPromotions(requests, this.#machine.host().nics);
    if (!promotion.ok) {
      for (const request of requests) failures.push(failure(request, 'EPERM', promotion.error));
      requests = [];
    }
    const bounded = deadline === undefined || deadline === NEVER ? {} : { deadline };
    this.#options.rtnetlink
      .apply(requests.map(toAddressRequest), bounded)
      .finally(() => promotion.ok && promotion.restore())
      .then((outcomes) => this.#finish([...named(requests, outcomes), ...failures], sentAt))
      .catch((error: unknown) => {
        // Rtnetlink answers failures as values: a rejection is a bug there, but no reason to stop renewing.
        this.#options.logger.error({ error: errorText(error) }, 'address.program-failed');
        this.#finish(
          asked.map((request) => failure(request, 'EIO', errorText(error))),
          sentAt,
        );
      });
  }

  /** Why a request is not sent that was meant when it was decided. */
  #refuse(request: Program): Outcome | undefined {
    const { ip } = request;
    if (this.#isOthers(request)) return failure(request, 'EADDRNOTAVAIL', `${ip} was not put there by lbd`);
    if (this.#machine.isMeant(request)) return undefined;
    return failure(request, 'ETIME', `${ip} may not be ${request.op === 'add' ? 'added' : 'renewed'} now`);
  }

  /** Somebody put his own in the place of an address of ours, which the machine may not have heard of yet. */
  #isOthers(request: Program): boolean {
    if (request.op === 'add') return false;
    const known = this.#options.rtnetlink.observed().addresses.get(addressKey(request));
    return known !== undefined && !this.#isOurs(known);
  }

  #finish(outcomes: readonly Outcome[], sentAt: Instant): void {
    this.#recordOwnership(outcomes);
    this.#programNext();
    this.#deliver({ kind: 'programmed', outcomes, sentAt });
    this.#addressesChanged([], goneSince(outcomes, this.#options.rtnetlink.observed().addresses));
    if (this.#isProgramming) return;
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const resolve of waiting) resolve();
  }

  #recordOwnership(outcomes: readonly Outcome[]): void {
    const { removed, refused } = ownershipOf(outcomes);
    this.#options.ownership.refused(refused);
    this.#options.ownership.removed(removed);
  }

  /** Time passes only with the timer: any other event of a late turn may come before answers that wait in a socket. */
  #timeOf(event: Event): Instant {
    const now = bootTimeMs();
    const due = this.#machine.deadline();
    if (event.kind === 'time-passed' || now < due) this.#now = now;
    else if (due > this.#now) this.#now = after(due, -TIME_STEP_MS);
    return this.#now;
  }
}
