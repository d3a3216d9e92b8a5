/** The columns kubectl prints for each kind (the server renders tables, kubectl only aligns them). */

import { arrayOf, at, type Json, type KubeObject, numberOf, objectOf, stringOf } from './json.ts';

export interface Column {
  readonly name: string;
  readonly type: string;
  /** Columns of a higher priority than 0 appear with `-o wide` only. */
  readonly priority: number;
  readonly cell: (object: KubeObject, nowMs: number) => Json;
}

function column(name: string, cell: Column['cell'], priority = 0, type = 'string'): Column {
  return { name, type, priority, cell };
}

export const NAME = column('Name', (object) => object.metadata.name);
export const AGE = column('Age', (object, now) => age(object.metadata['creationTimestamp'], now));
export const CREATED_AT = column('Created At', (object) => stringOf(object.metadata['creationTimestamp']));

/** The age as kubectl writes it: 42s, 5m30s, 3h, 2d4h, 400d. */
export function age(since: Json | undefined, nowMs: number): string {
  const start = Date.parse(stringOf(since));
  if (Number.isNaN(start)) return '<unknown>';
  const seconds = Math.max(0, Math.floor((nowMs - start) / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (seconds < 120) return `${seconds}s`;
  if (minutes < 10) return withRest(minutes, 'm', seconds % 60, 's');
  if (hours < 3) return `${minutes}m`;
  if (hours < 8) return withRest(hours, 'h', minutes % 60, 'm');
  if (days < 2) return `${hours}h`;
  if (days < 8) return withRest(days, 'd', hours % 24, 'h');
  return `${days}d`;
}

function withRest(value: number, unit: string, rest: number, restUnit: string): string {
  return rest === 0 ? `${value}${unit}` : `${value}${unit}${rest}${restUnit}`;
}

function orNone(values: readonly string[]): string {
  return values.length === 0 ? '<none>' : values.join(',');
}

function labelText(labels: Json | undefined): string {
  return orNone(Object.entries(objectOf(labels)).map(([key, value]) => `${key}=${stringOf(value)}`));
}

function externalAddresses(service: KubeObject): string {
  const type = at(service, 'spec', 'type');
  if (type === 'ExternalName') return stringOf(at(service, 'spec', 'externalName'));
  const external = arrayOf(at(service, 'spec', 'externalIPs')).map(stringOf);
  if (type !== 'LoadBalancer') return orNone(external);
  const ingress = arrayOf(at(service, 'status', 'loadBalancer', 'ingress'));
  const given = ingress.map((entry) => stringOf(at(entry, 'ip')) || stringOf(at(entry, 'hostname')));
  const known = [...given.filter((text) => text !== ''), ...external];
  return known.length === 0 ? '<pending>' : known.join(',');
}

function servicePort(port: Json): string {
  const nodePort = numberOf(at(port, 'nodePort'));
  return `${at(port, 'port')}${nodePort === 0 ? '' : `:${nodePort}`}/${at(port, 'protocol')}`;
}

export const SERVICE_COLUMNS: readonly Column[] = [
  NAME,
  column('Type', (service) => at(service, 'spec', 'type') ?? ''),
  column('Cluster-IP', (service) =>
    orNone(
      arrayOf(at(service, 'spec', 'clusterIPs'))
        .slice(0, 1)
        .map(stringOf),
    ),
  ),
  column('External-IP', externalAddresses),
  column('Port(s)', (service) => orNone(arrayOf(at(service, 'spec', 'ports')).map(servicePort))),
  AGE,
  column('Selector', (service) => labelText(at(service, 'spec', 'selector')), 1),
];

function nodeStatus(node: KubeObject): string {
  const ready = arrayOf(at(node, 'status', 'conditions')).find(
    (condition) => at(condition, 'type') === 'Ready',
  );
  const status = ready === undefined ? 'Unknown' : at(ready, 'status') === 'True' ? 'Ready' : 'NotReady';
  return at(node, 'spec', 'unschedulable') === true ? `${status},SchedulingDisabled` : status;
}

function nodeRoles(node: KubeObject): string {
  const prefix = 'node-role.kubernetes.io/';
  const labels = Object.keys(objectOf(node.metadata['labels']));
  return orNone(
    labels.filter((label) => label.startsWith(prefix)).map((label) => label.slice(prefix.length)),
  );
}

function nodeAddress(node: KubeObject, type: string): string {
  const found = arrayOf(at(node, 'status', 'addresses')).find((address) => at(address, 'type') === type);
  return stringOf(at(found, 'address')) || '<none>';
}

function nodeInfo(field: string): Column['cell'] {
  return (node) => stringOf(at(node, 'status', 'nodeInfo', field)) || '<unknown>';
}

export const NODE_COLUMNS: readonly Column[] = [
  NAME,
  column('Status', nodeStatus),
  column('Roles', nodeRoles),
  AGE,
  column('Version', (node) => stringOf(at(node, 'status', 'nodeInfo', 'kubeletVersion'))),
  column('Internal-IP', (node) => nodeAddress(node, 'InternalIP'), 1),
  column('External-IP', (node) => nodeAddress(node, 'ExternalIP'), 1),
  column('OS-Image', nodeInfo('osImage'), 1),
  column('Kernel-Version', nodeInfo('kernelVersion'), 1),
  column('Container-Runtime', nodeInfo('containerRuntimeVersion'), 1),
];

export const NAMESPACE_COLUMNS: readonly Column[] = [
  NAME,
  column('Status', (namespace) => stringOf(at(namespace, 'status', 'phase'))),
  AGE,
];

export const LEASE_COLUMNS: readonly Column[] = [
  NAME,
  column('Holder', (lease) => stringOf(at(lease, 'spec', 'holderIdentity'))),
  AGE,
];

function lastSeen(event: KubeObject, now: number): string {
  const times = [
    at(event, 'series', 'lastObservedTime'),
    event['lastTimestamp'],
    event['firstTimestamp'],
    event['eventTime'],
  ];
  return age(
    times.find((time) => stringOf(time) !== ''),
    now,
  );
}

function eventObject(event: KubeObject): string {
  return `${stringOf(at(event, 'involvedObject', 'kind')).toLowerCase()}/${stringOf(at(event, 'involvedObject', 'name'))}`;
}

export const CORE_EVENT_COLUMNS: readonly Column[] = [
  column('Last Seen', lastSeen),
  column('Type', (event) => stringOf(event['type'])),
  column('Reason', (event) => stringOf(event['reason'])),
  column('Object', eventObject),
  column('Subobject', (event) => stringOf(at(event, 'involvedObject', 'fieldPath')), 1),
  column(
    'Source',
    (event) => stringOf(at(event, 'source', 'component')) || stringOf(event['reportingComponent']),
    1,
  ),
  column('Message', (event) => stringOf(event['message']).trim()),
  column('First Seen', (event, now) => age(event['firstTimestamp'] ?? event['eventTime'], now), 1),
  column(
    'Count',
    (event) => numberOf(at(event, 'series', 'count')) || numberOf(event['count']) || 1,
    1,
    'integer',
  ),
  column('Name', (event) => event.metadata.name, 1),
];

function slicePorts(slice: KubeObject): string {
  const ports = arrayOf(slice['ports']).map((port) => String(at(port, 'port') ?? '*'));
  return ports.length === 0 ? '<unset>' : ports.join(',');
}

function sliceEndpoints(slice: KubeObject): string {
  const addresses = arrayOf(slice['endpoints']).flatMap((endpoint) =>
    arrayOf(at(endpoint, 'addresses')).map(stringOf),
  );
  if (addresses.length === 0) return '<unset>';
  if (addresses.length <= 3) return addresses.join(',');
  return `${addresses.slice(0, 3).join(',')} + ${addresses.length - 3} more...`;
}

export const ENDPOINT_SLICE_COLUMNS: readonly Column[] = [
  NAME,
  column('AddressType', (slice) => stringOf(slice['addressType'])),
  column('Ports', slicePorts),
  column('Endpoints', sliceEndpoints),
  AGE,
];
