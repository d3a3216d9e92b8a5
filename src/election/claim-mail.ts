import type { Random } from '../lib/prng.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { updateBytes } from './codec-updates.ts';
import type { Effect } from './effects.ts';
import { type ClaimUpdate, MAX_HANDOVER_CLAIMS, MAX_UPDATES_BYTES } from './message.ts';
import { segmentKey } from './segment-key.ts';
import type { Claim, Member, MemberName, SegmentKey } from './types.ts';
import { otherWays } from './ways.ts';

/**
 * What certain members have to know of claims sooner than gossip brings it: a former owner that may still answer, an
 * owner that may not have the address any more. Gathered by receiver, so that a thousand addresses are some packets.
 */

/** Claims that follow each other within this are told together. */
const TELL_AFTER_MS = 2;
/** After an isolation, so many members are asked for what changed. */
const CATCH_UP_MEMBERS = 3;

export class ClaimMail {
  readonly #self: MemberName;
  readonly #random: Random;
  readonly #members: () => ReadonlyMap<MemberName, Member>;
  readonly #out: Effect[];
  readonly #told = new Map<MemberName, ClaimUpdate[]>();
  readonly #asked = new Map<MemberName, Claim[]>();
  #sendAt: Instant = NEVER;

  constructor(
    self: MemberName,
    random: Random,
    members: () => ReadonlyMap<MemberName, Member>,
    out: Effect[],
  ) {
    this.#self = self;
    this.#random = random;
    this.#members = members;
    this.#out = out;
  }

  /** `to` is told of a claim that stands. */
  tell(to: MemberName, claim: Claim, now: Instant): void {
    if (to === this.#self) return;
    append(this.#told, to, { kind: 'claim', ...claim });
    this.#sendAt = earliest(this.#sendAt, after(now, TELL_AFTER_MS));
  }

  /** `owner` is asked to hand over. */
  ask(owner: MemberName, claim: Claim, now: Instant): void {
    append(this.#asked, owner, claim);
    this.#sendAt = earliest(this.#sendAt, after(now, TELL_AFTER_MS));
  }

  /** A few members of a segment, at random, are asked for all that they know. */
  catchUp(segment: SegmentKey): void {
    const chosen: Member[] = [];
    let seen = 0;
    for (const member of this.#members().values()) {
      if (member.name === this.#self || member.state === 'left') continue;
      if (!member.meta.segments.some(({ subnet }) => segmentKey(subnet) === segment)) continue;
      // Reservoir sampling: each of those seen is as likely to be chosen as any other.
      seen += 1;
      const index = seen <= CATCH_UP_MEMBERS ? chosen.length : Math.floor(this.#random() * seen);
      if (index < CATCH_UP_MEMBERS) chosen[index] = member;
    }
    for (const { meta } of chosen) this.#out.push({ kind: 'exchange', with: meta.endpoint });
  }

  advance(now: Instant): void {
    if (now < this.#sendAt) return;
    this.#sendAt = NEVER;
    for (const [name, updates] of this.#told) this.#sendTold(name, updates);
    for (const [owner, claims] of this.#asked) this.#sendAsked(owner, claims);
    this.#told.clear();
    this.#asked.clear();
  }

  deadline(): Instant {
    return this.#sendAt;
  }

  #sendTold(name: MemberName, updates: readonly ClaimUpdate[]): void {
    const member = this.#members().get(name);
    if (member === undefined) return;
    // By every way: it may answer for them on a network that lives, while its endpoint is on one that does not.
    const ways = [member.meta.endpoint, ...otherWays(member)];
    let packet: ClaimUpdate[] = [];
    let bytes = 0;
    const send = (): void => {
      const message = { kind: 'gossip', from: this.#self, updates: packet } as const;
      for (const to of ways) this.#out.push({ kind: 'send', to, message, segment: undefined });
    };
    for (const update of updates) {
      const added = updateBytes(update);
      if (bytes + added > MAX_UPDATES_BYTES) {
        send();
        packet = [];
        bytes = 0;
      }
      packet.push(update);
      bytes += added;
    }
    send();
  }

  #sendAsked(owner: MemberName, claims: readonly Claim[]): void {
    const to = this.#members().get(owner)?.meta.endpoint;
    if (to === undefined) return;
    for (let from = 0; from < claims.length; from += MAX_HANDOVER_CLAIMS) {
      const seq = Math.floor(this.#random() * 0x7fff_ffff);
      const batch = claims.slice(from, from + MAX_HANDOVER_CLAIMS);
      const message = { kind: 'request', from: this.#self, seq, claims: batch } as const;
      this.#out.push({ kind: 'send', to, message, segment: undefined });
    }
  }
}

function append<Value>(lists: Map<MemberName, Value[]>, name: MemberName, value: Value): void {
  const list = lists.get(name);
  if (list === undefined) lists.set(name, [value]);
  else list.push(value);
}
