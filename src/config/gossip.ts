import { assert } from '../lib/assert.ts';
import { FAMILY_BITS, familyOf, type Ip, type Prefix, parseIp, parsePrefix } from '../lib/ip.ts';
import { formatFineDuration, parseFineDuration } from './duration.ts';
import { KNOBS } from './gossip-schema.ts';
import type { KeyPath } from './problem.ts';
import type { ConfigDocument } from './schema.ts';
import { parseSeed } from './seed.ts';
import type { GossipConfig, GossipKnob, GossipTiming } from './types.ts';

/** What [gossip] comes to, and what is wrong or doubtful in it beyond single values. */

/** A member's name in gossip; a host that is alone may have a longer one. */
export const LONGEST_MEMBER_NAME = 63;
/** What a kernel and a timer take, so that an isolated owner has let go before anybody takes over. */
const LEAST_MARGIN_MS = 40;
/** For a connection to a member that no packet reaches, before the probe ends. */
const LEAST_TCP_MS = 50;
/** How late a heartbeat may be before anybody asks. */
const LEAST_QUIET_MS = 10;

type GossipDocument = NonNullable<ConfigDocument['gossip']>;
type Problem = { readonly path: KeyPath; readonly message: string };
type KnobKey = keyof typeof KNOBS;

/** Errors among the values of the table as it is written, shape apart. */
export function gossipProblems(written: unknown): readonly Problem[] {
  const gossip = tableOf(written);
  if (gossip === undefined) return [];
  const problems: Problem[] = [];
  if (gossip['insecure'] === true && gossip['key_file'] !== undefined) {
    const message = 'expected either gossip.key_file or insecure = true, got both';
    problems.push({ path: ['gossip', 'insecure'], message });
  }
  const timing = tableOf(gossip['timing']) ?? {};
  const profile = profileIndex(gossip['profile']);
  problems.push(...wrongOrders(timing, profile), ...tooSlowHeartbeat(timing, profile));
  return problems;
}

/** Each pair of which one is written, the other as written or as the profile has it. */
function wrongOrders(timing: Readonly<Record<string, unknown>>, profile: number): readonly Problem[] {
  return ORDERED.flatMap(([shorter, longer, marginMs, why, times = 1]) => {
    const at = longer in timing ? longer : shorter;
    if (!(at in timing)) return [];
    const [shorterMs, longerMs] = [shorter, longer].map((key) => knobMs(timing, profile, key));
    if (shorterMs === undefined || longerMs === undefined || times * shorterMs + marginMs <= longerMs)
      return [];
    const [bound, other] =
      at === longer
        ? [
            `at least ${formatFineDuration(times * shorterMs + marginMs)}`,
            `${shorter} = "${formatFineDuration(shorterMs)}"`,
          ]
        : [
            `at most ${formatFineDuration(Math.floor((longerMs - marginMs) / times))}`,
            `${longer} = "${formatFineDuration(longerMs)}"`,
          ];
    const message = `expected ${bound} with ${other}, ${why}, got "${String(timing[at])}"`;
    return [{ path: ['gossip', 'timing', at], message }];
  });
}

/** A host asks whether it is isolated `inquiry` before it is: heartbeats that come later have idle hosts ask all the time. */
function tooSlowHeartbeat(timing: Readonly<Record<string, unknown>>, profile: number): readonly Problem[] {
  const keys = ['heartbeat', 'inquiry', 'isolation'] as const;
  const at = keys.find((key) => key in timing);
  const [heartbeatMs, inquiryMs, isolationMs] = keys.map((key) => knobMs(timing, profile, key));
  if (at === undefined || heartbeatMs === undefined || inquiryMs === undefined || isolationMs === undefined)
    return [];
  if (heartbeatMs + LEAST_QUIET_MS + inquiryMs <= isolationMs) return [];
  const values = keys.map((key, index) => {
    return `${key} = "${formatFineDuration([heartbeatMs, inquiryMs, isolationMs][index] ?? 0)}"`;
  });
  const message = `expected heartbeat + inquiry to be at least ${LEAST_QUIET_MS}ms less than isolation, so that hosts that hear each other need not ask whether they are isolated, got ${values.join(', ')}`;
  return [{ path: ['gossip', 'timing', at], message }];
}

function knobMs(
  timing: Readonly<Record<string, unknown>>,
  profile: number,
  key: KnobKey,
): number | undefined {
  return key in timing ? msOf(timing[key]) : KNOBS[key].values[profile];
}

/** Where the values of a profile stand in KNOBS. */
function profileIndex(profile: unknown): number {
  return Math.max(0, ['lan', 'fast', 'wan'].indexOf(String(profile)));
}

/** Pairs of knobs, the second at least so much longer than the first, or than so many of it, and why. */
const ORDERED: readonly (readonly [KnobKey, KnobKey, number, string, number?])[] = [
  [
    'isolation',
    'takeover_floor',
    LEAST_MARGIN_MS,
    'so that an isolated owner has let go before its heir begins',
  ],
  ['suspicion_min', 'suspicion_max', 0, 'as it shrinks from the longer to the shorter one'],
  [
    'probe_timeout',
    'probe_interval',
    LEAST_TCP_MS,
    'so that a probe has time for other members and then for TCP before the next one',
    2,
  ],
  ['inquiry_every', 'inquiry', 0, 'so that an inquiry asks at least once'],
];

/** What is allowed, but is seldom what an operator wants. */
export function gossipHazards(gossip: GossipDocument | undefined): readonly Problem[] {
  if (gossip === undefined) return [];
  const hazards: Problem[] = [];
  if (gossip.insecure) {
    const message = `expected keys, got insecure = true: whoever reaches port ${gossip.port} can take every address of these hosts`;
    hazards.push({ path: ['gossip', 'insecure'], message });
  }
  if (gossip.seeds.length === 0 && gossip.discover === 'none') {
    const message =
      'expected seeds or discover = "kubernetes", got neither: this host finds no other, it can only be found';
    hazards.push({ path: ['gossip'], message });
  }
  return hazards;
}

/** The values of [gossip.timing] that a profile has, as they are written, by key. */
export function profileTiming(profile: GossipConfig['profile']): ReadonlyMap<string, string | number> {
  const index = profileIndex(profile);
  return new Map(
    Object.entries(KNOBS).map(([key, { unit, values }]) => {
      const value = values[index] ?? 0;
      return [key, unit === 'ms' ? formatFineDuration(value) : value];
    }),
  );
}

export function toGossip(document: GossipDocument): GossipConfig {
  const { port, insecure } = document;
  return {
    seeds: document.seeds.map((text) => checked(parseSeed(text, port))),
    discover: document.discover,
    port,
    bind: document.bind.map(toPrefix),
    label: document.label,
    keyFile: insecure ? undefined : document.key_file,
    allow: document.allow.map(toPrefix),
    profile: document.profile,
    timing: toTiming(document.timing),
    weight: document.weight,
    isolation: document.isolation,
    reference: document.reference?.map(toIp),
    drainOnStop: document.drain_on_stop,
    preempt: document.preempt,
    excludeLabelledNodes: document.exclude_labelled_nodes,
    excludeNetworkUnavailable: document.exclude_network_unavailable,
  };
}

function toTiming(document: GossipDocument['timing']): GossipTiming {
  const timing: Partial<Record<GossipKnob, number>> = {};
  for (const [key, { name }] of Object.entries(KNOBS)) {
    const value = document[key as KnobKey];
    if (value !== undefined)
      timing[name] = typeof value === 'number' ? value : checked(parseFineDuration(value));
  }
  return timing;
}

/** An address alone is a prefix that holds nothing else. */
function toPrefix(text: string): Prefix {
  const ip = parseIp(text);
  if (ip !== undefined) return { network: ip, length: FAMILY_BITS[familyOf(ip)] };
  const prefix = parsePrefix(text);
  return checked(prefix.ok ? prefix.value : undefined);
}

function toIp(text: string): Ip {
  return checked(parseIp(text));
}

function checked<Value>(value: Value | undefined): Value {
  assert(value !== undefined, 'the schema checked the values of [gossip]');
  return value;
}

function msOf(value: unknown): number | undefined {
  return typeof value === 'string' ? parseFineDuration(value) : undefined;
}

function tableOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return value as Readonly<Record<string, unknown>>;
}
