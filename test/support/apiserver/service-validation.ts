/** What the API refuses in a Service: 422 causes, field by field. */

import {
  duplicateField,
  type FieldError,
  forbiddenField,
  invalidField,
  requiredField,
  unsupportedField,
} from './errors.ts';
import { arrayOf, at, equal, type Json, type KubeObject, numberOf, objectOf, stringOf } from './json.ts';
import { ADDRESS_EXPECTED, isAddress, labelsErrors, nameProblems, qualifiedNameProblems } from './names.ts';

const TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const PORT_RANGE = 'must be between 1 and 65535, inclusive';
const CLIENT_IP_TIMEOUT_LIMIT_SECONDS = 86_400;

export function validateService(service: KubeObject): FieldError[] {
  const spec = objectOf(service['spec']);
  const type = stringOf(spec['type']);
  const errors: FieldError[] = [];
  if (!TYPES.includes(type)) errors.push(unsupportedField('spec.type', type, TYPES));
  errors.push(...portsErrors(spec, type), ...labelsErrors(objectOf(spec['selector']), 'spec.selector'));
  errors.push(...affinityErrors(spec), ...clusterAddressErrors(spec, type), ...policyErrors(spec, type));
  arrayOf(spec['externalIPs']).forEach((value, index) => {
    const field = `spec.externalIPs[${index}]`;
    const address = stringOf(value);
    if (!isAddress(address)) errors.push(invalidField(field, address, ADDRESS_EXPECTED));
    else if (isSpecial(address))
      errors.push(
        invalidField(field, address, 'may not be a loopback, link-local, multicast or unspecified address'),
      );
  });
  errors.push(...loadBalancerErrors(spec, type));
  return [...errors, ...validateServiceStatus(service)];
}

function portsErrors(spec: Json, type: string): FieldError[] {
  const ports = arrayOf(at(spec, 'ports'));
  const headless = at(spec, 'clusterIP') === 'None';
  const errors: FieldError[] = [];
  if (ports.length === 0 && !headless && type !== 'ExternalName') errors.push(requiredField('spec.ports'));
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  ports.forEach((port, index) => {
    const field = `spec.ports[${index}]`;
    errors.push(...portErrors(port, field, ports.length > 1, names));
    const protocol = stringOf(at(port, 'protocol'));
    const key = `${protocol}/${at(port, 'port')}`;
    if (numbers.has(key)) {
      errors.push(duplicateField(field, { port: at(port, 'port'), protocol }));
    }
    numbers.add(key);
    const nodePort = numberOf(at(port, 'nodePort'));
    if (nodePort === 0) return;
    if (type === 'ClusterIP' || type === 'ExternalName') {
      errors.push(forbiddenField(`${field}.nodePort`, `may not be used when \`type\` is '${type}'`));
    }
    const nodeKey = `${protocol}/${nodePort}`;
    if (nodePorts.has(nodeKey)) errors.push(duplicateField(`${field}.nodePort`, nodePort));
    nodePorts.add(nodeKey);
  });
  return errors;
}

function portErrors(port: Json, field: string, needsName: boolean, names: Set<string>): FieldError[] {
  const errors: FieldError[] = [];
  const name = stringOf(at(port, 'name'));
  if (name === '' && needsName) errors.push(requiredField(`${field}.name`));
  if (name !== '') {
    for (const problem of nameProblems('dns1123Label', name))
      errors.push(invalidField(`${field}.name`, name, problem));
    if (names.has(name)) errors.push(duplicateField(`${field}.name`, name));
    names.add(name);
  }
  const number = numberOf(at(port, 'port'));
  if (!isPort(number)) errors.push(invalidField(`${field}.port`, number, PORT_RANGE));
  const protocol = stringOf(at(port, 'protocol'));
  if (protocol === '') errors.push(requiredField(`${field}.protocol`));
  else if (!PROTOCOLS.includes(protocol))
    errors.push(unsupportedField(`${field}.protocol`, protocol, PROTOCOLS));
  errors.push(...targetPortErrors(at(port, 'targetPort'), `${field}.targetPort`));
  const application = at(port, 'appProtocol');
  if (typeof application === 'string') {
    for (const problem of qualifiedNameProblems(application)) {
      errors.push(invalidField(`${field}.appProtocol`, application, problem));
    }
  }
  return errors;
}

function targetPortErrors(target: Json | undefined, field: string): FieldError[] {
  if (typeof target === 'number') return isPort(target) ? [] : [invalidField(field, target, PORT_RANGE)];
  const name = stringOf(target);
  if (name.length > 15) return [invalidField(field, name, 'must be no more than 15 characters')];
  if (!/^[a-z0-9-]+$/.test(name))
    return [
      invalidField(field, name, 'must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)'),
    ];
  if (!/[a-z]/.test(name)) return [invalidField(field, name, 'must contain at least one letter (a-z)')];
  if (name.includes('--')) return [invalidField(field, name, 'must not contain consecutive hyphens')];
  if (name.startsWith('-') || name.endsWith('-'))
    return [invalidField(field, name, 'must not begin or end with a hyphen')];
  return [];
}

function isPort(value: number): boolean {
  return value >= 1 && value <= 65_535;
}

function affinityErrors(spec: Json): FieldError[] {
  const affinity = stringOf(at(spec, 'sessionAffinity'));
  if (affinity !== 'None' && affinity !== 'ClientIP') {
    return [unsupportedField('spec.sessionAffinity', affinity, ['ClientIP', 'None'])];
  }
  const config = at(spec, 'sessionAffinityConfig');
  if (affinity === 'None') {
    return config === undefined
      ? []
      : [forbiddenField('spec.sessionAffinityConfig', 'must not be set when session affinity is None')];
  }
  const timeout = at(config, 'clientIP', 'timeoutSeconds');
  const field = 'spec.sessionAffinityConfig.clientIP.timeoutSeconds';
  if (timeout === undefined) return [requiredField(field)];
  if (numberOf(timeout) <= 0 || numberOf(timeout) > CLIENT_IP_TIMEOUT_LIMIT_SECONDS) {
    return [
      invalidField(field, timeout, `must be greater than 0 and less than ${CLIENT_IP_TIMEOUT_LIMIT_SECONDS}`),
    ];
  }
  return [];
}

function clusterAddressErrors(spec: Json, type: string): FieldError[] {
  const errors: FieldError[] = [];
  const clusterIP = stringOf(at(spec, 'clusterIP'));
  const clusterIPs = arrayOf(at(spec, 'clusterIPs'));
  if (type === 'ExternalName') {
    const name = stringOf(at(spec, 'externalName')).replace(/\.$/, '');
    if (name === '') errors.push(requiredField('spec.externalName'));
    else
      for (const problem of nameProblems('dns1123Subdomain', name))
        errors.push(invalidField('spec.externalName', name, problem));
    if (clusterIPs.length > 0)
      errors.push(forbiddenField('spec.clusterIPs', "may not be set when type is 'ExternalName'"));
    return errors;
  }
  if (type === 'LoadBalancer' && clusterIP === 'None') {
    errors.push(
      invalidField('spec.clusterIPs[0]', 'None', "may not be set to 'None' for LoadBalancer services"),
    );
  }
  if (type === 'NodePort' && clusterIP === 'None') {
    errors.push(invalidField('spec.clusterIPs[0]', 'None', "may not be set to 'None' for NodePort services"));
  }
  clusterIPs.forEach((value, index) => {
    const address = stringOf(value);
    if (address !== 'None' && !isAddress(address))
      errors.push(invalidField(`spec.clusterIPs[${index}]`, address, ADDRESS_EXPECTED));
  });
  arrayOf(at(spec, 'ipFamilies')).forEach((family, index, families) => {
    if (family !== 'IPv4' && family !== 'IPv6')
      errors.push(unsupportedField(`spec.ipFamilies[${index}]`, family, ['IPv4', 'IPv6']));
    else if (families.indexOf(family) !== index)
      errors.push(duplicateField(`spec.ipFamilies[${index}]`, family));
  });
  const policy = at(spec, 'ipFamilyPolicy');
  const policies = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
  if (policy !== undefined && !policies.includes(stringOf(policy)))
    errors.push(unsupportedField('spec.ipFamilyPolicy', policy, policies));
  if (policy === 'SingleStack' && arrayOf(at(spec, 'ipFamilies')).length > 1) {
    errors.push(
      invalidField(
        'spec.ipFamilyPolicy',
        policy,
        'must be RequireDualStack or PreferDualStack when multiple IP families are specified',
      ),
    );
  }
  return errors;
}

function policyErrors(spec: Json, type: string): FieldError[] {
  const errors: FieldError[] = [];
  const external = stringOf(at(spec, 'externalTrafficPolicy'));
  const exposed =
    type === 'NodePort' || type === 'LoadBalancer' || arrayOf(at(spec, 'externalIPs')).length > 0;
  if (exposed && external === '') errors.push(requiredField('spec.externalTrafficPolicy'));
  else if (exposed && external !== 'Cluster' && external !== 'Local') {
    errors.push(unsupportedField('spec.externalTrafficPolicy', external, ['Cluster', 'Local']));
  } else if (!exposed && external !== '') {
    errors.push(
      invalidField(
        'spec.externalTrafficPolicy',
        external,
        'may only be set for externally-accessible services',
      ),
    );
  }
  const internal = at(spec, 'internalTrafficPolicy');
  if (internal !== undefined && internal !== 'Cluster' && internal !== 'Local') {
    errors.push(unsupportedField('spec.internalTrafficPolicy', internal, ['Cluster', 'Local']));
  }
  const distributions = ['PreferClose', 'PreferSameNode', 'PreferSameZone'];
  const distribution = at(spec, 'trafficDistribution');
  if (distribution !== undefined && !distributions.includes(stringOf(distribution))) {
    errors.push(unsupportedField('spec.trafficDistribution', distribution, distributions));
  }
  const healthCheck = numberOf(at(spec, 'healthCheckNodePort'));
  if (healthCheck !== 0 && !(type === 'LoadBalancer' && external === 'Local')) {
    errors.push(
      invalidField(
        'spec.healthCheckNodePort',
        healthCheck,
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
      ),
    );
  }
  return errors;
}

function loadBalancerErrors(spec: Json, type: string): FieldError[] {
  const errors: FieldError[] = [];
  const loadBalancer = type === 'LoadBalancer';
  const ranges = arrayOf(at(spec, 'loadBalancerSourceRanges'));
  if (ranges.length > 0 && !loadBalancer) {
    errors.push(
      forbiddenField('spec.LoadBalancerSourceRanges', "may only be used when `type` is 'LoadBalancer'"),
    );
  }
  ranges.forEach((value, index) => {
    if (!isCidr(stringOf(value).trim())) {
      errors.push(
        invalidField(
          `spec.LoadBalancerSourceRanges[${index}]`,
          value,
          'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
        ),
      );
    }
  });
  const allocate = at(spec, 'allocateLoadBalancerNodePorts');
  if (loadBalancer && allocate === undefined)
    errors.push(requiredField('spec.allocateLoadBalancerNodePorts'));
  if (!loadBalancer && allocate !== undefined) {
    errors.push(
      forbiddenField('spec.allocateLoadBalancerNodePorts', "may only be used when `type` is 'LoadBalancer'"),
    );
  }
  const loadBalancerClass = at(spec, 'loadBalancerClass');
  if (loadBalancerClass === undefined) return errors;
  if (!loadBalancer) {
    errors.push(forbiddenField('spec.loadBalancerClass', "may only be used when `type` is 'LoadBalancer'"));
  }
  for (const problem of qualifiedNameProblems(stringOf(loadBalancerClass))) {
    errors.push(invalidField('spec.loadBalancerClass', loadBalancerClass, problem));
  }
  return errors;
}

function isCidr(value: string): boolean {
  const [address = '', prefix = '', ...rest] = value.split('/');
  const bits = address.includes(':') ? 128 : 32;
  return (
    rest.length === 0 && isAddress(address) && /^(0|[1-9]\d{0,2})$/.test(prefix) && Number(prefix) <= bits
  );
}

function isSpecial(address: string): boolean {
  return /^(127\.|169\.254\.|0\.0\.0\.0$|22[4-9]\.|23\d\.|::1?$|fe[89ab]|ff)/i.test(address);
}

/** What a change of an existing Service may not do. */
export function validateServiceUpdate(service: KubeObject, old: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const spec = objectOf(service['spec']);
  const before = objectOf(old['spec']);
  const immutable = 'field is immutable';
  const keepsClusterIP = before['type'] !== 'ExternalName' && spec['type'] !== 'ExternalName';
  if (keepsClusterIP && stringOf(before['clusterIP']) !== '') {
    if (!equal(spec['clusterIP'], before['clusterIP'])) {
      errors.push(invalidField('spec.clusterIPs[0]', arrayOf(spec['clusterIPs']), 'may not change once set'));
    }
    if (arrayOf(spec['ipFamilies'])[0] !== arrayOf(before['ipFamilies'])[0]) {
      errors.push(invalidField('spec.ipFamilies[0]', arrayOf(spec['ipFamilies']), 'may not change once set'));
    }
  }
  const bothLoadBalancer = spec['type'] === 'LoadBalancer' && before['type'] === 'LoadBalancer';
  if (bothLoadBalancer && !equal(spec['loadBalancerClass'], before['loadBalancerClass'])) {
    errors.push(
      invalidField('spec.loadBalancerClass', spec['loadBalancerClass'] ?? null, 'may not change once set'),
    );
  }
  const health = numberOf(before['healthCheckNodePort']);
  const local = spec['externalTrafficPolicy'] === 'Local' && before['externalTrafficPolicy'] === 'Local';
  if (bothLoadBalancer && local && health !== 0 && numberOf(spec['healthCheckNodePort']) !== health) {
    errors.push(forbiddenField('spec.healthCheckNodePort', immutable));
  }
  return errors;
}

/** The load balancer status: addresses, host names and ipMode (only with an ip; required with one). */
export function validateServiceStatus(service: KubeObject): FieldError[] {
  const ingress = arrayOf(at(service, 'status', 'loadBalancer', 'ingress'));
  const field = 'status.loadBalancer.ingress';
  if (ingress.length > 0 && at(service, 'spec', 'type') !== 'LoadBalancer') {
    return [forbiddenField(field, "may only be used when `spec.type` is 'LoadBalancer'")];
  }
  return ingress.flatMap((entry, index) => ingressErrors(entry, `${field}[${index}]`));
}

function ingressErrors(entry: Json, field: string): FieldError[] {
  const errors: FieldError[] = [];
  const ip = stringOf(at(entry, 'ip'));
  if (ip !== '' && !isAddress(ip)) errors.push(invalidField(`${field}.ip`, ip, ADDRESS_EXPECTED));
  const mode = at(entry, 'ipMode');
  if (mode === undefined && ip !== '')
    errors.push(requiredField(`${field}.ipMode`, 'must be specified when `ip` is set'));
  if (mode !== undefined && ip === '')
    errors.push(forbiddenField(`${field}.ipMode`, 'may not be specified when `ip` is not set'));
  else if (mode !== undefined && mode !== 'VIP' && mode !== 'Proxy') {
    errors.push(unsupportedField(`${field}.ipMode`, mode, ['Proxy', 'VIP']));
  }
  const hostname = stringOf(at(entry, 'hostname'));
  if (hostname === '') return errors;
  for (const problem of nameProblems('dns1123Subdomain', hostname))
    errors.push(invalidField(`${field}.hostname`, hostname, problem));
  if (isAddress(hostname))
    errors.push(invalidField(`${field}.hostname`, hostname, 'must be a DNS name, not an IP address'));
  return errors;
}
