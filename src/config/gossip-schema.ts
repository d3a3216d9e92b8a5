import * as z from 'zod/mini';
import { parseIp, parsePrefix } from '../lib/ip.ts';
import { DEFAULT_KEY_FILE } from './defaults.ts';
import { FINE_DURATION_PATTERN, formatFineDuration, parseFineDuration } from './duration.ts';
import { absolutePath, checkText, text, wholeNumber } from './schema-text.ts';
import { parseSeed } from './seed.ts';

/** The keys of [gossip] and [gossip.timing]. */

export const DEFAULT_GOSSIP_PORT = 7946;
const MAX_SEEDS = 100;
const MAX_ADDRESSES = 100;
/** What is written elsewhere for every address; here that is said by nothing. */
const EVERY_ADDRESS: readonly string[] = ['0.0.0.0', '::'];
const LABEL = /^[\x21-\x7e]{1,63}$/;

export function gossipKeys() {
  return {
    seeds: z
      ._default(listOf(z.string().check(checkText(seedProblem)), MAX_SEEDS, 'seeds'), [])
      .check(
        z.describe(
          'Hosts to find the others through: addresses or DNS names, with a port if it is another; asked for ever, so they need not be up.',
        ),
      ),
    discover: z
      ._default(z.enum(['none', 'kubernetes']), 'none')
      .check(
        z.describe(
          'Where else to find others: "kubernetes" takes the InternalIP addresses of the Nodes, "none" only the seeds.',
        ),
      ),
    port: z
      ._default(wholeNumber(1, 65_535), DEFAULT_GOSSIP_PORT)
      .check(z.describe('The UDP and TCP port of gossip, the same on every host.')),
    bind: z
      ._default(listOf(z.string().check(checkText(bindProblem)), MAX_ADDRESSES, 'addresses'), [])
      .check(
        z.describe(
          'The addresses of this host to listen on, UDP and TCP, as addresses or CIDR prefixes; none means every address. In subnets where it does not listen it takes no address.',
        ),
      ),
    label: z
      ._default(text(LABEL, 'expected 1 to 63 visible characters'), 'default')
      .check(z.describe('The name of the cluster: hosts with different labels never talk to each other.')),
    key_file: z
      ._default(absolutePath(), DEFAULT_KEY_FILE)
      .check(
        z.describe(
          'The file of keys that the hosts of the cluster share, see "lbctl keygen"; not for others to read.',
        ),
      ),
    insecure: z
      ._default(z.boolean(), false)
      .check(
        z.describe('Whether gossip goes without keys: then whoever reaches the port can take every address.'),
      ),
    allow: z
      ._default(listOf(z.string().check(checkText(prefixProblem)), MAX_ADDRESSES, 'prefixes'), [])
      .check(z.describe('The source addresses to talk to, as CIDR prefixes; none means all.')),
    profile: z
      ._default(z.enum(['lan', 'fast', 'wan']), 'lan')
      .check(
        z.describe(
          'The pace of everything: "lan" for one switched network, "fast" for a quiet one, "wan" for hosts with tens of milliseconds between them.',
        ),
      ),
    weight: z
      ._default(wholeNumber(1, 1_000), 100)
      .check(z.describe("This host's share of the addresses, compared with the weights of the others.")),
    isolation: z
      ._default(z.enum(['auto', 'release', 'hold']), 'auto')
      .check(
        z.describe(
          'What a host does with its addresses when it hears nobody: "release" or "hold" them; "auto" releases where three or more hosts were ever seen.',
        ),
      ),
    reference: z
      .optional(listOf(ipText(), MAX_ADDRESSES, 'addresses'))
      .check(
        z.describe(
          'Addresses whose answer also shows that this host is not isolated, in place of the gateway of each subnet; with [] only other hosts do.',
        ),
      ),
    drain_on_stop: z
      ._default(z.boolean(), false)
      .check(z.describe('Whether this host hands its addresses to others before lbd stops for good.')),
    preempt: z
      ._default(z.boolean(), false)
      .check(
        z.describe(
          'Whether addresses move by themselves to where "lbctl rebalance" would put them, as when a host comes back.',
        ),
      ),
    exclude_labelled_nodes: z
      ._default(z.boolean(), true)
      .check(
        z.describe(
          'Whether Nodes labelled node.kubernetes.io/exclude-from-external-load-balancers own no addresses.',
        ),
      ),
    exclude_network_unavailable: z
      ._default(z.boolean(), true)
      .check(z.describe('Whether Nodes with the condition NetworkUnavailable own no addresses.')),
    timing: z
      .prefault(z.strictObject(timingKeys()), {})
      .check(
        z.describe(
          'Single knobs, in place of what the profile has; docs/election.md tells what each trades.',
        ),
      ),
  };
}

/** What one knob takes, and what it is. `ms` ones are written as durations. */
type Knob = {
  readonly name: string;
  readonly unit: 'ms' | 'count';
  readonly min: number;
  readonly max: number;
  /** In the profiles lan, fast and wan: what the election has. */
  readonly values: readonly [number, number, number];
  readonly description: string;
};

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** By key of [gossip.timing]; `name` is the setting's name in the election. */
export const KNOBS = {
  heartbeat: ms('heartbeatMs', 10, 5 * SECOND, [50, 25, 200], 'Between two heartbeats to a neighbour'),
  missed_heartbeats: count(
    'missedHeartbeats',
    1,
    20,
    [3, 3, 5],
    'Heartbeats in a row that must be missing before a neighbour is asked for',
  ),
  heartbeat_slack: ms(
    'heartbeatSlackMs',
    0,
    SECOND,
    [0, 0, 0],
    'On top of the missed heartbeats, for the jitter of busy hosts',
  ),
  inquiry: ms(
    'inquiryMs',
    10,
    10 * SECOND,
    [50, 30, 500],
    'How long a silent neighbour is asked for before the verdict',
  ),
  inquiry_every: ms('inquiryEveryMs', 5, SECOND, [10, 10, 50], 'Between two questions of an inquiry'),
  indirect: count('indirect', 0, 10, [3, 3, 3], "Members that are asked to probe on one's behalf"),
  takeover_floor: ms(
    'takeoverFloorMs',
    50,
    MINUTE,
    [220, 120, 1800],
    'No address of a silent owner is taken sooner after it was last heard',
  ),
  isolation: ms(
    'isolationMs',
    30,
    MINUTE,
    [150, 75, 1200],
    'How long after the last packet heard a host counts itself as isolated',
  ),
  overrun: ms(
    'overrunMs',
    10,
    10 * SECOND,
    [50, 30, 200],
    'A timer later than this means that the host was not running',
  ),
  probe_interval: ms('probeIntervalMs', 50, MINUTE, [500, 500, 1000], 'Between two probes of members'),
  probe_timeout: ms(
    'probeTimeoutMs',
    10,
    MINUTE,
    [150, 150, 300],
    'How long a probed member may take before others are asked to probe it',
  ),
  suspicion_min: ms(
    'suspicionMinMs',
    100,
    5 * MINUTE,
    [1200, 800, 4000],
    'The least time from suspicion to death, when many confirm it',
  ),
  suspicion_max: ms(
    'suspicionMaxMs',
    100,
    10 * MINUTE,
    [6000, 6000, 20000],
    'The most, when nobody confirms it',
  ),
  gossip_interval: ms(
    'gossipIntervalMs',
    20,
    10 * SECOND,
    [100, 100, 200],
    'Between two rounds of gossip while there is news',
  ),
  gossip_fanout: count('gossipFanout', 1, 16, [4, 4, 4], 'Members that are told in each round'),
  retransmit_mult: count(
    'retransmitMult',
    1,
    16,
    [4, 4, 4],
    'How often news is sent on, times the logarithm of the number of members',
  ),
  push_pull: ms(
    'pushPullMs',
    SECOND,
    60 * MINUTE,
    [30000, 30000, 30000],
    'Between two exchanges of everything with some member',
  ),
  dead_retry: ms(
    'deadRetryMs',
    100,
    MINUTE,
    [1000, 1000, 1000],
    'Between two tries to reach a member that is dead',
  ),
  settle: ms('settleMs', 0, MINUTE, [2000, 2000, 2000], 'How long after the start nothing is claimed'),
  return_settle: ms(
    'returnSettleMs',
    0,
    MINUTE,
    [3000, 3000, 3000],
    'How long after isolation nothing of others is claimed',
  ),
  hand_over_timeout: ms(
    'handOverTimeoutMs',
    50,
    MINUTE,
    [500, 500, 500],
    'How long a hand-over may take before another host is asked',
  ),
  hand_over_overlap: ms(
    'handOverOverlapMs',
    0,
    50,
    [20, 20, 20],
    'How long the old owner still answers after the new one has announced',
  ),
} as const satisfies Readonly<Record<string, Knob>>;

function ms<Name extends string>(
  name: Name,
  min: number,
  max: number,
  values: Knob['values'],
  description: string,
) {
  return { name, unit: 'ms', min, max, values, description } as const;
}

function count<Name extends string>(
  name: Name,
  min: number,
  max: number,
  values: Knob['values'],
  description: string,
) {
  return { name, unit: 'count', min, max, values, description } as const;
}

type KnobSchemas = {
  readonly [Key in keyof typeof KNOBS]: z.ZodMiniOptional<
    (typeof KNOBS)[Key]['unit'] extends 'ms' ? z.ZodMiniString : z.ZodMiniNumber
  >;
};

function timingKeys(): KnobSchemas {
  const schemas = Object.entries<Knob>(KNOBS).map(([key, knob]) => {
    const value = knob.unit === 'ms' ? fineDuration(knob) : wholeNumber(knob.min, knob.max);
    return [
      key,
      z.optional<z.ZodMiniType>(value).check(z.describe(`${knob.description}; ${valuesText(knob)}.`)),
    ];
  });
  return Object.fromEntries(schemas) as KnobSchemas;
}

function valuesText({ unit, values }: Knob): string {
  const [lan, fast, wan] = values.map((value) => (unit === 'ms' ? formatFineDuration(value) : String(value)));
  return lan === fast && lan === wan ? `${lan}` : `${lan} in lan, ${fast} in fast, ${wan} in wan`;
}

function fineDuration({ min, max }: Knob) {
  return z.string().check(
    z.regex(FINE_DURATION_PATTERN, {
      error: 'expected a duration such as "50ms", "1.5s" or "1m"',
      abort: true,
    }),
    checkText((value) => {
      const given = parseFineDuration(value);
      if (given !== undefined && given >= min && given <= max) return undefined;
      return `expected ${formatFineDuration(min)} to ${formatFineDuration(max)}`;
    }),
  );
}

function listOf<Element extends z.ZodMiniType>(element: Element, max: number, what: string) {
  return z.array(element).check(z.maxLength(max, `expected at most ${max} ${what}`));
}

function ipText() {
  return z
    .string()
    .check(
      checkText((value) =>
        parseIp(value) === undefined ? 'expected an address such as 192.0.2.1' : undefined,
      ),
    );
}

function prefixProblem(value: string): string | undefined {
  const prefix = parsePrefix(value);
  return prefix.ok ? undefined : prefix.error;
}

function bindProblem(value: string): string | undefined {
  if (value.includes('/')) return prefixProblem(value);
  return parseIp(value) === undefined || EVERY_ADDRESS.includes(value)
    ? 'expected an address such as 192.0.2.1 or a prefix such as 192.0.2.0/24'
    : undefined;
}

function seedProblem(value: string): string | undefined {
  const seed = parseSeed(value, DEFAULT_GOSSIP_PORT);
  return seed === undefined
    ? 'expected an address or a DNS name, with or without a port, as in "192.0.2.1", "lbd.example.com:7946" or "[2001:db8::1]:7946"'
    : undefined;
}
