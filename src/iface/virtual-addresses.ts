import { formatPrefix, type Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { isAddressRequest, isRouteRequest } from './netlink-requests.ts';
import type { Observed } from './observed.ts';
import { retryAfterRefusal } from './refusal-pace.ts';
import type { AddressRequest, AddressStatus, KernelRequest, RouteRequest } from './types.ts';
import { isVirtualLink, loadModule, type VirtualLinkType, WHY_BRIDGE } from './virtual-link.ts';
import {
  planRemoval,
  planVirtual,
  prefixLengthOf,
  type VirtualInput,
  type VirtualPlan,
} from './virtual-plan.ts';
import type { DesiredVirtual, VirtualLinkStatus, VirtualReport, VirtualSettings } from './virtual-types.ts';

/**
 * The virtual addresses of one host over time: what was wanted last, what the kernel refused and when it is asked again,
 * and what disappeared without us. What is to be done at a moment is `planVirtual()`; this remembers what that cannot
 * see in the kernel. Pure but for its own state: no clock, no I/O. Bounded by the addresses that are wanted.
 */

/**
 * The same is asked so often in a second at most, though it is granted: somebody else may want an address away as much as
 * lbd wants it there.
 */
const REPEATS_MAX = 3;
const REPEATS_MS = 1_000;

type Failure = { readonly message: string; readonly attempts: number; readonly retryAt: Instant };

export type VirtualOutcome =
  | { readonly ok: true; readonly request: KernelRequest }
  | { readonly ok: false; readonly request: KernelRequest; readonly errno: string; readonly message: string };

export type VirtualAddressesOptions = Pick<VirtualInput, 'settings' | 'isOurs' | 'kernelTags'>;

export class VirtualAddresses {
  readonly #options: VirtualAddressesOptions;
  /** Undefined until it is known what is wanted: until then everything stays as it is. */
  #desired: ReadonlyMap<Ip, DesiredVirtual> | undefined;
  #isComplete = false;
  #isLocal: VirtualInput['isLocal'] = () => false;
  #isStopped = false;
  /** By what was asked. */
  readonly #failures = new Map<string, Failure>();
  /** Since when the kernel has had each. */
  readonly #since = new Map<Ip, Instant>();
  /** What was done, how often since when. Swept of what is older than REPEATS_MS. */
  readonly #done = new Map<string, { readonly since: Instant; count: number }>();
  #sweptAt = 0 as Instant;
  #repairs = 0;
  /** Of each address that is wanted. */
  readonly #repairsOf = new Map<Ip, number>();
  /** The link was there, up and lbd's own, when the kernel was last looked at. */
  #hadLink = false;
  /** The routes that were there when they were last read or have been granted since, of those that lbd makes itself. */
  #hadRoutes = new Set<string>();
  /** The routes that were to be made when the kernel was last looked at. */
  #lackedRoutes: ReadonlySet<string> = new Set();
  #type: VirtualLinkType;
  #obstacle: string | undefined;
  #nextRepeatAt: Instant = NEVER;
  #reports: VirtualReport[] = [];

  constructor(options: VirtualAddressesOptions) {
    this.#options = options;
    const { type } = options.settings;
    this.#type = type === 'auto' ? 'dummy' : type;
  }

  /**
   * What is wanted from now on, whole; of an incomplete list, nothing is concluded from what is not in it, unless it is
   * known to be local. Returns whether anything has to be done that was not before.
   */
  want(
    desired: readonly DesiredVirtual[],
    isComplete: boolean,
    isLocal: VirtualInput['isLocal'] = () => false,
  ): boolean {
    const before = this.#desired;
    const isSame =
      before?.size === desired.length &&
      isComplete === this.#isComplete &&
      desired.every((address) => isSameWish(address, before.get(address.ip)));
    this.#desired = new Map(desired.map((address) => [address.ip, address]));
    this.#isComplete = isComplete;
    this.#isLocal = isLocal;
    if (isSame) return false;
    for (const map of [this.#since, this.#repairsOf])
      for (const ip of map.keys()) if (!this.#desired.has(ip)) map.delete(ip);
    return true;
  }

  /** The daemon stops for good: everything of ours goes. */
  stop(): void {
    this.#isStopped = true;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** What the kernel is to be asked now; nothing when all is as it should be or has to wait. */
  requests(observed: Observed, now: Instant): readonly KernelRequest[] {
    if (this.#isStopped) return planRemoval({ ...this.#options, type: this.#type, observed });
    const plan = this.#plan(observed);
    if (plan === undefined) return [];
    this.#noticeChanges(plan, observed.connectedRoutes !== undefined, now);
    this.#sweep(now);
    const asked = new Set(plan.requests.map(keyOf));
    for (const key of this.#failures.keys()) if (!asked.has(key)) this.#failures.delete(key);
    this.#nextRepeatAt = NEVER;
    const areRoutesKnown = observed.connectedRoutes !== undefined;
    return plan.requests.filter((request) => {
      // It was granted, and is not seen because routes have not been read since.
      if (!areRoutesKnown && request.kind === 'add-route' && this.#hasRoute(request)) return false;
      return this.#isDue(keyOf(request), now);
    });
  }

  #hasRoute({ destination }: RouteRequest): boolean {
    return this.#hadRoutes.has(formatPrefix(destination));
  }

  #routeGranted({ kind, destination }: RouteRequest): void {
    if (this.#options.settings.routes === undefined) return;
    const route = formatPrefix(destination);
    if (kind === 'add-route') this.#hadRoutes.add(route);
    else this.#hadRoutes.delete(route);
  }

  /** What became of what was asked. */
  answered(outcomes: readonly VirtualOutcome[], now: Instant): void {
    let added = 0;
    let removed = 0;
    for (const outcome of outcomes) {
      if (outcome.ok) {
        this.#failures.delete(keyOf(outcome.request));
        this.#count(keyOf(outcome.request), now);
        if (outcome.request.kind === 'add') added += 1;
        else if (outcome.request.kind === 'delete') removed += 1;
        else if (outcome.request.kind === 'create-link') this.#linkMade();
        else if (isRouteRequest(outcome.request)) this.#routeGranted(outcome.request);
      } else this.#failed(outcome, now);
    }
    if (added + removed > 0) this.#reports.push({ kind: 'programmed', added, removed });
  }

  /** When to ask `requests()` again though nothing happened. */
  deadline(): Instant {
    let at = this.#nextRepeatAt;
    for (const { retryAt } of this.#failures.values()) at = earliest(at, retryAt);
    return at;
  }

  /** What happened since the last call. */
  takeReports(): readonly VirtualReport[] {
    const reports = this.#reports;
    this.#reports = [];
    return reports;
  }

  statuses(observed: Observed, now: Instant): readonly AddressStatus[] {
    const plan = this.#plan(observed);
    if (plan === undefined || this.#desired === undefined) return [];
    return [...this.#desired.values()].map((wanted) => this.#status(wanted, plan, now));
  }

  linkStatus(observed: Observed): VirtualLinkStatus {
    const { settings, isOurs } = this.#options;
    const link = [...observed.links.values()].find(({ name }) => name === settings.interface);
    const isOwn = link !== undefined && isVirtualLink(link);
    let addresses = 0;
    if (isOwn) {
      for (const address of observed.addresses.values())
        if (address.ifIndex === link.index && isOurs(address)) addresses += 1;
    }
    return {
      interface: settings.interface,
      type: isOwn ? (link.kind as VirtualLinkType) : undefined,
      addresses,
      repairs: this.#repairs,
      obstacle: this.#obstacle,
      note: isOwn && link.kind === 'bridge' ? whyBridge(settings) : undefined,
    };
  }

  #plan(observed: Observed): VirtualPlan | undefined {
    if (this.#desired === undefined) return undefined;
    const { settings, isOurs, kernelTags } = this.#options;
    const desired = this.#desired;
    return planVirtual({
      settings,
      isOurs,
      kernelTags,
      desired,
      isComplete: this.#isComplete,
      isLocal: this.#isLocal,
      observed,
      type: this.#type,
    });
  }

  #isDue(key: string, now: Instant): boolean {
    const failure = this.#failures.get(key);
    if (failure !== undefined && now < failure.retryAt) return false;
    const done = this.#done.get(key);
    if (done === undefined || done.count < REPEATS_MAX) return true;
    const againAt = after(done.since, REPEATS_MS);
    if (now >= againAt) return true;
    this.#nextRepeatAt = earliest(this.#nextRepeatAt, againAt);
    return false;
  }

  #count(key: string, now: Instant): void {
    const done = this.#done.get(key);
    if (done === undefined || now >= after(done.since, REPEATS_MS))
      this.#done.set(key, { since: now, count: 1 });
    else done.count += 1;
  }

  #sweep(now: Instant): void {
    if (now < after(this.#sweptAt, REPEATS_MS)) return;
    this.#sweptAt = now;
    for (const [key, { since }] of this.#done) if (now >= after(since, REPEATS_MS)) this.#done.delete(key);
  }

  /** What the kernel has by now, and what it has no more though it is wanted. */
  #noticeChanges(plan: VirtualPlan, areRoutesKnown: boolean, now: Instant): void {
    const obstacle = plan.link.kind === 'obstructed' ? plan.link.reason : undefined;
    if (obstacle !== undefined && obstacle !== this.#obstacle)
      this.#reports.push({ kind: 'link-failed', reason: obstacle });
    if (plan.link.kind !== 'missing') this.#obstacle = obstacle;
    const missing: Ip[] = [];
    for (const { ip, standing } of this.#desired?.values() ?? []) {
      if (plan.present.has(ip)) {
        if (!this.#since.has(ip)) this.#since.set(ip, now);
      } else if (this.#since.delete(ip) && standing === 'here') missing.push(ip);
    }
    const hasLostLink = this.#noticeLink(plan);
    const lostRoutes = this.#noticeRoutes(plan, areRoutesKnown);
    // On a link that is somebody else's by now, nothing is put right.
    if (obstacle !== undefined) return;
    for (const ip of missing) this.#repairsOf.set(ip, (this.#repairsOf.get(ip) ?? 0) + 1);
    const repairs = missing.length + lostRoutes.length + (hasLostLink ? 1 : 0);
    if (repairs === 0) return;
    this.#repairs += repairs;
    this.#reports.push({
      kind: 'repaired',
      link: hasLostLink,
      addresses: missing.length,
      routes: lostRoutes.length,
      example: missing[0],
      route: lostRoutes[0],
    });
  }

  /** Whether it is to be made, raised or marked, and was not when it was last looked at. */
  #noticeLink({ link, requests }: VirtualPlan): boolean {
    const hadLink = this.#hadLink;
    const isToBeMade = requests.some(makesLink);
    this.#hadLink = link.kind === 'ready' && !isToBeMade;
    // With the link, all that is on it goes, and with its being up all routes.
    const isUp = link.kind === 'ready' && !requests.some(({ kind }) => kind === 'raise-link');
    if (!isUp) this.#hadRoutes.clear();
    return hadLink && isToBeMade;
  }

  /**
   * Which routes somebody took away since the last look: of those that the kernel makes, each that is to be made, because
   * it does that with the address; of lbd's own, each that was there, once it has been read whether it still is.
   */
  #noticeRoutes({ requests, routes }: VirtualPlan, areKnown: boolean): readonly string[] {
    const isOwn = this.#options.settings.routes !== undefined;
    const lacked = new Set<string>();
    for (const request of requests)
      if (request.kind === 'add-route') lacked.add(formatPrefix(request.destination));
    const before = this.#lackedRoutes;
    this.#lackedRoutes = areKnown ? lacked : lacked.union(before);
    if (!isOwn) return [...lacked.difference(before)];
    if (!areKnown) return [];
    const had = this.#hadRoutes;
    this.#hadRoutes = new Set(routes);
    return [...lacked.intersection(had)];
  }

  #linkMade(): void {
    this.#obstacle = undefined;
    const reason = this.#type === 'bridge' ? whyBridge(this.#options.settings) : undefined;
    this.#reports.push({ kind: 'link-made', type: this.#type, reason });
  }

  #failed({ request, errno, message }: Extract<VirtualOutcome, { ok: false }>, now: Instant): void {
    // What was to be gone is, and what is to be on a link that went has to wait for that news. Should it never come, the
    // same is not asked for ever.
    const isGone =
      (request.kind === 'delete' && errno === 'EADDRNOTAVAIL') ||
      (request.kind === 'delete-route' && errno === 'ESRCH') ||
      errno === 'ENODEV' ||
      // A kernel without that family has nothing to configure.
      (request.kind === 'configure-link' && errno === 'EAFNOSUPPORT');
    if (isGone) return this.#count(keyOf(request), now);
    const isTypeMissing = request.kind === 'create-link' && errno === 'EOPNOTSUPP';
    if (isTypeMissing && this.#options.settings.type === 'auto' && this.#type === 'dummy') {
      this.#type = 'bridge';
      return;
    }
    const key = keyOf(request);
    const attempts = (this.#failures.get(key)?.attempts ?? 0) + 1;
    const reason = isTypeMissing
      ? `the kernel has no ${this.#type} device for ${request.name}: ${loadModule(this.#type)}`
      : message;
    const retryAt = retryAfterRefusal(attempts, now);
    this.#failures.set(key, { message: reason, attempts, retryAt });
    if (request.kind === 'create-link') {
      this.#obstacle = reason;
      if (attempts === 1) this.#reports.push({ kind: 'link-failed', reason });
      return;
    }
    // The word of an addition that was made may come before the notification of it.
    if (attempts === (errno === 'EEXIST' ? 2 : 1)) this.#reports.push({ kind: 'failed', reason });
  }

  #status(wanted: DesiredVirtual, plan: VirtualPlan, now: Instant): AddressStatus {
    const { ip, services, standing, reason } = wanted;
    const { settings } = this.#options;
    const isPresent = plan.present.has(ip);
    const prefixLength = prefixLengthOf(wanted, settings);
    const since = this.#since.get(ip) ?? now;
    const common = {
      ip,
      services,
      kind: 'virtual' as const,
      interface: isPresent ? settings.interface : undefined,
      prefixLength: isPresent ? prefixLength : undefined,
      lifetimeLeftMs: isPresent ? ('permanent' as const) : undefined,
      heldSinceMs: isPresent ? now - since : undefined,
      announcements: 0,
      unsentFrames: 0,
      repairs: this.#repairsOf.get(ip) ?? 0,
      reason,
    };
    if (isPresent) return { ...common, state: 'held' };
    if (standing === 'nowhere' || standing === 'kept') return { ...common, state: 'unserved' };
    if (standing !== 'here') return { ...common, state: 'elsewhere' };
    const obstacle = plan.link.kind === 'obstructed' ? plan.link.reason : this.#obstacle;
    if (plan.link.kind !== 'ready' && obstacle !== undefined)
      return { ...common, state: 'no-interface', reason: obstacle };
    const ifIndex = plan.link.kind === 'ready' ? plan.link.link.index : undefined;
    const failure =
      ifIndex === undefined
        ? undefined
        : this.#failures.get(addressKey({ kind: 'add', ip, prefixLength, ifIndex }));
    if (failure !== undefined) return { ...common, state: 'failed', reason: failure.message };
    return { ...common, state: 'adding' };
  }
}

function makesLink({ kind }: KernelRequest): boolean {
  return kind === 'create-link' || kind === 'raise-link' || kind === 'mark-link';
}

function isSameWish(wanted: DesiredVirtual, before: DesiredVirtual | undefined): boolean {
  if (before === undefined || wanted.standing !== before.standing) return false;
  const [now, then] = [wanted.route, before.route];
  return now.length === then.length && now.network === then.network;
}

/** Also of a bridge that another lbd made: the reason stays as long as the link does. */
function whyBridge({ type }: VirtualSettings): string | undefined {
  return type === 'auto' ? WHY_BRIDGE : undefined;
}

/**
 * What a request is about, so that its failure is found again. On another link it is about something else: what a link
 * that is just going has refused, or granted, is no reason to wait on the next one.
 */
function keyOf(request: KernelRequest): string {
  if (isAddressRequest(request)) return addressKey(request);
  if (isRouteRequest(request))
    return `${request.kind} ${formatPrefix(request.destination)} on ${request.ifIndex}`;
  if (request.kind === 'create-link') return request.kind;
  const family = request.kind === 'configure-link' ? request.family : '';
  return `${request.kind} ${family} ${request.ifIndex}`;
}

function addressKey({
  kind,
  ip,
  prefixLength,
  ifIndex,
}: Pick<AddressRequest, 'kind' | 'ip' | 'prefixLength' | 'ifIndex'>): string {
  return `${kind} ${ip}/${prefixLength} on ${ifIndex}`;
}
