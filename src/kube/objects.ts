/**
 * From what the API server sends to what lbd keeps. Every function is total: no input makes it throw, and no field
 * of a wrong type or size gets through. An object without a usable name is dropped (undefined).
 */

import { parseIp } from '../lib/ip.ts';
import { epochMsOf, listOf, type RawRecord, recordOf, shortTextOf, textOf, wholeOf, wordOf } from './raw.ts';
import type {
  Endpoint,
  EndpointSlice,
  Ingress,
  Node,
  NodeName,
  Service,
  ServiceKey,
  ServicePort,
} from './types.ts';

/**
 * One object as a reflector handles it. `value` is undefined when the object exists but is none of lbd's business:
 * such an object is known to be there (so it did not vanish) and is not kept.
 */
export type Item<Value> = {
  readonly key: string;
  readonly resourceVersion: string;
  readonly value: Value | undefined;
};

/** Kubernetes' own limits on names (RFC 1123) and what lbd keeps of lists that have no limit of their own. */
const LONGEST_NAME = 253;
const LONGEST_CLASS = 317;
const LONGEST_ADDRESS = 64;
const LONGEST_ANNOTATION = 1_024;
const MOST_ANNOTATIONS = 64;
const MOST_PORTS = 100;
const MOST_INGRESS = 64;
const MOST_ENDPOINTS = 1_000;
const MOST_LABELS = 200;
const LONGEST_LABEL_VALUE = 63;
const MOST_NODE_ADDRESSES = 64;
const MOST_NODE_CONDITIONS = 64;

const ANNOTATION_PREFIXES = ['lbd.io/', 'metallb.io/', 'metallb.universe.tf/', 'purelb.io/'];
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

const SERVICE_TYPES = ['LoadBalancer', 'ClusterIP', 'NodePort', 'ExternalName'] as const;
const IP_FAMILIES = ['IPv4', 'IPv6'] as const;
const FAMILY_POLICIES = ['SingleStack', 'PreferDualStack', 'RequireDualStack'] as const;
const TRAFFIC_POLICIES = ['Cluster', 'Local'] as const;
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const ADDRESS_TYPES = ['IPv4', 'IPv6', 'FQDN'] as const;

/** core/v1 Service. Kept only while it is a LoadBalancer or still carries ingress that one left behind. */
export function serviceItem(raw: unknown): Item<Service> | undefined {
  const object = recordOf(raw);
  const identity = identityOf(object, true);
  if (identity === undefined) return undefined;
  const service = serviceFrom(object, identity);
  const kept = service.type === 'LoadBalancer' || service.ingress.length > 0;
  return {
    key: identity.key,
    resourceVersion: identity.resourceVersion,
    value: kept ? service : undefined,
  };
}

function serviceFrom(object: RawRecord, identity: Identity): Service {
  const metadata = recordOf(object['metadata']);
  const spec = recordOf(object['spec']);
  const status = recordOf(recordOf(object['status'])['loadBalancer']);
  return {
    key: identity.key as ServiceKey,
    namespace: identity.namespace,
    name: identity.name,
    uid: shortTextOf(metadata['uid'], 128) ?? '',
    resourceVersion: identity.resourceVersion,
    createdAt: epochMsOf(metadata['creationTimestamp']) ?? 0,
    deleting: typeof metadata['deletionTimestamp'] === 'string',
    type: wordOf(spec['type'], SERVICE_TYPES) ?? textOf(spec['type'], 64) ?? 'ClusterIP',
    loadBalancerClass: textOf(spec['loadBalancerClass'], LONGEST_CLASS),
    loadBalancerIp: textOf(spec['loadBalancerIP'], LONGEST_ADDRESS) || undefined,
    externalTrafficPolicy: wordOf(spec['externalTrafficPolicy'], TRAFFIC_POLICIES) ?? 'Cluster',
    healthCheckNodePort: wholeOf(spec['healthCheckNodePort'], 1, 65_535),
    ipFamilies: wordsOf(spec['ipFamilies'], IP_FAMILIES, 2),
    ipFamilyPolicy: wordOf(spec['ipFamilyPolicy'], FAMILY_POLICIES) ?? 'SingleStack',
    ports: portsOf(spec['ports']),
    annotations: annotationsOf(metadata['annotations']),
    ingress: listOf(status['ingress'], MOST_INGRESS).map(ingressOf),
  };
}

function portsOf(raw: unknown): readonly ServicePort[] {
  const ports: ServicePort[] = [];
  for (const entry of listOf(raw, MOST_PORTS)) {
    const record = recordOf(entry);
    const port = wholeOf(record['port'], 1, 65_535);
    if (port !== undefined) ports.push({ protocol: wordOf(record['protocol'], PROTOCOLS) ?? 'TCP', port });
  }
  return ports;
}

function ingressOf(raw: unknown): Ingress {
  const record = recordOf(raw);
  return {
    ip: textOf(record['ip'], LONGEST_ADDRESS),
    hostname: textOf(record['hostname'], LONGEST_NAME),
    ipMode: wordOf(record['ipMode'], ['VIP', 'Proxy'] as const) ?? textOf(record['ipMode'], 32),
  };
}

const NO_ANNOTATIONS: Readonly<Record<string, string>> = Object.freeze({});

function annotationsOf(raw: unknown): Readonly<Record<string, string>> {
  const kept: [string, string][] = [];
  for (const [name, value] of Object.entries(recordOf(raw))) {
    if (name.length > LONGEST_CLASS || !ANNOTATION_PREFIXES.some((prefix) => name.startsWith(prefix)))
      continue;
    const text = textOf(value, LONGEST_ANNOTATION);
    if (text !== undefined) kept.push([name, text]);
    if (kept.length === MOST_ANNOTATIONS) break;
  }
  return kept.length === 0 ? NO_ANNOTATIONS : Object.fromEntries(kept);
}

/** discovery.k8s.io/v1 EndpointSlice; endpoints that say the same of the same node are kept once. */
export function endpointSliceItem(raw: unknown): Item<EndpointSlice> | undefined {
  const object = recordOf(raw);
  const identity = identityOf(object, true);
  if (identity === undefined) return undefined;
  const service = shortTextOf(recordOf(recordOf(object['metadata'])['labels'])[SERVICE_NAME_LABEL], 63);
  return {
    key: identity.key,
    resourceVersion: identity.resourceVersion,
    value: {
      namespace: identity.namespace,
      name: identity.name,
      service: service === undefined ? undefined : serviceKey(identity.namespace, service),
      addressType: wordOf(object['addressType'], ADDRESS_TYPES) ?? textOf(object['addressType'], 32) ?? '',
      endpoints: endpointsOf(object['endpoints']),
    },
  };
}

function endpointsOf(raw: unknown): readonly Endpoint[] {
  const distinct = new Map<string, Endpoint>();
  for (const entry of listOf(raw, MOST_ENDPOINTS)) {
    const endpoint = endpointOf(recordOf(entry));
    const digest = `${endpoint.node ?? ''} ${endpoint.ready} ${endpoint.serving} ${endpoint.terminating}`;
    if (!distinct.has(digest)) distinct.set(digest, endpoint);
  }
  return [...distinct.values()];
}

/** Absent conditions as discovery/v1 defines them: ready means true, serving means what ready says, terminating false. */
function endpointOf(record: RawRecord): Endpoint {
  const conditions = recordOf(record['conditions']);
  const ready = conditions['ready'] !== false;
  const serving = typeof conditions['serving'] === 'boolean' ? conditions['serving'] : ready;
  return {
    node: shortTextOf(record['nodeName'], LONGEST_NAME) as NodeName | undefined,
    ready,
    serving,
    terminating: conditions['terminating'] === true,
  };
}

/** core/v1 Node. */
export function nodeItem(raw: unknown): Item<Node> | undefined {
  const object = recordOf(raw);
  const identity = identityOf(object, false);
  if (identity === undefined) return undefined;
  const status = recordOf(object['status']);
  const conditions = listOf(status['conditions'], MOST_NODE_CONDITIONS).map(recordOf);
  const isTrue = (type: string) =>
    conditions.some((entry) => entry['type'] === type && entry['status'] === 'True');
  return {
    key: identity.key,
    resourceVersion: identity.resourceVersion,
    value: {
      name: identity.name as NodeName,
      labels: labelsOf(recordOf(object['metadata'])['labels']),
      internalIps: internalIpsOf(status['addresses']),
      ready: isTrue('Ready'),
      networkUnavailable: isTrue('NetworkUnavailable'),
    },
  };
}

function internalIpsOf(raw: unknown): Node['internalIps'] {
  return listOf(raw, MOST_NODE_ADDRESSES)
    .map(recordOf)
    .filter((address) => address['type'] === 'InternalIP')
    .flatMap((address) => {
      const ip = parseIp(shortTextOf(address['address'], LONGEST_ADDRESS) ?? '');
      return ip === undefined ? [] : [ip];
    });
}

function labelsOf(raw: unknown): Readonly<Record<string, string>> {
  const kept: [string, string][] = [];
  for (const [name, value] of Object.entries(recordOf(raw))) {
    if (typeof value !== 'string' || value.length > LONGEST_LABEL_VALUE || name.length > LONGEST_CLASS)
      continue;
    kept.push([name, value]);
    if (kept.length === MOST_LABELS) break;
  }
  return Object.fromEntries(kept);
}

type Identity = {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: string;
};

/** Names are checked because they become parts of URLs, file names and messages. */
function identityOf(object: RawRecord, namespaced: boolean): Identity | undefined {
  const metadata = recordOf(object['metadata']);
  const name = nameOf(metadata['name']);
  const namespace = namespaced ? nameOf(metadata['namespace']) : '';
  if (name === undefined || namespace === undefined) return undefined;
  return {
    key: namespaced ? `${namespace}/${name}` : name,
    namespace,
    name,
    resourceVersion: resourceVersionOf(metadata) ?? '',
  };
}

function nameOf(value: unknown): string | undefined {
  const name = shortTextOf(value, LONGEST_NAME);
  return name !== undefined && /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/.test(name) ? name : undefined;
}

/** metadata.resourceVersion of an object or a list: opaque text that goes into the next request. */
export function resourceVersionOf(metadata: RawRecord): string | undefined {
  const text = shortTextOf(metadata['resourceVersion'], 64);
  return text !== undefined && /^[\w.:-]+$/.test(text) ? text : undefined;
}

export function serviceKey(namespace: string, name: string): ServiceKey {
  return `${namespace}/${name}` as ServiceKey;
}

function wordsOf<Word extends string>(raw: unknown, words: readonly Word[], limit: number): readonly Word[] {
  return listOf(raw, limit).flatMap((entry) => wordOf(entry, words) ?? []);
}
