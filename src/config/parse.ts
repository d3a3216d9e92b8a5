import { assert } from '../lib/assert.ts';
import { parseRange } from '../lib/ip.ts';
import { fail, ok, type Result } from '../lib/result.ts';
import { aggregateProblems } from './aggregates.ts';
import { DEFAULT_ROUTES } from './defaults.ts';
import { parseDuration } from './duration.ts';
import { gossipHazards, gossipProblems, LONGEST_MEMBER_NAME, toGossip } from './gossip.ts';
import { gatewayProblems, toInterface } from './interfaces.ts';
import { createLocator, type Locator } from './locate.ts';
import { type Layer, type MergedDocument, mergeLayers } from './merge.ts';
import { poolProblems } from './pools.ts';
import { formatKey, type KeyPath, quote, sortProblems } from './problem.ts';
import { type ConfigDocument, configSchema, HOST_NAME, HOST_NAME_EXPECTED, parseListen } from './schema.ts';
import { type KnownKeys, shapeProblems } from './shape.ts';
import { parseToml, type TomlTable } from './syntax.ts';
import { configTables } from './tables.ts';
import type { Config, ConfigProblem, LoadedConfig, PoolConfig, VirtualConfig } from './types.ts';
import { configValues } from './values.ts';

export type ConfigDefaults = {
  /** The system's host name. */
  readonly hostName: string;
};

/** One file of a configuration: the main one first, then its drop-ins in the order in which they apply. */
export type ConfigText = { readonly file: string; readonly text: string };

/**
 * The configuration that `text` describes, or everything that is wrong with it, in the order of the file (safety
 * rule 8). Pure: `file` only names the text in messages. Takes any text and never throws on it.
 */
export function parseConfig(
  text: string,
  file: string,
  defaults: ConfigDefaults,
): Result<LoadedConfig, readonly ConfigProblem[]> {
  return parseConfigFiles([{ file, text }], defaults);
}

/** As `parseConfig()`, for a main file with drop-ins merged over it (see `merge.ts`). */
export function parseConfigFiles(
  texts: readonly ConfigText[],
  defaults: ConfigDefaults,
): Result<LoadedConfig, readonly ConfigProblem[]> {
  const syntaxProblems: ConfigProblem[] = [];
  const layers = texts.map((text) => toLayer(text, syntaxProblems));
  const merged = mergeLayers(layers);
  const report = createReport(merged, layers.length > 1);
  const document = checkDocument(merged.document, report, defaults);
  if (syntaxProblems.length > 0) {
    // What the broken file would have said is unknown: of the others only what is wrong in itself is sure.
    const errors = report.problems.filter((problem) => problem.severity === 'error');
    return fail(sortProblems([...syntaxProblems, ...errors], texts));
  }
  const problems = sortProblems(report.problems, texts);
  if (document === undefined) return fail(problems);
  const config = toConfig(document, defaults);
  return ok({ config, warnings: problems, values: () => configValues(document, config, merged) });
}

function toLayer({ file, text }: ConfigText, problems: ConfigProblem[]): Layer {
  // Only a file with something to say about it is read a second time, for its lines.
  let locator: Locator | undefined;
  const locate: Locator = (path) => {
    locator ??= createLocator(text);
    return locator(path);
  };
  const parsed = parseToml(text);
  if (parsed.ok) return { file, document: parsed.value, locate };
  const { line, column, message } = parsed.error;
  const position = column === undefined ? { line } : { line, column };
  problems.push({ severity: 'error', file, ...position, key: '', message });
  return { file, document: {}, locate: () => undefined };
}

type Report = {
  readonly problems: ConfigProblem[];
  /** The key as its own file has it. */
  readonly key: (path: KeyPath) => string;
  readonly place: (path: KeyPath) => string;
  error(path: KeyPath, message: string): void;
  warn(path: KeyPath, message: string): void;
};

function createReport({ originOf }: MergedDocument, hasDropIns: boolean): Report {
  const problems: ConfigProblem[] = [];
  const add = (severity: ConfigProblem['severity'], at: KeyPath, message: string): void => {
    const { file, line, path } = originOf(at);
    problems.push({ severity, file, line, key: formatKey(path), message });
  };
  return {
    problems,
    key: (path) => formatKey(originOf(path).path),
    place: (path) => {
      const { file, line } = originOf(path);
      return hasDropIns ? `${file}:${line}` : `line ${line}`;
    },
    error: (path, message) => add('error', path, message),
    warn: (path, message) => add('warning', path, message),
  };
}

/** The document with its defaults, or undefined once at least one error is in the report. */
function checkDocument(
  document: TomlTable,
  report: Report,
  defaults: ConfigDefaults,
): ConfigDocument | undefined {
  const schema = configSchema();
  const shape = schema.safeParse(document);
  if (!shape.success) {
    for (const problem of shapeProblems(shape.error.issues, document, knownKeys())) {
      report.error(problem.path, problem.message);
    }
  }
  const pools = document['pool'];
  for (const problem of [...poolProblems(pools, report), ...aggregateProblems(pools, report)]) {
    if (problem.severity === 'error') report.error(problem.path, problem.message);
    else report.warn(problem.path, problem.message);
  }
  reportRepeatedInterfaces(document, report);
  for (const { path, message } of gatewayProblems(document['interface'])) report.error(path, message);
  for (const { path, message } of gossipProblems(document['gossip'])) report.error(path, message);
  if (!shape.success) return undefined;
  reportHazards(shape.data, report);
  reportHostName(shape.data, report, defaults);
  for (const { path, message } of gossipHazards(shape.data.gossip)) report.warn(path, message);
  if (report.problems.some((problem) => problem.severity === 'error')) return undefined;
  return shape.data;
}

function knownKeys(): KnownKeys {
  const tables = configTables();
  const known = new Map(tables.map(({ path, keys }) => [path.join('.'), keys]));
  known.set('', []);
  for (const { path } of tables) {
    const parent = path.slice(0, -1).join('.');
    known.set(parent, [...(known.get(parent) ?? []), path.at(-1) ?? '']);
  }
  return known;
}

function reportRepeatedInterfaces(document: TomlTable, report: Report): void {
  const pools = Array.isArray(document['pool']) ? document['pool'] : [];
  const lists = [
    { table: document['local'], path: ['local'] },
    ...pools.map((table: unknown, index) => ({ table, path: ['pool', index] })),
  ];
  for (const { table, path } of lists) {
    if (typeof table !== 'object' || table === null || !('interfaces' in table)) continue;
    const { interfaces } = table;
    if (!Array.isArray(interfaces)) continue;
    const seen = new Set<unknown>();
    for (const [index, name] of interfaces.entries()) {
      if (typeof name !== 'string') continue;
      if (!seen.has(name)) seen.add(name);
      else report.error([...path, 'interfaces', index], `expected each name once, got ${quote(name)} again`);
    }
  }
}

/** What is allowed, but is seldom what an operator wants. */
function reportHazards(document: ConfigDocument, report: Report): void {
  if (document.pool.length === 0) {
    report.warn([], 'expected at least one [[pool]], got none: no Service gets an address from this host');
  }
  if (document.local.prefix === 'subnet') {
    report.warn(
      ['local', 'prefix'],
      'expected "host", got "subnet": while the host\'s own address is away, lbd takes the IPv4 addresses of Services ' +
        "off; where it cannot, because it was stopped, one of them can come before the host's own address, which then " +
        'has no route until that one expires',
    );
  }
  if (lifetimeMs(document) === 0) {
    report.warn(
      ['local', 'lifetime'],
      'expected a lifetime, got 0: if lbd dies, its addresses stay on this host and answer until "lbd cleanup" runs',
    );
  }
}

function reportHostName(document: ConfigDocument, report: Report, defaults: ConfigDefaults): void {
  const name = document.host.name ?? defaults.hostName;
  if (document.gossip !== undefined && name.length > LONGEST_MEMBER_NAME) {
    const message = `expected at most ${LONGEST_MEMBER_NAME} characters with [gossip], got ${quote(name)}; set a shorter one here`;
    report.error(['host', 'name'], message);
  }
  if (document.host.name !== undefined || HOST_NAME.test(defaults.hostName)) return;
  const message = `${HOST_NAME_EXPECTED}, got ${quote(defaults.hostName)} from the system; set a name here`;
  report.error(['host', 'name'], message);
}

function lifetimeMs(document: ConfigDocument): number {
  const { lifetime } = document.local;
  if (lifetime === 0) return 0;
  const parsed = parseDuration(lifetime);
  assert(parsed.ok, 'the schema checked local.lifetime');
  return parsed.value;
}

function announceIntervalMs(document: ConfigDocument): number {
  const interval = document.local.announce_interval;
  if (interval === 0) return 0;
  const parsed = parseDuration(interval);
  assert(parsed.ok, 'the schema checked local.announce_interval');
  return parsed.value;
}

function toConfig(document: ConfigDocument, defaults: ConfigDefaults): Config {
  const { host, kubernetes, local, virtual, arp, control, metrics, state, log } = document;
  const name = host.name ?? defaults.hostName;
  return {
    host: { name, node: host.node ?? name.toLowerCase() },
    kubernetes: {
      kubeconfig: kubernetes.kubeconfig,
      context: kubernetes.context,
      loadBalancerClass: kubernetes.load_balancer_class,
      leaseNamespace: kubernetes.lease_namespace,
      healthCheckNodePorts: kubernetes.health_check_node_ports,
    },
    pools: document.pool.map(toPool),
    local: {
      interfaces: local.interfaces,
      prefix: local.prefix,
      lifetimeMs: lifetimeMs(document),
      announceIntervalMs: announceIntervalMs(document),
    },
    interfaces: document.interface.map(toInterface),
    virtual: { interface: virtual.interface, type: virtual.type, routes: ownRoutes(virtual) },
    arp: { enforceSysctls: arp.enforce_sysctls },
    gossip: document.gossip && toGossip(document.gossip),
    control: { socket: control.socket },
    metrics: { listen: metrics.listen === undefined ? undefined : parseListen(metrics.listen) },
    state: { directory: state.directory },
    log: { level: log.level },
  };
}

function toPool(pool: ConfigDocument['pool'][number]): PoolConfig {
  const ranges = pool.addresses.map((text) => {
    const range = parseRange(text);
    assert(range.ok, 'the schema checked the addresses of the pool');
    return range.value;
  });
  const { name, addresses, auto_assign: autoAssign, interfaces, aggregate } = pool;
  return {
    name,
    addresses,
    ranges,
    autoAssign,
    ...(interfaces.length === 0 ? {} : { interfaces }),
    aggregate: { v4: aggregate?.v4, v6: aggregate?.v6 },
  };
}

function ownRoutes({ table, protocol }: ConfigDocument['virtual']): VirtualConfig['routes'] {
  if (table === undefined && protocol === undefined) return undefined;
  return { table: table ?? DEFAULT_ROUTES.table, protocol: protocol ?? DEFAULT_ROUTES.protocol };
}
