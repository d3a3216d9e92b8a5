/**
 * Reads the protobuf bodies that kubectl sends for objects it builds itself (`create service`, `create
 * namespace`, `auth can-i`, ...). Answers stay JSON: clients that write protobuf accept both.
 */

import { badRequest } from './errors.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import type { Schema, StructSchema } from './schema.ts';

export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

/** The four bytes in front of every Kubernetes protobuf body. */
const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00]);

/** Field numbers per message, as the API's .proto files give them. */
const FIELDS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  ObjectMeta: {
    1: 'name',
    2: 'generateName',
    3: 'namespace',
    5: 'uid',
    6: 'resourceVersion',
    8: 'creationTimestamp',
    11: 'labels',
    12: 'annotations',
    13: 'ownerReferences',
    14: 'finalizers',
  },
  OwnerReference: {
    1: 'kind',
    3: 'name',
    4: 'uid',
    5: 'apiVersion',
    6: 'controller',
    7: 'blockOwnerDeletion',
  },
  Service: { 1: 'metadata', 2: 'spec', 3: 'status' },
  ServiceSpec: {
    1: 'ports',
    2: 'selector',
    3: 'clusterIP',
    4: 'type',
    5: 'externalIPs',
    7: 'sessionAffinity',
    8: 'loadBalancerIP',
    9: 'loadBalancerSourceRanges',
    10: 'externalName',
    11: 'externalTrafficPolicy',
    12: 'healthCheckNodePort',
    13: 'publishNotReadyAddresses',
    14: 'sessionAffinityConfig',
    17: 'ipFamilyPolicy',
    18: 'clusterIPs',
    19: 'ipFamilies',
    20: 'allocateLoadBalancerNodePorts',
    21: 'loadBalancerClass',
    22: 'internalTrafficPolicy',
    23: 'trafficDistribution',
  },
  SessionAffinityConfig: { 1: 'clientIP' },
  ClientIPConfig: { 1: 'timeoutSeconds' },
  ServicePort: { 1: 'name', 2: 'protocol', 3: 'port', 4: 'targetPort', 5: 'nodePort', 6: 'appProtocol' },
  ServiceStatus: { 1: 'loadBalancer', 2: 'conditions' },
  LoadBalancerStatus: { 1: 'ingress' },
  LoadBalancerIngress: { 1: 'ip', 2: 'hostname', 3: 'ipMode', 4: 'ports' },
  Namespace: { 1: 'metadata', 2: 'spec', 3: 'status' },
  NamespaceSpec: { 1: 'finalizers' },
  NamespaceStatus: { 1: 'phase' },
  ServiceAccount: { 1: 'metadata', 2: 'secrets', 3: 'imagePullSecrets', 4: 'automountServiceAccountToken' },
  TokenRequest: { 1: 'metadata', 2: 'spec', 3: 'status' },
  TokenRequestSpec: { 1: 'audiences', 4: 'expirationSeconds' },
  Role: { 1: 'metadata', 2: 'rules' },
  ClusterRole: { 1: 'metadata', 2: 'rules' },
  PolicyRule: { 1: 'verbs', 2: 'apiGroups', 3: 'resources', 4: 'resourceNames', 5: 'nonResourceURLs' },
  RoleBinding: { 1: 'metadata', 2: 'subjects', 3: 'roleRef' },
  ClusterRoleBinding: { 1: 'metadata', 2: 'subjects', 3: 'roleRef' },
  Subject: { 1: 'kind', 2: 'apiGroup', 3: 'name', 4: 'namespace' },
  RoleRef: { 1: 'apiGroup', 2: 'kind', 3: 'name' },
  SelfSubjectAccessReview: { 1: 'metadata', 2: 'spec', 3: 'status' },
  SelfSubjectAccessReviewSpec: { 1: 'resourceAttributes', 2: 'nonResourceAttributes' },
  ResourceAttributes: {
    1: 'namespace',
    2: 'verb',
    3: 'group',
    4: 'version',
    5: 'resource',
    6: 'subresource',
    7: 'name',
  },
  NonResourceAttributes: { 1: 'path', 2: 'verb' },
};

/** True when the stand-in knows the message of this kind. */
export function readsProtobuf(schema: StructSchema): boolean {
  return FIELDS[schema.name] !== undefined;
}

/** The body as the JSON object it stands for. Throws 400 when it is none. */
export function fromProtobuf(schema: StructSchema, body: Buffer): JsonObject {
  try {
    if (!body.subarray(0, MAGIC.length).equals(MAGIC)) throw new RangeError('the magic bytes are missing');
    const envelope = fieldsOf(body.subarray(MAGIC.length));
    const type = fieldsOf(bytesOf(envelope, 1));
    return {
      apiVersion: bytesOf(type, 1).toString(),
      kind: bytesOf(type, 2).toString(),
      ...message(schema, bytesOf(envelope, 2)),
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw badRequest(`the object provided is unrecognized: protobuf: ${error.message}`);
  }
}

/** One field as it comes: a number for varints, bytes for everything length-delimited. */
interface WireField {
  readonly number: number;
  readonly value: bigint | Buffer;
}

function fieldsOf(bytes: Buffer): WireField[] {
  const out: WireField[] = [];
  let offset = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[offset];
      if (byte === undefined) throw new RangeError('unexpected end');
      offset += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw new RangeError('a varint is too long');
  };
  while (offset < bytes.length) {
    const tag = Number(varint());
    const number = tag >>> 3;
    if ((tag & 7) === 0) out.push({ number, value: varint() });
    else if ((tag & 7) === 2) {
      const length = Number(varint());
      if (length < 0 || offset + length > bytes.length) throw new RangeError('unexpected end');
      out.push({ number, value: bytes.subarray(offset, offset + length) });
      offset += length;
    } else throw new RangeError(`unexpected wire type ${tag & 7}`);
  }
  return out;
}

function bytesOf(fields: readonly WireField[], number: number): Buffer {
  const value = fields.find((field) => field.number === number)?.value;
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0);
}

function message(schema: StructSchema, bytes: Buffer): JsonObject {
  const names = FIELDS[schema.name] ?? {};
  const out: JsonObject = {};
  for (const { number, value } of fieldsOf(bytes)) {
    const name = names[number];
    const field = name === undefined ? undefined : schema.fields[name];
    if (name === undefined || field === undefined) continue;
    if (field.type === 'list') {
      const known = out[name];
      out[name] = [...(Array.isArray(known) ? known : []), scalar(field.of, value)];
    } else if (field.type === 'map') {
      const entry = fieldsOf(Buffer.isBuffer(value) ? value : Buffer.alloc(0));
      const known = out[name];
      const map = isObject(known) ? known : {};
      map[bytesOf(entry, 1).toString()] = bytesOf(entry, 2).toString();
      out[name] = map;
    } else out[name] = scalar(field, value);
  }
  return out;
}

function scalar(schema: Schema, value: bigint | Buffer): Json {
  if (!Buffer.isBuffer(value)) return schema.type === 'bool' ? value !== 0n : Number(value);
  switch (schema.type) {
    case 'struct':
      return message(schema, value);
    case 'intOrString': {
      const fields = fieldsOf(value);
      const number = (wanted: number): bigint | Buffer =>
        fields.find((field) => field.number === wanted)?.value ?? 0n;
      return number(1) === 0n ? Number(number(2)) : bytesOf(fields, 3).toString();
    }
    case 'time': {
      const seconds = fieldsOf(value).find((field) => field.number === 1)?.value ?? 0n;
      return value.length === 0 ? null : new Date(Number(seconds) * 1000).toISOString();
    }
    default:
      return value.toString();
  }
}
