import type { Entry as Entitlement, LocalState } from '../../src/election/types.ts';
import { LocalAddresses } from '../../src/iface/local-addresses.ts';
import type { Effect, Event, LocalSettings, Outcome, Program, Report } from '../../src/iface/local-types.ts';
import { IFA_F_NODAD, IFA_F_NOPREFIXROUTE } from '../../src/iface/netlink-constants.ts';
import { type HostView, hasLbdTag, viewHost } from '../../src/iface/nic-selection.ts';
import {
  type IfIndex,
  type KernelAddress,
  type KernelRoute,
  LBD_PROTOCOL,
  type Link,
  type Mac,
} from '../../src/iface/types.ts';
import type { WireClaim } from '../../src/iface/wire-claims.ts';
import { familyOf, type Ip } from '../../src/lib/ip.ts';
import { after, type Instant, instant, NEVER } from '../../src/lib/time.ts';

/**
 * A host in memory for the machine of local addresses: a kernel that keeps addresses with lifetimes, a wire on which
 * neighbours answer, and a clock that jumps from deadline to deadline.
 */
export const ETH0 = 2 as IfIndex;
export const ETH1 = 3 as IfIndex;
export const NEIGHBOUR = '02:00:00:00:00:99' as Mac;

const IFF_UP_RUNNING = 0x1 | 0x2 | 0x1000 | 0x10000;

export class FakeHost {
  now: Instant = instant(1_000);
  readonly machine: LocalAddresses;
  readonly kernel = new Map<string, KernelAddress & { readonly expiresAt: Instant }>();
  readonly reports: Report[] = [];
  readonly frames: {
    readonly at: Instant;
    readonly frame: 'probe' | 'announce';
    readonly ip: Ip;
    /** Of a probe for one station. */
    readonly to: Mac | undefined;
  }[] = [];
  readonly states: { readonly at: Instant; readonly ip: Ip; readonly state: LocalState }[] = [];
  readonly programs: { readonly at: Instant; readonly requests: readonly Program[] }[] = [];
  evidenceChanges = 0;
  /** The process stands still for so long between the next decision and its system call. */
  freezeMs = 0;
  /** Addresses that a neighbour answers for. */
  readonly neighbours = new Map<Ip, Mac>();
  /** Requests that the kernel refuses, by address. */
  readonly refusals = new Map<Ip, { readonly errno: string; readonly message: string }>();
  /** Whether the NIC takes frames. */
  sends = true;
  links: readonly Link[] = [link(ETH0, 'eth0')];
  routes: readonly KernelRoute[] = [defaultRoute(ETH0, '192.0.2.1' as Ip)];
  patterns: readonly string[] = [];

  constructor(settings: LocalSettings = { prefix: 'host', lifetimeMs: 30_000 }) {
    this.machine = new LocalAddresses(settings);
    this.putHostAddress(ETH0, '192.0.2.2' as Ip, 24);
  }

  /** Tells the machine what the kernel has, as at start. */
  start(): this {
    this.observe();
    const ours = [...this.kernel.values()].filter(hasLbdTag);
    this.deliver({ kind: 'addresses-changed', present: ours, gone: [] });
    return this;
  }

  want(...ips: readonly string[]): this {
    return this.plan(ips, []);
  }

  /** Wants these, to be taken in that manner. */
  grant(entry: Entitlement, ...ips: readonly string[]): this {
    return this.plan(ips, [], entry);
  }

  plan(ips: readonly string[], candidates: readonly string[], entry?: Entitlement): this {
    const manner = entry === undefined ? {} : { entry };
    const addresses = ips.map((ip) => ({ ip: ip as Ip, services: [`default/${ip}`], ...manner }));
    this.deliver({ kind: 'desired-changed', addresses, candidates: candidates as readonly Ip[] });
    return this;
  }

  view(): HostView {
    return viewHost(
      { links: this.links, addresses: this.kernel.values(), routes: this.routes },
      { interfaces: this.patterns },
      hasLbdTag,
    );
  }

  observe(): this {
    this.deliver({ kind: 'host-changed', host: this.view() });
    return this;
  }

  putHostAddress(ifIndex: IfIndex, ip: Ip, prefixLength: number): void {
    const address = kernelAddress(ifIndex, ip, prefixLength, undefined, Number.POSITIVE_INFINITY);
    this.kernel.set(`${ifIndex} ${ip}/${prefixLength}`, { ...address, expiresAt: NEVER });
  }

  putOwnAddress(ifIndex: IfIndex, ip: Ip, prefixLength: number, validSeconds: number): void {
    const address = ownAddress(ifIndex, ip, prefixLength, validSeconds);
    const expiresAt = instant(this.now + validSeconds * 1000);
    this.kernel.set(`${ifIndex} ${ip}/${prefixLength}`, { ...address, expiresAt });
  }

  /** Somebody removes an address from outside; the kernel tells. */
  removeByHand(ip: string): void {
    const gone = [...this.kernel.values()].filter((address) => address.ip === ip);
    for (const address of gone)
      this.kernel.delete(`${address.ifIndex} ${address.ip}/${address.prefixLength}`);
    this.deliver({ kind: 'addresses-changed', present: [], gone: gone.filter(hasLbdTag) });
    this.observe();
  }

  /** Somebody changes an address of ours from outside; the kernel tells. */
  changeByHand(ip: string, change: Partial<KernelAddress>): void {
    // What comes of it may put it there anew.
    for (const [key, address] of [...this.kernel]) {
      if (address.ip !== ip || !hasLbdTag(address)) continue;
      const changed = { ...address, ...change };
      const expiresAt = after(this.now, changed.validSeconds * 1000);
      this.kernel.set(key, { ...changed, expiresAt });
      this.deliver({ kind: 'addresses-changed', present: [changed], gone: [] });
    }
  }

  status(ip: string): string | undefined {
    return this.machine.entries().get(ip as Ip)?.status;
  }

  holds(ip: string): boolean {
    return [...this.kernel.values()].some((address) => address.ip === ip && hasLbdTag(address));
  }

  /** Lets time pass; the machine runs at each of its deadlines and the kernel expires what is due. */
  advance(ms: number): this {
    const until = instant(this.now + ms);
    for (let steps = 0; steps < 100_000; steps++) {
      const expiry = Math.min(...[...this.kernel.values()].map((address) => address.expiresAt));
      const next = Math.max(this.now, Math.min(this.machine.deadline(), expiry, until));
      this.now = instant(next);
      this.#expire();
      if (this.machine.deadline() <= this.now) this.deliver({ kind: 'time-passed' });
      if (this.now >= until && this.machine.deadline() > this.now) return this;
    }
    throw new Error(`the machine never rests: its deadline stays at ${this.machine.deadline()}`);
  }

  /** The process does not run for `ms`; the kernel and the wire go on. */
  pause(ms: number): this {
    this.now = instant(this.now + ms);
    this.#expire();
    this.deliver({ kind: 'time-passed' });
    return this;
  }

  /** A frame on the wire. */
  hear(ip: string, mac: Mac, kind: WireClaim['kind'] = 'has', ifIndex = ETH0): this {
    this.deliver({ kind: 'claim-heard', ifIndex, claim: { ip: ip as Ip, mac, kind } });
    return this;
  }

  deliver(event: Event): void {
    const queue: Event[] = [event];
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      for (const effect of this.machine.step(next, this.now)) queue.push(...this.#carryOut(effect));
    }
  }

  #carryOut(effect: Effect): readonly Event[] {
    switch (effect.kind) {
      case 'program':
        return this.#program(effect.requests, effect.deadline);
      case 'send':
        return this.#send(effect);
      case 'state-changed':
        this.states.push({ at: this.now, ip: effect.ip, state: effect.state });
        return [];
      case 'report':
        this.reports.push(effect.report);
        return [];
      case 'evidence-changed':
        this.evidenceChanges += 1;
        return [];
      default:
        return effect satisfies never;
    }
  }

  #program(requests: readonly Program[], deadline: Instant | undefined): readonly Event[] {
    this.programs.push({ at: this.now, requests });
    this.now = instant(this.now + this.freezeMs);
    this.freezeMs = 0;
    const late = deadline !== undefined && this.now > deadline;
    const present: KernelAddress[] = [];
    const gone: KernelAddress[] = [];
    const outcomes = requests.map((request): Outcome => {
      if (late) return { ok: false, request, errno: 'ETIME', message: 'deadline passed' };
      return this.#apply(request, present, gone);
    });
    return [
      { kind: 'programmed', outcomes, sentAt: this.now },
      { kind: 'addresses-changed', present, gone },
    ];
  }

  #apply(request: Program, present: KernelAddress[], gone: KernelAddress[]): Outcome {
    const refusal = this.refusals.get(request.ip);
    if (refusal !== undefined) return { ok: false, request, ...refusal };
    const key = `${request.ifIndex} ${request.ip}/${request.prefixLength}`;
    const existing = this.kernel.get(key);
    if (request.op === 'remove') {
      if (existing === undefined) return { ok: false, request, errno: 'EADDRNOTAVAIL', message: 'not there' };
      if (!hasLbdTag(existing)) throw new Error(`removed an address that is not lbd's: ${key}`);
      this.kernel.delete(key);
      gone.push(existing);
      return { ok: true, request };
    }
    if (request.op === 'add' && existing !== undefined) {
      return { ok: false, request, errno: 'EEXIST', message: 'exists' };
    }
    if (existing !== undefined && !hasLbdTag(existing))
      throw new Error(`changed an address not lbd's: ${key}`);
    const seconds = request.lifetimeMs === 0 ? Number.POSITIVE_INFINITY : request.lifetimeMs / 1000;
    this.putOwnAddress(request.ifIndex, request.ip, request.prefixLength, seconds);
    const put = this.kernel.get(key);
    if (put !== undefined) present.push(put);
    return { ok: true, request };
  }

  #send({ frame, ip, ifIndex, to }: Extract<Effect, { kind: 'send' }>): readonly Event[] {
    if (!this.sends) return [unsent(frame, ip)];
    this.frames.push({ at: this.now, frame, ip, to });
    const mac = this.neighbours.get(ip);
    if (frame !== 'probe' || mac === undefined || (to !== undefined && to !== mac)) return [];
    return [{ kind: 'claim-heard', ifIndex, claim: { ip, mac, kind: 'has' } }];
  }

  #expire(): void {
    const gone = [...this.kernel.values()].filter((address) => address.expiresAt <= this.now);
    if (gone.length === 0) return;
    for (const address of gone)
      this.kernel.delete(`${address.ifIndex} ${address.ip}/${address.prefixLength}`);
    this.deliver({ kind: 'addresses-changed', present: [], gone });
  }
}

/** The word on what did not leave; of an announcement, the first form alone. */
function unsent(frame: 'probe' | 'announce', ip: Ip): Event {
  if (frame === 'probe') return { kind: 'probes-unsent', ips: [ip] };
  return { kind: 'announcements-unsent', frames: [{ ip, form: 'first' }] };
}

export function link(index: IfIndex, name: string, overrides: Partial<Link> = {}): Link {
  return {
    index,
    name,
    flags: IFF_UP_RUNNING,
    type: 1,
    mac: `02:00:00:00:00:0${index}` as Mac,
    master: undefined,
    kind: undefined,
    ...overrides,
  };
}

export function defaultRoute(ifIndex: IfIndex, gateway: Ip): KernelRoute {
  const family = gateway.includes(':') ? 'v6' : 'v4';
  const destination = { network: (family === 'v4' ? '0.0.0.0' : '::') as Ip, length: 0 };
  return { family, destination, gateway, ifIndex, metric: 0, table: 254, protocol: 3, type: 1 };
}

/** As lbd puts one there. */
function ownAddress(ifIndex: IfIndex, ip: Ip, prefixLength: number, validSeconds: number): KernelAddress {
  const address = kernelAddress(ifIndex, ip, prefixLength, LBD_PROTOCOL, validSeconds);
  if (familyOf(ip) === 'v4') return { ...address, flags: IFA_F_NOPREFIXROUTE };
  return { ...address, flags: IFA_F_NOPREFIXROUTE | IFA_F_NODAD, preferredSeconds: 0 };
}

export function kernelAddress(
  ifIndex: IfIndex,
  ip: Ip,
  prefixLength: number,
  protocol: number | undefined,
  validSeconds: number,
): KernelAddress {
  return {
    ifIndex,
    ip,
    prefixLength,
    scope: 0,
    flags: 0,
    protocol,
    preferredSeconds: validSeconds,
    validSeconds,
  };
}
