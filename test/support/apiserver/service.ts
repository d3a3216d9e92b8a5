/**
 * The Service strategy: defaults, cluster IPs and node ports, and what an update carries over or drops when
 * the type changes.
 */

import { AddressRange } from './address-range.ts';
import { type FieldError, internalError, invalid, invalidField } from './errors.ts';
import {
  arrayOf,
  at,
  equal,
  isObject,
  type Json,
  type JsonObject,
  type KubeObject,
  numberOf,
  objectOf,
  stringOf,
} from './json.ts';
import type { Strategy } from './resources.ts';
import { validateService, validateServiceStatus, validateServiceUpdate } from './service-validation.ts';

const SERVICES = { group: '', plural: 'services', kind: 'Service' };
const CLIENT_IP_TIMEOUT_SECONDS = 10_800;

export interface ServiceNetworks {
  /** Cluster-IP ranges, the primary family first. */
  readonly clusterCidrs: readonly string[];
  readonly nodePorts: { readonly first: number; readonly last: number };
}

export class ServiceStrategy implements Strategy {
  private readonly ranges: AddressRange[];
  private readonly nodePorts: { first: number; last: number };
  private readonly usedNodePorts = new Set<number>();
  private nodePortCursor: number;

  constructor(networks: ServiceNetworks) {
    this.ranges = networks.clusterCidrs.map((cidr) => new AddressRange(cidr));
    this.nodePorts = networks.nodePorts;
    this.nodePortCursor = networks.nodePorts.first;
  }

  setDefaults(service: KubeObject): void {
    const spec = objectOf(service['spec']);
    spec['sessionAffinity'] ??= 'None';
    spec['type'] ??= 'ClusterIP';
    if (spec['sessionAffinity'] === 'None') delete spec['sessionAffinityConfig'];
    if (spec['sessionAffinity'] === 'ClientIP') {
      const timeoutSeconds = at(spec, 'sessionAffinityConfig', 'clientIP', 'timeoutSeconds');
      spec['sessionAffinityConfig'] = {
        clientIP: { timeoutSeconds: timeoutSeconds ?? CLIENT_IP_TIMEOUT_SECONDS },
      };
    }
    for (const port of arrayOf(spec['ports'])) if (isObject(port)) defaultPort(port);
    const exposed = needsNodePortType(spec) || arrayOf(spec['externalIPs']).length > 0;
    if (exposed) spec['externalTrafficPolicy'] ??= 'Cluster';
    if (spec['type'] !== 'ExternalName') spec['internalTrafficPolicy'] ??= 'Cluster';
    if (spec['type'] !== 'LoadBalancer') return;
    spec['allocateLoadBalancerNodePorts'] ??= true;
    for (const entry of arrayOf(at(service, 'status', 'loadBalancer', 'ingress'))) {
      if (isObject(entry) && stringOf(entry['ip']) !== '') entry['ipMode'] ??= 'VIP';
    }
  }

  prepareCreate(service: KubeObject): void {
    service['status'] = { loadBalancer: {} };
  }

  prepareUpdate(service: KubeObject, old: KubeObject): void {
    const spec = objectOf(service['spec']);
    const before = objectOf(old['spec']);
    service['status'] = old['status'];
    carryOver(spec, before);
    dropTypeDependent(spec, before);
    if (spec['type'] !== 'LoadBalancer') {
      service['status'] = { ...objectOf(service['status']), loadBalancer: {} };
    }
  }

  prepareStatusUpdate(service: KubeObject, old: KubeObject): void {
    service['spec'] = old['spec'];
  }

  validate(service: KubeObject): FieldError[] {
    return validateService(service);
  }

  validateUpdate(service: KubeObject, old: KubeObject): FieldError[] {
    return [...validateServiceUpdate(service, old), ...validateService(service)];
  }

  validateStatusUpdate(service: KubeObject): FieldError[] {
    return validateServiceStatus(service);
  }

  /** Takes cluster IPs and node ports; on failure everything taken here is given back. */
  allocate(service: KubeObject, old: KubeObject | undefined): void {
    const taken: (() => void)[] = [];
    try {
      this.allocateAddresses(service, old, taken);
      this.allocateNodePorts(service, old, taken);
    } catch (error) {
      for (const giveBack of taken.reverse()) giveBack();
      throw error;
    }
  }

  /** Gives back what `old` held and `service` (undefined: deleted) does not hold any more. */
  release(old: KubeObject, service: KubeObject | undefined): void {
    const kept = new Set(arrayOf(at(service, 'spec', 'clusterIPs')).map(stringOf));
    for (const address of arrayOf(at(old, 'spec', 'clusterIPs')).map(stringOf)) {
      if (!kept.has(address)) this.rangeOf(address)?.release(address);
    }
    const keptPorts = nodePortsOf(service);
    for (const port of nodePortsOf(old)) if (!keptPorts.has(port)) this.usedNodePorts.delete(port);
  }

  private rangeOf(address: string): AddressRange | undefined {
    return this.ranges.find((range) => address !== 'None' && range.contains(address));
  }

  private allocateAddresses(service: KubeObject, old: KubeObject | undefined, taken: (() => void)[]): void {
    const spec = objectOf(service['spec']);
    if (spec['type'] === 'ExternalName') return;
    const clusterIP = stringOf(spec['clusterIP']);
    const asked = arrayOf(spec['clusterIPs']).map(stringOf);
    if (clusterIP !== '' && asked.length === 0) asked.push(clusterIP);
    const families = this.familiesOf(spec, asked, service.metadata.name);
    spec['ipFamilies'] = families;
    spec['ipFamilyPolicy'] ??= 'SingleStack';
    if (asked[0] === 'None') {
      spec['clusterIP'] = 'None';
      spec['clusterIPs'] = ['None'];
      return;
    }
    const held = new Set(arrayOf(at(old, 'spec', 'clusterIPs')).map(stringOf));
    const addresses = families.map((family, index) =>
      this.allocateAddress(family, asked[index], held, service.metadata.name, taken),
    );
    spec['clusterIP'] = addresses[0];
    spec['clusterIPs'] = addresses;
  }

  private familiesOf(spec: JsonObject, asked: readonly string[], name: string): string[] {
    const supported = this.ranges.map((range) => range.family as string);
    const policy = spec['ipFamilyPolicy'];
    const families = arrayOf(spec['ipFamilies']).map(stringOf);
    if (families.length === 0 && asked[0] !== undefined && asked[0] !== 'None') {
      families.push(...asked.map((address) => (address.includes(':') ? 'IPv6' : 'IPv4')));
    }
    const primary = families[0] ?? supported[0] ?? 'IPv4';
    if (families.length === 0) families.push(primary);
    if (policy === 'RequireDualStack' && supported.length < 2) {
      throw invalid(SERVICES, name, [
        invalidField('spec.ipFamilyPolicy', policy, 'this cluster is not configured for dual-stack services'),
      ]);
    }
    const wantsBoth = policy === 'RequireDualStack' || policy === 'PreferDualStack';
    if (wantsBoth && families.length === 1) {
      families.push(...supported.filter((family) => family !== primary).slice(0, 1));
    }
    const missing = families.findIndex((family) => !supported.includes(family));
    if (missing >= 0) {
      throw invalid(SERVICES, name, [
        invalidField(`spec.ipFamilies[${missing}]`, families[missing], 'not configured on this cluster'),
      ]);
    }
    return families;
  }

  private allocateAddress(
    family: string,
    asked: string | undefined,
    held: ReadonlySet<string>,
    name: string,
    taken: (() => void)[],
  ): string {
    if (asked !== undefined && held.has(asked)) return asked;
    const range = this.ranges.find((candidate) => candidate.family === family);
    if (asked === undefined || asked === '') {
      const address = range?.next();
      if (range === undefined || address === undefined) {
        throw internalError('failed to allocate a serviceIP: range is full');
      }
      taken.push(() => range.release(address));
      return address;
    }
    const refuse = (why: string): Error =>
      invalid(SERVICES, name, [
        invalidField('spec.clusterIPs', [asked], `failed to allocate IP ${asked}: ${why}`),
      ]);
    if (range?.contains(asked) !== true) {
      throw refuse(
        `the provided IP (${asked}) is not in the valid range. The range of valid IPs is ${range?.cidr ?? 'none'}`,
      );
    }
    if (!range.take(asked)) throw refuse('provided IP is already allocated');
    taken.push(() => range.release(asked));
    return asked;
  }

  private allocateNodePorts(service: KubeObject, old: KubeObject | undefined, taken: (() => void)[]): void {
    const spec = objectOf(service['spec']);
    const held = nodePortsOf(old);
    const mine = new Map<number, string>();
    const ports = arrayOf(spec['ports']).filter(isObject);
    ports.forEach((port, index) => {
      const asked = numberOf(port['nodePort']);
      if (asked === 0) return;
      // one number may serve several protocols of the same Service
      if (!held.has(asked) && !mine.has(asked)) this.takeNodePort(asked, index, service.metadata.name, taken);
      mine.set(asked, stringOf(port['protocol']));
    });
    if (needsNodePorts(spec)) {
      for (const port of ports)
        if (numberOf(port['nodePort']) === 0) port['nodePort'] = this.nextNodePort(taken);
    }
    if (needsHealthCheckPort(spec) && numberOf(spec['healthCheckNodePort']) === 0) {
      spec['healthCheckNodePort'] = this.nextNodePort(taken);
    }
  }

  private takeNodePort(port: number, index: number, name: string, taken: (() => void)[]): void {
    const { first, last } = this.nodePorts;
    const field = `spec.ports[${index}].nodePort`;
    if (port < first || port > last) {
      throw invalid(SERVICES, name, [
        invalidField(
          field,
          port,
          `provided port is not in the valid range. The range of valid ports is ${first}-${last}`,
        ),
      ]);
    }
    if (this.usedNodePorts.has(port)) {
      throw invalid(SERVICES, name, [invalidField(field, port, 'provided port is already allocated')]);
    }
    this.usedNodePorts.add(port);
    taken.push(() => this.usedNodePorts.delete(port));
  }

  private nextNodePort(taken: (() => void)[]): number {
    const { first, last } = this.nodePorts;
    for (let tried = first; tried <= last; tried += 1) {
      const port = this.nodePortCursor;
      this.nodePortCursor = port >= last ? first : port + 1;
      if (this.usedNodePorts.has(port)) continue;
      this.usedNodePorts.add(port);
      taken.push(() => this.usedNodePorts.delete(port));
      return port;
    }
    throw internalError('failed to allocate a nodePort: range is full');
  }
}

function defaultPort(port: JsonObject): void {
  port['protocol'] ??= 'TCP';
  if (port['targetPort'] === undefined || port['targetPort'] === 0 || port['targetPort'] === '') {
    port['targetPort'] = port['port'];
  }
}

function needsNodePortType(spec: Json): boolean {
  return at(spec, 'type') === 'NodePort' || at(spec, 'type') === 'LoadBalancer';
}

function needsNodePorts(spec: Json): boolean {
  if (at(spec, 'type') === 'NodePort') return true;
  return at(spec, 'type') === 'LoadBalancer' && at(spec, 'allocateLoadBalancerNodePorts') !== false;
}

function needsHealthCheckPort(spec: Json): boolean {
  return at(spec, 'type') === 'LoadBalancer' && at(spec, 'externalTrafficPolicy') === 'Local';
}

function nodePortsOf(service: KubeObject | undefined): Set<number> {
  const ports = arrayOf(at(service, 'spec', 'ports')).map((port) => numberOf(at(port, 'nodePort')));
  return new Set(
    [...ports, numberOf(at(service, 'spec', 'healthCheckNodePort'))].filter((port) => port !== 0),
  );
}

const portKey = (port: Json): string => `${stringOf(at(port, 'protocol'))}/${numberOf(at(port, 'port'))}`;

/** Allocated values that a client left out of its update stay as they were. */
function carryOver(spec: JsonObject, before: JsonObject): void {
  if (spec['type'] !== 'ExternalName' && before['type'] !== 'ExternalName') {
    if (stringOf(spec['clusterIP']) === '') spec['clusterIP'] = before['clusterIP'];
    if (arrayOf(spec['clusterIPs']).length === 0 && spec['clusterIP'] === before['clusterIP']) {
      spec['clusterIPs'] = before['clusterIPs'];
    }
    if (arrayOf(spec['ipFamilies']).length === 0) spec['ipFamilies'] = before['ipFamilies'];
    spec['ipFamilyPolicy'] ??= before['ipFamilyPolicy'];
  }
  if (needsNodePorts(spec) && needsNodePorts(before)) {
    const known = new Map(arrayOf(before['ports']).map((port) => [portKey(port), at(port, 'nodePort')]));
    const explicit = new Set(arrayOf(spec['ports']).map((port) => numberOf(at(port, 'nodePort'))));
    for (const port of arrayOf(spec['ports'])) {
      if (!isObject(port) || numberOf(port['nodePort']) !== 0) continue;
      const nodePort = known.get(portKey(port));
      if (nodePort !== undefined && !explicit.has(numberOf(nodePort))) port['nodePort'] = nodePort;
    }
  }
  if (
    needsHealthCheckPort(spec) &&
    needsHealthCheckPort(before) &&
    before['healthCheckNodePort'] !== undefined
  ) {
    spec['healthCheckNodePort'] ??= before['healthCheckNodePort'];
  }
}

/** A type change drops the fields that only the old type had, unless the client changed them itself. */
function dropTypeDependent(spec: JsonObject, before: JsonObject): void {
  const dropUnchanged = (...fields: string[]): void => {
    for (const field of fields) if (equal(spec[field], before[field])) delete spec[field];
  };
  if (before['type'] !== 'ExternalName' && spec['type'] === 'ExternalName') {
    dropUnchanged('clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy', 'internalTrafficPolicy');
  }
  if (needsNodePorts(before) && !needsNodePorts(spec)) {
    const old = nodePortList(before);
    if (nodePortList(spec).every((port, index) => port === old[index])) {
      for (const port of arrayOf(spec['ports'])) if (isObject(port)) delete port['nodePort'];
    }
  }
  if (needsHealthCheckPort(before) && !needsHealthCheckPort(spec)) dropUnchanged('healthCheckNodePort');
  if (before['type'] === 'LoadBalancer' && spec['type'] !== 'LoadBalancer') {
    dropUnchanged('allocateLoadBalancerNodePorts', 'loadBalancerClass');
  }
  const exposed = needsNodePortType(spec) || arrayOf(spec['externalIPs']).length > 0;
  if (needsNodePortType(before) && !exposed) dropUnchanged('externalTrafficPolicy');
}

function nodePortList(spec: JsonObject): number[] {
  return arrayOf(spec['ports']).map((port) => numberOf(at(port, 'nodePort')));
}
