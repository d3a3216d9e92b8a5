import assert from 'node:assert/strict';
import type { Effect, Report } from '../../../src/election/effects.ts';
import type { ClaimUpdate, HandOver, HandOverDone, Message } from '../../../src/election/message.ts';
import { Ownership } from '../../../src/election/ownership.ts';
import { type ElectionSettings, PROFILES } from '../../../src/election/settings.ts';
import type {
  Claim,
  Endpoint,
  Grant,
  Member,
  MemberMeta,
  MemberName,
  SegmentKey,
  Silence,
  Wanted,
} from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { type Ip, ipFromNumber, type Prefix } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';

/**
 * Some `Ownership` machines on one clock, with just enough around them: who is a member is told by the test, gossip
 * arrives at everybody once after a while, and a wire knows who answers for what. The real parts meet in test/sim.
 */

export const SUBNET: Prefix = { network: '10.0.0.0' as Ip, length: 16 };
export const SEGMENT = '10.0.0.0/16' as SegmentKey;
export const SETTINGS: ElectionSettings = PROFILES.lan;
export const START = instant(1_000);
/** Until a kernel has an address, by how it is entered. */
const TAKING_MS: Readonly<Record<Grant['entry']['kind'], number>> = {
  first: 200,
  return: 60,
  'hand-over': 4,
  'take-over': 40,
};

export function address(index: number): Ip {
  return ipFromNumber('v4', BigInt(0x0a00_8000 + index));
}

export function nameOf(index: number): MemberName {
  return `host-${index}` as MemberName;
}

export function metaOf(index: number, changes: Partial<MemberMeta> = {}): MemberMeta {
  const ip = ipFromNumber('v4', BigInt(0x0a00_0001 + index));
  return {
    endpoint: { ip, port: 7946 },
    node: `node-${index}`,
    version: '1.0.0',
    segments: [{ subnet: SUBNET, ip, mac: macOf(index) }],
    drained: false,
    weight: 100,
    configDigest: '00000000',
    lifetimeMs: 10_000,
    ...changes,
  };
}

export function macOf(index: number): Mac {
  return `02:00:00:00:${(index >> 8).toString(16).padStart(2, '0')}:${(index & 0xff).toString(16).padStart(2, '0')}` as Mac;
}

export function wantedOf(ips: Iterable<Ip>, changes: Partial<Wanted> = {}): Wanted {
  const addresses = new Map([...ips].map((ip) => [ip, { ip, nodes: undefined }] as const));
  return { addresses, excludedNodes: new Set(), fresh: true, ...changes };
}

export class Host {
  readonly index: number;
  readonly name: MemberName;
  readonly members = new Map<MemberName, Member>();
  readonly silences = new Map<MemberName, Silence>();
  readonly reports: Report[] = [];
  readonly effects: Effect[] = [];
  readonly out: Effect[] = [];
  /** What the kernel answers for. */
  readonly held = new Set<Ip>();
  /** What iface is at, by the entry it was told. */
  readonly taking = new Map<Ip, Grant>();
  meta: MemberMeta;
  ownership: Ownership;
  /** The process runs. */
  lives = true;

  constructor(cluster: Cluster, index: number, restored: readonly Claim[] = []) {
    this.index = index;
    this.name = nameOf(index);
    this.meta = metaOf(index);
    this.ownership = Host.machine(cluster, this, restored);
  }

  /** A machine that starts now, with the claims of an earlier life. */
  static machine(cluster: Cluster, host: Host, restored: readonly Claim[]): Ownership {
    return new Ownership({
      name: host.name,
      settings: cluster.settings,
      random: cluster.random,
      out: host.out,
      members: () => host.members,
      silence: (name) => host.silences.get(name),
      broadcast: (update) => cluster.gossip(host, update),
      meta: host.meta,
      restored,
      startedAt: cluster.now,
    });
  }

  grant(ip: Ip): Grant | undefined {
    return this.ownership.grants().get(ip);
  }
}

type Happening = { readonly at: Instant; readonly happen: () => void };

export type ClusterOptions = {
  readonly hosts: number;
  readonly seed?: number;
  readonly settings?: Partial<ElectionSettings>;
  /** Gossip takes up to so long. */
  readonly gossipMs?: number;
  /** The part of packets between two hosts that gets lost. */
  readonly loss?: number;
};

export class Cluster {
  readonly hosts: Host[] = [];
  readonly random: Random;
  readonly settings: ElectionSettings;
  now: Instant = START;
  /** How long two hosts answered for one address, the longest case. */
  longestDoubleMs = 0;
  /** How long nobody answered for an address that was answered for before, the longest case that ended. */
  longestGapMs = 0;
  /** How often an address became held anywhere. */
  readonly takes = new Map<Ip, number>();
  packets = 0;
  /** Undefined: the packet goes its way. */
  blocked: ((from: Host, to: Host) => boolean) | undefined;
  refuses: ((host: Host, ip: Ip) => boolean) | undefined;
  /** Hosts whose port is dead: nobody hears them, whatever they answer. */
  readonly unplugged = new Set<Host>();
  readonly #gossipMs: number;
  readonly #loss: number;
  #happenings: Happening[] = [];
  readonly #doubles = new Map<Ip, Instant>();
  readonly #gaps = new Map<Ip, Instant>();

  constructor({ hosts, seed = 1, settings = {}, gossipMs = 60, loss = 0 }: ClusterOptions) {
    this.random = seededRandom(seed);
    this.settings = { ...SETTINGS, ...settings };
    this.#gossipMs = gossipMs;
    this.#loss = loss;
    for (let index = 0; index < hosts; index++) this.hosts.push(new Host(this, index));
    for (const host of this.hosts) for (const other of this.hosts) this.introduce(other, host);
  }

  host(index: number): Host {
    const host = this.hosts[index];
    assert.ok(host !== undefined, `there is no host ${index}`);
    return host;
  }

  hostNamed(name: MemberName | undefined): Host {
    return this.host(this.hosts.findIndex((host) => host.name === name));
  }

  /** Runs until `now` has moved on by `ms`. */
  run(ms: number): void {
    const until = after(this.now, ms);
    for (;;) {
      const next = this.#next();
      if (next > until) break;
      this.now = next > this.now ? next : this.now;
      while ((this.#happenings.at(-1)?.at ?? NEVER) <= this.now) this.#happenings.pop()?.happen();
      for (const host of this.hosts) {
        if (host.lives && host.ownership.deadline() <= this.now)
          this.do(host, () => host.ownership.advance(this.now));
      }
    }
    this.now = until;
  }

  want(wanted: Wanted, hosts: readonly Host[] = this.hosts): void {
    for (const host of hosts) this.do(host, () => host.ownership.wantedChanged(wanted, this.now));
  }

  /** One step of a host, with what follows from it. */
  do(host: Host, step: () => void): void {
    if (!host.lives) return;
    step();
    const effects = host.out.splice(0);
    host.effects.push(...effects);
    for (const effect of effects) {
      if (effect.kind === 'send') this.#deliver(host, effect.to, effect.message);
      else if (effect.kind === 'report') host.reports.push(effect.report);
      else if (effect.kind === 'exchange') this.#exchange(host, effect.with);
      else if (effect.kind === 'grants-changed') this.settleIface(host);
    }
    for (const [ip, grant] of host.taking) if (grant.entry.kind === 'take-over') this.#tryTakeOver(host, ip);
  }

  gossip(from: Host, update: ClaimUpdate): void {
    for (const to of this.hosts) {
      if (to === from) continue;
      this.later(1 + this.random() * this.#gossipMs, () => {
        if (!to.lives || this.#isBlocked(from, to)) return;
        this.do(to, () => to.ownership.claimsHeard([update], from.name, this.now));
      });
    }
  }

  later(ms: number, happen: () => void): void {
    const happening: Happening = { at: after(this.now, ms), happen };
    // The last is the next, so that those due are taken from the end.
    let low = 0;
    let high = this.#happenings.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#happenings[middle];
      if (other !== undefined && other.at > happening.at) low = middle + 1;
      else high = middle;
    }
    this.#happenings.splice(low, 0, happening);
  }

  // --- members ----------------------------------------------------------------------------------------------------

  introduce(about: Host, to: Host): void {
    if (about === to) return;
    this.tell(to, about, { state: 'alive', meta: about.meta });
  }

  /** What `to` is told of `about`. */
  tell(to: Host, about: Host, news: Partial<Member>, silence?: Silence): void {
    const known = to.members.get(about.name);
    const before = known ?? {
      name: about.name,
      incarnation: 0,
      state: 'alive',
      meta: about.meta,
      since: this.now,
    };
    to.members.set(about.name, { ...before, ...news, since: this.now });
    if (silence === undefined) to.silences.delete(about.name);
    else to.silences.set(about.name, silence);
    if (to.lives) this.do(to, () => to.ownership.membersChanged([about.name], this.now));
  }

  tellAll(about: Host, news: Partial<Member>, silence?: Silence): void {
    for (const to of this.hosts) if (to !== about) this.tell(to, about, news, silence);
  }

  setMeta(host: Host, changes: Partial<MemberMeta>): void {
    host.meta = { ...host.meta, ...changes };
    this.do(host, () => host.ownership.ownChanged(host.meta, this.now));
    this.tellAll(host, { meta: host.meta });
  }

  /** A host loses its power: silent at once, judged after `detectedMs`, by everybody within `spreadMs` more. */
  kill(host: Host, detectedMs = 150, spreadMs = 20): void {
    const diedAt = this.now;
    host.lives = false;
    for (const ip of host.held) this.#serves(host, ip, false);
    const silence: Silence = { why: 'silent', lastHeardAt: diedAt, leaseEndsAt: after(diedAt, 10_000) };
    for (const to of this.hosts) {
      if (to === host) continue;
      this.later(detectedMs + this.random() * spreadMs, () => {
        if (!host.lives) this.tell(to, host, { state: 'suspect' }, silence);
      });
    }
  }

  // --- results ----------------------------------------------------------------------------------------------------

  /** Who answers for `ip`, and is heard. */
  serving(ip: Ip): readonly MemberName[] {
    return this.hosts
      .filter((host) => host.held.has(ip) && !this.unplugged.has(host))
      .map((host) => host.name);
  }

  unplug(host: Host): void {
    this.unplugged.add(host);
    for (const ip of host.held) this.#count(ip);
  }

  plug(host: Host): void {
    this.unplugged.delete(host);
    for (const ip of host.held) this.#count(ip);
  }

  owners(ips: Iterable<Ip>): Map<Ip, string> {
    return new Map([...ips].map((ip) => [ip, this.serving(ip).join(' and ')]));
  }

  /** Every live host has the same claims, and each address is answered by whom they name. */
  checkAgreement(ips: Iterable<Ip>): void {
    const alive = this.hosts.filter((host) => host.lives);
    for (const ip of ips) {
      const claims = new Set(alive.map((host) => JSON.stringify(host.ownership.claims().get(ip))));
      assert.equal(claims.size, 1, `${ip} is claimed as ${[...claims].join(' and ')}`);
      const owner = alive[0]?.ownership.claims().get(ip)?.owner;
      assert.deepEqual(this.serving(ip), owner === undefined ? [] : [owner], `who serves ${ip}`);
    }
    const digests = new Set(alive.map((host) => host.ownership.claims().digest()));
    assert.equal(digests.size, 1, 'digests of equal tables');
  }

  #isBlocked(from: Host, to: Host): boolean {
    return this.unplugged.has(from) || this.unplugged.has(to) || this.blocked?.(from, to) === true;
  }

  // --- the wire and the kernels -----------------------------------------------------------------------------------

  #next(): Instant {
    let next: Instant = this.#happenings.at(-1)?.at ?? NEVER;
    for (const { lives, ownership } of this.hosts) {
      const deadline = ownership.deadline();
      if (lives && deadline < next) next = deadline;
    }
    return next;
  }

  /** iface compares what it is granted with what it has. */
  settleIface(host: Host): void {
    const grants = host.ownership.grants();
    for (const ip of [...host.held]) {
      if (grants.has(ip)) continue;
      host.held.delete(ip);
      this.#serves(host, ip, false);
      this.later(
        0,
        () => host.lives && this.do(host, () => host.ownership.localsChanged([[ip, 'absent']], this.now)),
      );
    }
    for (const ip of [...host.taking.keys()]) if (!grants.has(ip)) host.taking.delete(ip);
    for (const [ip, grant] of grants) {
      if (host.held.has(ip) || host.taking.get(ip) === grant) continue;
      const before = host.taking.get(ip);
      host.taking.set(ip, grant);
      // Another entry for the same address: iface starts anew, as this does.
      if (before?.entry === grant.entry) continue;
      const from =
        grant.entry.kind === 'take-over' ? Math.max(0, grant.entry.predecessor.notBefore - this.now) : 0;
      const ms = Math.max(from, TAKING_MS[grant.entry.kind] * (0.8 + 0.4 * this.random()));
      this.later(ms, () => this.#taken(host, ip, grant));
    }
  }

  #taken(host: Host, ip: Ip, grant: Grant): void {
    const current = host.taking.get(ip);
    if (!host.lives || current?.entry !== grant.entry) return;
    if (this.refuses?.(host, ip) === true) {
      host.taking.delete(ip);
      return this.do(host, () => host.ownership.localsChanged([[ip, 'failed']], this.now));
    }
    const isShared = grant.entry.kind === 'hand-over';
    if (!isShared && this.serving(ip).some((name) => name !== host.name)) {
      if (grant.entry.kind !== 'take-over') this.later(20, () => this.#taken(host, ip, grant));
      return;
    }
    host.taking.delete(ip);
    host.held.add(ip);
    this.#serves(host, ip, true);
    this.takes.set(ip, (this.takes.get(ip) ?? 0) + 1);
    this.do(host, () => host.ownership.localsChanged([[ip, 'held']], this.now));
  }

  #tryTakeOver(host: Host, ip: Ip): void {
    const grant = host.taking.get(ip);
    if (grant === undefined || this.serving(ip).length === 0) return;
    this.later(20, () => this.#taken(host, ip, grant));
  }

  #serves(host: Host, ip: Ip, does: boolean): void {
    if (!does) host.held.delete(ip);
    this.#count(ip);
  }

  #count(ip: Ip): void {
    const count = this.serving(ip).length;
    const gapSince = this.#gaps.get(ip);
    if (count === 0) this.#gaps.set(ip, this.now);
    else if (gapSince !== undefined) {
      this.#gaps.delete(ip);
      this.longestGapMs = Math.max(this.longestGapMs, this.now - gapSince);
    }
    const since = this.#doubles.get(ip);
    if (count > 1 && since === undefined) this.#doubles.set(ip, this.now);
    if (count > 1 || since === undefined) return;
    this.#doubles.delete(ip);
    this.longestDoubleMs = Math.max(this.longestDoubleMs, this.now - since);
  }

  #deliver(from: Host, endpoint: Endpoint, message: Message): void {
    this.packets += 1;
    const to = this.hosts.find((host) => host.meta.endpoint.ip === endpoint.ip);
    if (to === undefined || this.random() < this.#loss) return;
    this.later(0.2 + this.random(), () => {
      if (!to.lives || this.#isBlocked(from, to)) return;
      this.do(to, () => this.#receive(to, from, message));
    });
  }

  #receive(to: Host, from: Host, message: Message): void {
    if (message.kind === 'gossip') {
      const claims = message.updates.filter((update) => update.kind === 'claim');
      to.ownership.claimsHeard(claims, message.from, this.now);
    } else to.ownership.message(message as HandOver | HandOverDone, from.meta.endpoint, this.now);
  }

  #exchange(host: Host, endpoint: Endpoint): void {
    const to = this.hosts.find((other) => other.meta.endpoint.ip === endpoint.ip);
    if (to === undefined) return;
    this.later(2, () => this.exchange(host, to));
  }

  /** A push/pull between two hosts. */
  exchange(left: Host, right: Host): void {
    if (!left.lives || !right.lives || this.#isBlocked(left, right)) return;
    const [ours, theirs] = [left.ownership.persistentClaims(), right.ownership.persistentClaims()];
    this.do(right, () => right.ownership.claimsExchanged(ours, this.now));
    this.do(left, () => left.ownership.claimsExchanged(theirs, this.now));
  }
}
