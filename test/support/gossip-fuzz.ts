import { decodeMessage, encodeMessage } from '../../src/election/codec.ts';
import { Election } from '../../src/election/election.ts';
import type { ElectionEvent } from '../../src/election/election-types.ts';
import type { Message, Update } from '../../src/election/message.ts';
import { PROFILES } from '../../src/election/settings.ts';
import type {
  Claim,
  Endpoint,
  MemberMeta,
  MemberName,
  Segment,
  SegmentKey,
  Wanted,
} from '../../src/election/types.ts';
import type { Mac } from '../../src/iface/types.ts';
import { type Ip, ipFromNumber } from '../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../src/lib/prng.ts';
import { type Instant, instant } from '../../src/lib/time.ts';

/**
 * Messages as members send them, changed in a few places, through the decoder, and what it takes of them into a live
 * `Election` whose own messages are encoded in turn: whatever asserts or grows without end on the way is a bug.
 */

const SELF = 'host-0' as MemberName;
const NAMES = Array.from({ length: 12 }, (_, index) => `host-${index}` as MemberName);
const SUBNETS = ['10.0.0.0/24' as SegmentKey, 'fd00::/64' as SegmentKey];
const KINDS: readonly Message['kind'][] = [
  'heartbeat',
  'ping',
  'ping-request',
  'ack',
  'nack',
  'gossip',
  'verdict',
  'offer',
  'taken',
  'declined',
  'request',
  'released',
  'state',
  'hello',
  'farewell',
];
/** What one host is wanted to hold, and where mutations of addresses mostly land. */
const WANTED_COUNT = 64;
const SAMPLES = 512;
const STATES_ENCODED_EVERY = 16;

export type FuzzResult = {
  readonly packets: number;
  /** That the decoder took, by kind. */
  readonly taken: number;
  /** That the election sent in turn. */
  readonly sent: number;
  readonly members: number;
  readonly claims: number;
};

export class GossipFuzz {
  readonly #random: Random;
  readonly #election: Election;
  readonly #samples: readonly Uint8Array[];
  #now: Instant = instant(1_000_000);
  #packets = 0;
  #taken = 0;
  #sent = 0;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.#samples = Array.from({ length: SAMPLES }, () => encodeMessage(this.#message()));
    this.#election = new Election({
      name: SELF,
      meta: metaOf(0),
      settings: PROFILES.lan,
      isolation: 'auto',
      random: seededRandom(seed + 1),
      restored: undefined,
      leaseLeftMs: () => 30_000,
      now: this.#now,
    });
    this.#step({ kind: 'wanted-changed', wanted: wanted() });
  }

  get result(): FuzzResult {
    const { members, claims } = this.#election.state(false, this.#now);
    return {
      packets: this.#packets,
      taken: this.#taken,
      sent: this.#sent,
      members: members.length,
      claims: claims.length,
    };
  }

  /** Through the decoder and the election, a few of them each millisecond. */
  live(count: number): void {
    for (let index = 0; index < count; index++) {
      if (index % 8 === 0) this.#now = instant(this.#now + 1);
      if (this.#now >= this.#election.deadline()) this.#step({ kind: 'time-passed' });
      const decoded = decodeMessage(this.#packet());
      this.#packets++;
      if (!decoded.ok) continue;
      this.#taken++;
      this.#step({
        kind: 'message',
        message: decoded.value,
        from: endpointOf(this.#below(NAMES.length)),
        segment: this.#random() < 0.8 ? SUBNETS[0] : undefined,
        connection: this.#random() < 0.2 ? this.#below(100) : undefined,
      });
    }
  }

  #step(event: ElectionEvent): void {
    for (const effect of this.#election.step(event, this.#now)) {
      if (effect.kind !== 'send' && effect.kind !== 'reply' && effect.kind !== 'watch-send') continue;
      this.#sent++;
      // Whole tables, asked for again and again, would be most of the work.
      if (effect.message.kind === 'state' && this.#sent % STATES_ENCODED_EVERY !== 0) continue;
      encodeMessage(effect.message);
    }
  }

  /** A sample, changed in up to four places, or cut, or two of them in one. */
  #packet(): Uint8Array {
    const random = this.#random;
    const sample = this.#sample();
    const length = random() < 0.1 ? this.#below(sample.length + 4) : sample.length;
    const packet = new Uint8Array(length);
    packet.set(sample.subarray(0, length));
    if (length === 0) return packet;
    if (random() < 0.1) {
      const other = this.#sample();
      const at = this.#below(length);
      packet.set(other.subarray(at, Math.min(other.length, length)), at < other.length ? at : length);
    }
    for (let changes = this.#below(5); changes > 0; changes--) {
      const at = this.#below(random() < 0.5 ? Math.min(length, 24) : length);
      packet[at] = random() < 0.5 ? this.#below(256) : (packet[at] ?? 0) ^ (1 << this.#below(8));
    }
    return packet;
  }

  #sample(): Uint8Array {
    return this.#samples[this.#below(this.#samples.length)] ?? new Uint8Array(0);
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #name(): MemberName {
    return NAMES[this.#below(NAMES.length)] ?? SELF;
  }

  #message(): Message {
    const kind = KINDS[this.#below(KINDS.length)] ?? 'nack';
    const from = this.#name();
    const seq = this.#below(1_000);
    const target = this.#name();
    const incarnation = 1 + this.#below(3);
    const segment = SUBNETS[this.#below(SUBNETS.length)] ?? ('10.0.0.0/24' as SegmentKey);
    const updates = Array.from({ length: this.#below(8) }, () => this.#update());
    const claims = Array.from({ length: this.#below(16) }, () => this.#claim());
    const silence = {
      why: 'silent',
      silentMs: this.#below(1_000),
      leaseLeftMs: this.#below(30_000),
    } as const;
    switch (kind) {
      case 'heartbeat':
        return {
          kind,
          from,
          incarnation,
          segment,
          seq,
          ackSeq: this.#below(1_000),
          gapMs: this.#below(200),
          urgent: this.#random() < 0.5,
          isolated: this.#random() < 0.2,
          claimsMatch: this.#random() < 0.5,
          ownDigest: this.#below(2 ** 32),
          tableDigest: this.#below(2 ** 32),
          leaseLeftMs: this.#below(30_000),
        };
      case 'ping':
        return { kind, from, seq, target, updates };
      case 'ping-request':
        return { kind, from, seq, target, targetEndpoint: endpointOf(this.#below(12)), updates };
      case 'ack':
        return { kind, from, seq, updates };
      case 'nack':
      case 'released':
        return { kind, from, seq };
      case 'gossip':
        return { kind, from, updates };
      case 'verdict':
        return { kind, from, target, incarnation, segment, silence };
      case 'state':
        return {
          kind,
          from,
          wantsReply: this.#random() < 0.5,
          members: updates.filter((update) => update.kind === 'member'),
          claims,
        };
      case 'hello':
        return { kind, from, incarnation };
      case 'farewell':
        return {
          kind,
          from,
          incarnation,
          why: this.#random() < 0.5 ? 'restarting' : 'leaving',
          leaseLeftMs: 9,
        };
      default:
        return { kind, from, seq, claims };
    }
  }

  #update(): Update {
    if (this.#random() < 0.4) return { kind: 'claim', ...this.#claim() };
    const index = this.#below(NAMES.length);
    const state = (['alive', 'alive', 'suspect', 'dead', 'left'] as const)[this.#below(5)] ?? 'alive';
    return {
      kind: 'member',
      name: NAMES[index] ?? SELF,
      incarnation: 1 + this.#below(3),
      state,
      meta: this.#random() < 0.7 ? metaOf(index) : undefined,
      by: state === 'suspect' ? this.#name() : undefined,
      silence: undefined,
    };
  }

  #claim(): Claim {
    const owner = this.#random() < 0.8 ? this.#name() : undefined;
    return { ip: wantedIp(this.#below(WANTED_COUNT)), owner, epoch: 1 + this.#below(5) };
  }
}

function endpointOf(index: number): Endpoint {
  return { ip: `10.0.0.${1 + index}` as Ip, port: 7946 };
}

function metaOf(index: number): MemberMeta {
  const mac = `02:00:00:00:00:${(1 + index).toString(16).padStart(2, '0')}` as Mac;
  const segments: readonly Segment[] = [
    { subnet: { network: '10.0.0.0' as Ip, length: 24 }, ip: endpointOf(index).ip, mac },
    { subnet: { network: 'fd00::' as Ip, length: 64 }, ip: `fd00::${1 + index}` as Ip, mac },
  ];
  return {
    endpoint: endpointOf(index),
    node: `node-${index}`,
    version: '0.1.0',
    segments,
    drained: false,
    weight: 100,
    configDigest: '0123abcd',
    lifetimeMs: 30_000,
  };
}

function wantedIp(index: number): Ip {
  return index % 2 === 0
    ? ipFromNumber('v4', 0x0a00_0080n + BigInt(index))
    : (`fd00::1:${index.toString(16)}` as Ip);
}

function wanted(): Wanted {
  const ips = Array.from({ length: WANTED_COUNT }, (_, index) => wantedIp(index));
  return {
    addresses: new Map(ips.map((ip) => [ip, { ip, nodes: undefined }])),
    excludedNodes: new Set(),
    fresh: true,
  };
}
