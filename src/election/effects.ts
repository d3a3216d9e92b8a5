import type { Ip } from '../lib/ip.ts';
import type { Message } from './message.ts';
import type { Claim, Endpoint, Member, MemberName, SegmentKey, Silence } from './types.ts';

/** What the election asks of its shell, as data. */
export type Effect =
  /** One UDP packet; with a segment, from the host's own address there, so that it proves that NIC. */
  | {
      readonly kind: 'send';
      readonly to: Endpoint;
      readonly message: Message;
      readonly segment: SegmentKey | undefined;
      /** There is nothing new in it: a receiver that is calm (`Watch.isCalm`) reads it at its own next tick. */
      readonly routine?: true;
    }
  /** A push/pull over TCP: our state, then theirs as a message. */
  | { readonly kind: 'exchange'; readonly with: Endpoint }
  /** Back on the TCP connection that a message came on. */
  | { readonly kind: 'reply'; readonly connection: number; readonly message: Message }
  /** Keep a TCP connection to a neighbour whose end tells that its process ended. */
  | {
      readonly kind: 'watch-open';
      readonly peer: MemberName;
      readonly to: Endpoint;
      readonly segment: SegmentKey;
    }
  | { readonly kind: 'watch-close'; readonly peer: MemberName; readonly segment: SegmentKey }
  | {
      readonly kind: 'watch-send';
      readonly peer: MemberName;
      readonly segment: SegmentKey;
      readonly message: Message;
    }
  /** Ask the reference addresses of that segment by ARP or ND. */
  | { readonly kind: 'ask-reference'; readonly segment: SegmentKey }
  /** `grants()` is to be looked at again, at once. */
  | { readonly kind: 'grants-changed' }
  /** `mayRenew()` is to be looked at again, at once. */
  | { readonly kind: 'renewals-changed' }
  /** An earlier life of this host left these in the kernel, and another member has them by now. */
  | { readonly kind: 'withdraw'; readonly ips: readonly Ip[] }
  /** Clients may have learnt another host's hardware address for these, which this host holds. */
  | { readonly kind: 'announce'; readonly ips: readonly Ip[] }
  /** `persistent()` changed. */
  | { readonly kind: 'persist' }
  | { readonly kind: 'report'; readonly report: Report };

/** What happened among the members, for the log, for Events and for counters. */
export type Report =
  | {
      readonly kind: 'joined' | 'suspected' | 'died' | 'left' | 'returned' | 'refuted';
      readonly member: Member;
    }
  /** Two hosts say that they are the same member. */
  | { readonly kind: 'name-conflict'; readonly name: MemberName; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'verdict'; readonly name: MemberName; readonly silence: Silence }
  /** A neighbour is heard over TCP only. */
  | { readonly kind: 'udp-lost'; readonly name: MemberName; readonly segment: SegmentKey }
  | { readonly kind: 'isolated' | 'reconnected'; readonly segment: SegmentKey }
  /** This host did not run for so long, by its own clock or by a neighbour's. */
  | { readonly kind: 'paused'; readonly forMs: number }
  | { readonly kind: 'claimed' | 'superseded' | 'released'; readonly claim: Claim }
  | { readonly kind: 'handed-over'; readonly claim: Claim; readonly tookMs: number };
