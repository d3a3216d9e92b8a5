import type { Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import { hashText, mix, winsTie } from './rank.ts';
import type { Claim, MemberName } from './types.ts';

/**
 * Who owns what, as far as is known here: a table that all hosts merge to the same content, in whatever order they hear
 * of its parts. Of two claims for one address the higher epoch stays; of one epoch, one with an owner before a release,
 * then the owner who wins the tie (`rank.ts`).
 *
 * Digests tell two hosts whether they know the same owners without listing them: the exclusive or of a hash of each claim,
 * kept for the whole table and for each owner, so that a heartbeat can carry both. Released claims are in none: each host
 * forgets them when it likes (`ageing.ts`), and who still believes in the owner before has another digest anyway.
 */

/** Overflow: a sixteenth of the table goes, what no Service wants before the rest, the oldest first, own claims never. */
export const CLAIM_LIMIT = 65_536;
/**
 * So many addresses are wanted at most, the plan sees to that. Then nothing that is wanted is ever dropped, which would
 * let two hosts claim it; the rest of the table is for claims that nobody needs any more (`ageing.ts`).
 */
export const WANTED_LIMIT = 50_000;
/** Epochs grow by one per move; one this large is a mistake of its sender, and would leave no room above it. */
export const MAX_EPOCH = 2 ** 40;
/** What is heard first of an address leaves room for as many moves again. */
const MAX_FIRST_EPOCH = 2 ** 39;
/** More moves than any host could have missed. */
const MAX_EPOCH_JUMP = 2 ** 20;

export type Merge = 'newer' | 'same' | 'older';

type Entry = { readonly claim: Claim; readonly since: Instant; readonly digest: number };

export class Claims {
  readonly #self: MemberName;
  readonly #isWanted: (ip: Ip) => boolean;
  readonly #entries = new Map<Ip, Entry>();
  readonly #ownedBy = new Map<MemberName, Set<Ip>>();
  readonly #ownerHashes = new Map<MemberName, number>();
  readonly #ownerDigests = new Map<MemberName, number>();
  #digest = 0;
  #floor = 0;
  #list: readonly Claim[] | undefined;

  /** `isWanted` says which claims to keep when the table is full. */
  constructor(self: MemberName, isWanted: (ip: Ip) => boolean) {
    this.#self = self;
    this.#isWanted = isWanted;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(ip: Ip): Claim | undefined {
    return this.#entries.get(ip)?.claim;
  }

  /** When this host learnt of the claim that stands. */
  since(ip: Ip): Instant | undefined {
    return this.#entries.get(ip)?.since;
  }

  /** The addresses of an owner, wanted or not. Not to be held across a `merge()`. */
  ownedBy(name: MemberName): ReadonlySet<Ip> {
    return this.#ownedBy.get(name) ?? NOTHING;
  }

  /** All claims, the oldest first; the same array until one changes, because pushes and pulls ask often. */
  list(): readonly Claim[] {
    this.#list ??= Array.from(this.#entries.values(), ({ claim }) => claim);
    return this.#list;
  }

  /** The highest epoch of a release, or of a claim that was dropped, that was ever known here: a first claim goes above it. */
  get floor(): number {
    return this.#floor;
  }

  /** What stands since `at` or longer; a copy. */
  until(at: Instant): readonly Claim[] {
    const claims: Claim[] = [];
    for (const { claim, since } of this.#entries.values()) {
      if (since > at) break;
      claims.push(claim);
    }
    return claims;
  }

  /** A released claim is not kept any more, unless others learn the floor from it. */
  forget(ip: Ip): void {
    const entry = this.#entries.get(ip);
    if (entry === undefined || entry.claim.owner !== undefined || entry.claim.epoch >= this.#floor) return;
    this.#entries.delete(ip);
    this.#list = undefined;
  }

  /** Of all claims with an owner; tables of equal owners have equal digests. */
  digest(): number {
    return this.#digest;
  }

  /** Of the claims of one owner; 0 when it has none. */
  digestOf(owner: MemberName): number {
    return this.#ownerDigests.get(owner) ?? 0;
  }

  /** How `claim` compares with what stands; a newer one replaces it. */
  merge(claim: Claim, now: Instant): Merge {
    const before = this.#entries.get(claim.ip);
    // It may have been forgotten here, and need not be known: it is below whatever may follow.
    const isReleased = before === undefined && claim.owner === undefined;
    if (isReleased && claim.epoch <= this.#floor && !this.#isWanted(claim.ip)) return 'same';
    const limit = before === undefined ? MAX_FIRST_EPOCH : before.claim.epoch + MAX_EPOCH_JUMP;
    if (!(claim.epoch >= 1 && claim.epoch <= Math.min(limit, MAX_EPOCH))) return 'older';
    const verdict = before === undefined ? 'newer' : compare(claim, before.claim);
    if (verdict !== 'newer') return verdict;
    this.#list = undefined;
    if (before !== undefined) this.#remove(before);
    this.#insert(claim, now);
    if (this.#entries.size > CLAIM_LIMIT) this.#evict();
    return 'newer';
  }

  #insert({ ip, owner, epoch }: Claim, now: Instant): void {
    const digest = mix(mix(hashText(ip) + this.#hashOf(owner)) ^ mix(epoch) ^ Math.floor(epoch / 2 ** 32));
    // Again at the end of the map: its order is the order of age.
    this.#entries.delete(ip);
    this.#entries.set(ip, { claim: { ip, owner, epoch }, since: now, digest });
    if (owner === undefined) {
      this.#raiseFloor(epoch);
      return;
    }
    this.#digest = (this.#digest ^ digest) >>> 0;
    this.#ownerDigests.set(owner, (this.digestOf(owner) ^ digest) >>> 0);
    const owned = this.#ownedBy.get(owner);
    if (owned === undefined) this.#ownedBy.set(owner, new Set([ip]));
    else owned.add(ip);
  }

  #remove({ claim: { ip, owner }, digest }: Entry): void {
    if (owner === undefined) return;
    this.#digest = (this.#digest ^ digest) >>> 0;
    const owned = this.#ownedBy.get(owner);
    owned?.delete(ip);
    if (owned !== undefined && owned.size > 0) {
      this.#ownerDigests.set(owner, (this.digestOf(owner) ^ digest) >>> 0);
      return;
    }
    this.#ownedBy.delete(owner);
    this.#ownerDigests.delete(owner);
    this.#ownerHashes.delete(owner);
  }

  #raiseFloor(epoch: number): void {
    this.#floor = Math.max(this.#floor, Math.min(epoch, MAX_FIRST_EPOCH - 1));
  }

  #hashOf(owner: MemberName | undefined): number {
    if (owner === undefined) return 0;
    const known = this.#ownerHashes.get(owner);
    if (known !== undefined) return known;
    const hash = hashText(owner);
    this.#ownerHashes.set(owner, hash);
    return hash;
  }

  #evict(): void {
    let surplus = this.#entries.size - CLAIM_LIMIT + CLAIM_LIMIT / 16;
    for (const isKept of [(ip: Ip) => this.#isWanted(ip), () => false]) {
      for (const entry of this.#entries.values()) {
        if (surplus <= 0) return;
        const { ip, owner } = entry.claim;
        if (owner === this.#self || isKept(ip)) continue;
        this.#remove(entry);
        this.#entries.delete(ip);
        // Who wants it again claims it above what others may still know of it.
        this.#raiseFloor(entry.claim.epoch);
        surplus -= 1;
      }
    }
  }
}

function compare(claim: Claim, standing: Claim): Merge {
  if (claim.epoch !== standing.epoch) return claim.epoch > standing.epoch ? 'newer' : 'older';
  if (claim.owner === standing.owner) return 'same';
  if (claim.owner === undefined) return 'older';
  if (standing.owner === undefined) return 'newer';
  return winsTie(claim.ip, claim.owner, standing.owner) ? 'newer' : 'older';
}

const NOTHING: ReadonlySet<Ip> = new Set();
