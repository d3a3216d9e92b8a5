import * as z from 'zod/mini';
import { parseIp, parsePrefix, parseRange } from '../lib/ip.ts';
import { DEFAULT_KUBECONFIG, DEFAULT_SOCKET } from './defaults.ts';
import { DURATION_PATTERN, parseDuration } from './duration.ts';
import { gossipKeys } from './gossip-schema.ts';
import { absolutePath, checkText, text, wholeNumber } from './schema-text.ts';
import { parseSeed } from './seed.ts';
import type { MetricsConfig } from './types.ts';
import { virtualKeys } from './virtual-schema.ts';

const MAX_POOLS = 1000;
const MAX_ADDRESSES_PER_POOL = 1000;
const MAX_INTERFACES = 100;
const SHORTEST_LIFETIME_MS = 2_000;
const LONGEST_LIFETIME_MS = 86_400_000;
const SHORTEST_ANNOUNCE_MS = 10_000;

/** `sun_path` of sockaddr_un is 108 bytes with its final NUL (linux/un.h). */
const SOCKET_PATH = /^(?=.{1,107}$)\/[\x21-\x7e]*[\x21-\x2e\x30-\x7e]$/;
/** RFC 1123 label and subdomain, as Kubernetes checks names (apimachinery validation). */
const DNS_LABEL = /^(?=.{1,63}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;
/** A label-style identifier with an optional prefix (KEP-1959). */
const LOAD_BALANCER_CLASS =
  /^(?:(?=[^/]{1,253}\/)[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?\/)?(?=[^/]{1,63}$)[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?$/;
/** IFNAMSIZ is 16 with its final NUL; the kernel refuses `/`, `:` and white space (dev_valid_name). */
const INTERFACE_PATTERN = /^[^\s/:]{1,15}$/;

/** What a host may be called among lbd hosts; also checked for the system's own name. */
export const HOST_NAME = /^[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,251}[A-Za-z0-9])?$/;
export const HOST_NAME_EXPECTED = 'expected letters, digits, "-", "_" and "."';

export type ConfigDocument = z.output<ReturnType<typeof createConfigSchema>>;

let schema: ReturnType<typeof createConfigSchema> | undefined;

/** The schema of lbd.toml: shape, formats, defaults and documentation. Built at first use, because most commands need none. */
export function configSchema(): ReturnType<typeof createConfigSchema> {
  schema ??= createConfigSchema();
  return schema;
}

function createConfigSchema() {
  // The compiled validators of zod pay off after thousands of objects; here there is one.
  z.config({ jitless: true });
  return z.strictObject({
    host: section('How this host is called.', hostKeys()),
    kubernetes: section(
      'How lbd reaches the Kubernetes API and which Services are its own.',
      kubernetesKeys(),
    ),
    pool: z
      ._default(
        z
          .array(z.strictObject(poolKeys()))
          .check(z.maxLength(MAX_POOLS, `expected at most ${MAX_POOLS} pools`)),
        [],
      )
      .check(z.describe('The addresses that Services may get, one [[pool]] for each group of them.')),
    local: section('How an address is put on this host.', localKeys()),
    interface: z
      ._default(
        z
          .array(z.strictObject(interfaceKeys()))
          .check(z.maxLength(MAX_INTERFACES, `expected at most ${MAX_INTERFACES} tables`)),
        [],
      )
      .check(
        z.describe(
          'What is particular to a network interface; of several [[interface]] that fit one, the first counts.',
        ),
      ),
    virtual: section(
      'How addresses in no subnet of any host are put on every host, for routers to send traffic to.',
      virtualKeys(),
    ),
    arp: section('How this host answers ARP.', arpKeys()),
    gossip: z
      .optional(z.strictObject(gossipKeys()))
      .check(
        z.describe(
          'How lbd hosts talk to each other, so that each local address has one owner. Without this table a host is alone: it owns every address that it can.',
        ),
      ),
    control: section('Where lbctl reaches lbd.', controlKeys()),
    metrics: section('What Prometheus is told.', metricsKeys()),
    state: section('What lbd keeps across restarts.', stateKeys()),
    log: section('What lbd logs.', logKeys()),
  });
}

function section<Keys extends z.core.$ZodLooseShape>(description: string, keys: Keys) {
  return z.prefault(z.strictObject(keys), {} as never).check(z.describe(description));
}

function hostKeys() {
  return {
    name: z
      .optional(text(HOST_NAME, HOST_NAME_EXPECTED))
      .check(z.describe("The name of this host among lbd hosts; without it, the system's host name.")),
    node: z
      .optional(
        text(DNS_SUBDOMAIN, 'expected the name of a Node object: lower-case letters, digits, "-" and "."'),
      )
      .check(
        z.describe("The name of this host's Node object in Kubernetes; without it, host.name in lower case."),
      ),
  };
}

function kubernetesKeys() {
  return {
    kubeconfig: z
      ._default(absolutePath(), DEFAULT_KUBECONFIG)
      .check(
        z.describe(
          'The kubeconfig file that lbd reaches the API server with; root and the group lbd read it (mode 0640), and lbd refuses one that others can.',
        ),
      ),
    context: z
      .optional(text(/./, 'expected the name of a context'))
      .check(z.describe('The context of the kubeconfig to use; without it, its current one.')),
    load_balancer_class: z
      .optional(text(LOAD_BALANCER_CLASS, 'expected a class such as "example.com/lbd"'))
      .check(
        z.describe(
          'Serve only Services with this spec.loadBalancerClass; without it, only Services that name no class.',
        ),
      ),
    lease_namespace: z
      ._default(text(DNS_LABEL, 'expected the name of a namespace'), 'kube-system')
      .check(z.describe('The namespace of the Lease by which lbd hosts agree on the one that allocates.')),
    health_check_node_ports: z
      ._default(z.boolean(), false)
      .check(
        z.describe(
          "Whether this host has an address of a Service with externalTrafficPolicy Local only while the Service's healthCheckNodePort answers 200 on it, as it does when kube-proxy is ready.",
        ),
      ),
  };
}

function poolKeys() {
  return {
    name: text(DNS_SUBDOMAIN, 'expected a name of lower-case letters, digits, "-" and "."').check(
      z.describe('The name of the pool, by which a Service asks for it in the annotation lbd.io/pool.'),
    ),
    addresses: z
      .array(z.string().check(checkText(addressesProblem)))
      .check(
        z.minLength(1, 'expected at least one prefix or range'),
        z.maxLength(MAX_ADDRESSES_PER_POOL, `expected at most ${MAX_ADDRESSES_PER_POOL} prefixes and ranges`),
        z.describe('IPv4 and IPv6 addresses, each entry a CIDR prefix or a range "first-last".'),
      ),
    auto_assign: z
      ._default(z.boolean(), true)
      .check(z.describe('Whether Services that ask for no pool get addresses from this one.')),
    interfaces: z
      ._default(interfaceRules(), [])
      .check(
        z.describe(
          'The network interfaces for the addresses of the pool, as in [local] interfaces; none means those of [local].',
        ),
      ),
    aggregate: z
      .optional(z.strictObject(aggregateKeys()))
      .check(
        z.describe(
          'By which prefixes routers learn of the virtual addresses of the pool, in place of one route for each address; everything in such a prefix is sent to the hosts of lbd.',
        ),
      ),
  };
}

function interfaceRules() {
  return z
    .array(z.string().check(checkText(interfaceProblem)))
    .check(z.maxLength(MAX_INTERFACES, `expected at most ${MAX_INTERFACES} names`));
}

function interfaceProblem(value: string): string | undefined {
  if (!value.includes('/')) {
    return INTERFACE_PATTERN.test(value)
      ? undefined
      : 'expected the name of a network interface, a pattern such as "eth*" or a prefix such as 192.0.2.0/24';
  }
  const prefix = parsePrefix(value);
  return prefix.ok ? undefined : prefix.error;
}

function aggregateKeys() {
  return {
    v4: z
      .optional(wholeNumber(8, 32))
      .check(z.describe('The length of the IPv4 prefixes, from 8 to 32; without it, every address alone.')),
    v6: z
      .optional(wholeNumber(16, 128))
      .check(z.describe('The length of the IPv6 prefixes, from 16 to 128; without it, every address alone.')),
  };
}

function localKeys() {
  return {
    interfaces: z
      ._default(interfaceRules(), [])
      .check(
        z.describe(
          'The network interfaces that may hold addresses of Services, by name, by pattern with * and ?, or by a CIDR prefix that their subnet is in; none means the one with the default route.',
        ),
      ),
    prefix: z
      ._default(z.enum(['host', 'subnet']), 'host')
      .check(
        z.describe(
          'Whether an address is added as /32 or /128 ("host") or with the prefix length of its subnet ("subnet": its IPv4 addresses go whenever the own address of the host does).',
        ),
      ),
    lifetime: z
      ._default(
        z.union(
          [
            z
              .string()
              .check(
                z.regex(DURATION_PATTERN, { error: lifetimeError, abort: true }),
                checkText(lifetimeProblem),
              ),
            z.literal(0),
          ],
          'expected a duration such as "30s", or 0 for permanent',
        ),
        '30s',
      )
      .check(
        z.describe(
          'How long the kernel keeps an address that lbd no longer renews, in whole seconds from 2s to 24h; longer on a host with thousands; 0 means for ever.',
        ),
      ),
    announce_interval: z
      ._default(
        z.union(
          [
            z
              .string()
              .check(
                z.regex(DURATION_PATTERN, { error: intervalError, abort: true }),
                checkText(intervalProblem),
              ),
            z.literal(0),
          ],
          'expected a duration such as "5m", or 0 for never',
        ),
        0,
      )
      .check(
        z.describe(
          'How often each address is announced again by gratuitous ARP or neighbour advertisement, from 10s to 24h, for switches and hosts that forget; 0 means never after the first seconds.',
        ),
      ),
  };
}

function interfaceKeys() {
  return {
    name: z
      .string()
      .check(
        checkText(interfaceProblem),
        z.describe('The network interface, by name, by pattern, or by a CIDR prefix that its subnet is in.'),
      ),
    source_routing: z
      ._default(z.boolean(), false)
      .check(
        z.describe(
          'Whether answers from addresses in its subnets leave by it and its gateway, in place of the default route of the host.',
        ),
      ),
    gateways: z
      ._default(
        z.array(z.string().check(checkText(ipProblem))).check(z.maxLength(2, 'expected at most two')),
        [],
      )
      .check(
        z.describe(
          'The gateway of each family for source_routing; without it, the one of the default route over the interface.',
        ),
      ),
  };
}

function ipProblem(value: string): string | undefined {
  return parseIp(value) === undefined ? 'expected an address' : undefined;
}

function arpKeys() {
  return {
    enforce_sysctls: z
      ._default(z.boolean(), true)
      .check(
        z.describe(
          'Whether lbd sets arp_ignore=1 and arp_announce=2 and keeps them; false only reports them.',
        ),
      ),
  };
}

function controlKeys() {
  return {
    socket: z
      ._default(text(SOCKET_PATH, 'expected an absolute path of at most 107 characters'), DEFAULT_SOCKET)
      .check(z.describe('The unix socket that lbctl asks for status.')),
  };
}

function metricsKeys() {
  return {
    listen: z
      .optional(z.string().check(checkText(listenProblem)))
      .check(
        z.describe(
          'The address and port where GET /metrics is answered, such as "127.0.0.1:7472"; without it, nowhere.',
        ),
      ),
  };
}

function listenProblem(value: string): string | undefined {
  return parseListen(value) === undefined
    ? 'expected an address and a port, as in "127.0.0.1:7472" or "[::1]:7472"'
    : undefined;
}

/** `192.0.2.1:7472` or `[2001:db8::1]:7472`; undefined for anything else. */
export function parseListen(value: string): MetricsConfig['listen'] {
  const seed = parseSeed(value, 0);
  const ip = seed === undefined ? undefined : parseIp(seed.host);
  return seed === undefined || ip === undefined || seed.port === 0 ? undefined : { ip, port: seed.port };
}

function stateKeys() {
  return {
    directory: z
      ._default(absolutePath(), '/var/lib/lbd')
      .check(z.describe('The directory for what lbd has to remember, such as the last known Services.')),
  };
}

function logKeys() {
  return {
    level: z
      ._default(z.enum(['trace', 'debug', 'info', 'warn', 'error']), 'info')
      .check(z.describe('The least important level that is logged: trace, debug, info, warn or error.')),
  };
}

function addressesProblem(value: string): string | undefined {
  const range = parseRange(value);
  if (range.ok) return undefined;
  const single = parseIp(value);
  if (single !== undefined)
    return `expected a prefix or a range, as in "${single}/${single.includes(':') ? 128 : 32}"`;
  if (!/^[\s0-9a-fA-F:.]+([/-]|$)/.test(value)) {
    return 'expected a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20';
  }
  return range.error;
}

function lifetimeError(issue: { readonly input?: unknown }): string {
  return lifetimeProblem(String(issue.input)) ?? '';
}

function lifetimeProblem(value: string): string | undefined {
  const duration = parseDuration(value);
  if (!duration.ok) return duration.error;
  if (duration.value === 0) return undefined;
  if (duration.value >= SHORTEST_LIFETIME_MS && duration.value <= LONGEST_LIFETIME_MS) return undefined;
  return 'expected 2s to 24h, or 0 for permanent';
}

function intervalError(issue: { readonly input?: unknown }): string {
  return intervalProblem(String(issue.input)) ?? '';
}

function intervalProblem(value: string): string | undefined {
  const duration = parseDuration(value);
  if (!duration.ok) return duration.error;
  if (duration.value === 0) return undefined;
  if (duration.value >= SHORTEST_ANNOUNCE_MS && duration.value <= LONGEST_LIFETIME_MS) return undefined;
  return 'expected 10s to 24h, or 0 for never';
}
