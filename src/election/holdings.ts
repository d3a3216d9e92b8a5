import type { Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import { Claims } from './claims.ts';
import type { Effect, Report } from './effects.ts';
import type { ClaimUpdate } from './message.ts';
import type { Claim, Entry, Grant, LocalState, MemberName } from './types.ts';

/**
 * What this host claims and holds: the table of claims, the grants, and what iface says of them. Changes are told to
 * everybody and to the shell here, so that none is forgotten; what should change is decided in `ownership.ts`.
 */
export class Holdings {
  readonly claims: Claims;
  readonly #self: MemberName;
  readonly #out: Effect[];
  readonly #broadcast: (update: ClaimUpdate) => void;
  readonly #grants = new Map<Ip, Grant>();
  /** `absent` is not kept. */
  readonly #local = new Map<Ip, LocalState>();
  #grantsChanged = false;
  #claimsChanged = false;

  constructor(
    self: MemberName,
    out: Effect[],
    broadcast: (update: ClaimUpdate) => void,
    isWanted: (ip: Ip) => boolean,
  ) {
    this.#self = self;
    this.#out = out;
    this.#broadcast = broadcast;
    this.claims = new Claims(self, isWanted);
  }

  // --- claims -----------------------------------------------------------------------------------------------------

  /** The claim as it stands, if it is ours. */
  ownClaim(ip: Ip): Claim | undefined {
    const claim = this.claims.get(ip);
    return claim?.owner === this.#self ? claim : undefined;
  }

  /** A copy, because what is done with them changes them. */
  ownAddresses(): readonly Ip[] {
    return [...this.claims.ownedBy(this.#self)];
  }

  /** Takes in a claim; returns whether it was news. */
  learn(claim: Claim, now: Instant): boolean {
    if (this.claims.merge(claim, now) !== 'newer') return false;
    this.#claimsChanged = true;
    return true;
  }

  /** Gossip takes it along. */
  passOn(claim: Claim): void {
    this.#broadcast({ kind: 'claim', ...claim });
  }

  /** Makes the address ours, above whatever stands. */
  claim(ip: Ip, now: Instant): Claim {
    const claim = this.#raise(ip, this.#self, now);
    this.report({ kind: 'claimed', claim });
    return claim;
  }

  /** Says that nobody has the address any more. False at MAX_EPOCH, where nothing goes above what stands. */
  release(ip: Ip, now: Instant): boolean {
    const claim = this.#raise(ip, undefined, now);
    this.report({ kind: 'released', claim });
    return this.claims.get(ip)?.epoch === claim.epoch;
  }

  #raise(ip: Ip, owner: MemberName | undefined, now: Instant): Claim {
    const claim: Claim = { ip, owner, epoch: (this.claims.get(ip)?.epoch ?? this.claims.floor) + 1 };
    this.learn(claim, now);
    this.passOn(claim);
    return claim;
  }

  // --- grants -----------------------------------------------------------------------------------------------------

  get grants(): ReadonlyMap<Ip, Grant> {
    return this.#grants;
  }

  grant(ip: Ip, epoch: number, entry: Entry): void {
    this.#grants.set(ip, { ip, epoch, entry });
    this.#grantsChanged = true;
  }

  /** It is held: should it be lost, it is taken again as what was ours. Nothing is to be done now, so nothing is told. */
  settled({ ip, epoch }: Claim): void {
    this.#grants.set(ip, { ip, epoch, entry: RETURN });
  }

  withdraw(ip: Ip): void {
    if (this.#grants.delete(ip)) this.#grantsChanged = true;
  }

  // --- what iface says --------------------------------------------------------------------------------------------

  setLocal(ip: Ip, state: LocalState): void {
    if (state === 'absent') this.#local.delete(ip);
    else this.#local.set(ip, state);
  }

  local(ip: Ip): LocalState {
    return this.#local.get(ip) ?? 'absent';
  }

  // --- the shell ----------------------------------------------------------------------------------------------------

  report(report: Report): void {
    this.#out.push({ kind: 'report', report });
  }

  /** At the end of a step. */
  flush(): void {
    if (this.#claimsChanged) this.#out.push({ kind: 'persist' });
    if (this.#grantsChanged) this.#out.push({ kind: 'grants-changed' });
    this.#claimsChanged = false;
    this.#grantsChanged = false;
  }
}

export const RETURN: Entry = { kind: 'return' };
