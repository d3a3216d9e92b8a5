/** Defaults and rules of discovery.k8s.io/v1 EndpointSlices. */

import { isIP } from 'node:net';
import { duplicateField, type FieldError, invalidField, requiredField, unsupportedField } from './errors.ts';
import { arrayOf, at, isObject, type Json, type KubeObject, numberOf, stringOf } from './json.ts';
import { nameProblems } from './names.ts';
import type { Strategy } from './resources.ts';

const ADDRESS_TYPES = ['FQDN', 'IPv4', 'IPv6'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const ADDRESS_LIMIT = 100;
const ENDPOINT_LIMIT = 1000;

export class EndpointSliceStrategy implements Strategy {
  setDefaults(slice: KubeObject): void {
    for (const port of arrayOf(slice['ports'])) {
      if (!isObject(port)) continue;
      port['name'] ??= '';
      port['protocol'] ??= 'TCP';
    }
  }

  validate(slice: KubeObject): FieldError[] {
    const errors: FieldError[] = [];
    const type = stringOf(slice['addressType']);
    if (type === '') errors.push(requiredField('addressType'));
    else if (!ADDRESS_TYPES.includes(type)) errors.push(unsupportedField('addressType', type, ADDRESS_TYPES));
    const endpoints = arrayOf(slice['endpoints']);
    if (endpoints.length > ENDPOINT_LIMIT)
      errors.push(invalidField('endpoints', endpoints.length, `must have at most ${ENDPOINT_LIMIT} items`));
    endpoints.forEach((endpoint, index) => {
      errors.push(...endpointErrors(endpoint, `endpoints[${index}]`, type));
    });
    return [...errors, ...portErrors(arrayOf(slice['ports']))];
  }

  validateUpdate(slice: KubeObject, old: KubeObject): FieldError[] {
    const errors = this.validate(slice);
    if (slice['addressType'] !== old['addressType']) {
      errors.push(invalidField('addressType', slice['addressType'], 'field is immutable'));
    }
    return errors;
  }
}

function endpointErrors(endpoint: Json, field: string, type: string): FieldError[] {
  const errors: FieldError[] = [];
  const addresses = arrayOf(at(endpoint, 'addresses')).map(stringOf);
  if (addresses.length === 0)
    errors.push(requiredField(`${field}.addresses`, 'must contain at least 1 endpoint'));
  if (addresses.length > ADDRESS_LIMIT)
    errors.push(
      invalidField(`${field}.addresses`, addresses.length, `must have at most ${ADDRESS_LIMIT} items`),
    );
  addresses.forEach((address, index) => {
    const family = isIP(address);
    const place = `${field}.addresses[${index}]`;
    if (type === 'IPv4' && family !== 4)
      errors.push(invalidField(place, address, 'must be a valid IPv4 address'));
    if (type === 'IPv6' && family !== 6)
      errors.push(invalidField(place, address, 'must be a valid IPv6 address'));
    if (addresses.indexOf(address) !== index) errors.push(duplicateField(place, address));
  });
  const nodeName = at(endpoint, 'nodeName');
  if (nodeName !== undefined) {
    for (const problem of nameProblems('dns1123Subdomain', stringOf(nodeName)))
      errors.push(invalidField(`${field}.nodeName`, nodeName, problem));
  }
  return errors;
}

function portErrors(ports: readonly Json[]): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  ports.forEach((port, index) => {
    const field = `ports[${index}]`;
    const name = stringOf(at(port, 'name'));
    if (names.has(name)) errors.push(duplicateField(`${field}.name`, name));
    names.add(name);
    const protocol = stringOf(at(port, 'protocol'));
    if (!PROTOCOLS.includes(protocol))
      errors.push(unsupportedField(`${field}.protocol`, protocol, PROTOCOLS));
    const number = at(port, 'port');
    if (number !== undefined && (numberOf(number) < 1 || numberOf(number) > 65_535)) {
      errors.push(invalidField(`${field}.port`, number, 'must be between 1 and 65535, inclusive'));
    }
  });
  return errors;
}
