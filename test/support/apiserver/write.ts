/** CREATE, UPDATE, PATCH and DELETE of objects: the order of checks is the one of the real server. */

import { randomInt, randomUUID } from 'node:crypto';
import { applyPatch } from './apply.ts';
import { type Cluster, keyOf } from './cluster.ts';
import {
  alreadyExists,
  badRequest,
  conflict,
  type FieldError,
  forbidden,
  internalError,
  invalid,
  invalidField,
  MODIFIED_MEANWHILE,
  notFound,
  unsupportedMediaType,
} from './errors.ts';
import {
  arrayOf,
  at,
  clone,
  equal,
  isObject,
  type JsonObject,
  type KubeObject,
  objectOf,
  stringOf,
} from './json.ts';
import { trackUpdate } from './managed-fields.ts';
import { metadataErrors, metadataUpdateErrors } from './names.ts';
import { jsonPatch, mergePatch, strategicMergePatch } from './patch.ts';
import type { Resource } from './resources.ts';
import { decode, timeText } from './schema.ts';
import { Entry } from './store.ts';
import { apiVersionOf, external } from './tables.ts';

export interface WriteRequest {
  readonly resource: Resource;
  readonly namespace: string;
  readonly name: string;
  /** '' or 'status'. */
  readonly subresource: string;
  readonly query: URLSearchParams;
  readonly body: JsonObject | undefined;
  /** Who writes, for managedFields. */
  readonly manager: string;
  /** Texts for the Warning header are added here. */
  readonly warnings: string[];
}

export interface WriteResult {
  readonly code: number;
  readonly entry: Entry;
  /** The answer is a Status Success instead of the object. */
  readonly deleted?: boolean;
}

const NAME_SUFFIX = 'bcdfghjklmnpqrstvwxz2456789';
const NAME_ATTEMPTS = 8;

export class Writer {
  private readonly cluster: Cluster;

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  // ── create ─────────────────────────────────────────────────────────────────────────────────────

  create(request: WriteRequest): WriteResult {
    const object = this.decodeBody(request);
    const { resource, namespace } = request;
    this.takeNamespace(request, object);
    if (stringOf(object.metadata['resourceVersion']) !== '') {
      throw internalError('resourceVersion should not be set on objects to be created');
    }
    this.checkNamespaceIsOpen(resource, namespace, object.metadata.name ?? '');
    const generated =
      stringOf(object.metadata.name) === '' && stringOf(object.metadata['generateName']) !== '';
    for (let attempt = 1; generated; attempt += 1) {
      object.metadata.name = generateName(stringOf(object.metadata['generateName']));
      if (this.entry(resource, namespace, object.metadata.name) === undefined || attempt === NAME_ATTEMPTS)
        break;
    }
    return { code: 201, entry: this.insert(request, object) };
  }

  private insert(request: WriteRequest, object: KubeObject, applied = false): Entry {
    const { resource, namespace } = request;
    const metadata = object.metadata;
    for (const field of ['selfLink', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'resourceVersion']) {
      delete metadata[field];
    }
    metadata['uid'] = randomUUID();
    metadata['creationTimestamp'] = timeText(Date.now());
    if (resource.counted) metadata['generation'] = 1;
    const stored = resource.toStorage(object);
    resource.strategy.prepareCreate?.(stored);
    this.refuseInvalid(resource, stored, [
      ...metadataErrors(stored.metadata, resource.nameRule),
      ...(resource.strategy.validate?.(stored) ?? []),
    ]);
    const key = keyOf(resource, namespace, metadata.name);
    if (this.cluster.table(resource).get(key) !== undefined) throw alreadyExists(resource, metadata.name);
    resource.strategy.allocate?.(stored, undefined);
    if (!applied) trackUpdate(resource, stored, undefined, { manager: request.manager, subresource: '' });
    if (isDryRun(request)) {
      resource.strategy.release?.(stored, undefined);
      return new Entry(key, stored, 0);
    }
    return this.cluster.table(resource).put(key, stored);
  }

  private checkNamespaceIsOpen(resource: Resource, namespace: string, name: string): void {
    if (!resource.namespaced) return;
    const found = this.cluster.tableNamed('core/namespaces').get(namespace);
    if (found === undefined)
      throw notFound({ group: '', plural: 'namespaces', kind: 'Namespace' }, namespace);
    if (at(found.object, 'status', 'phase') !== 'Terminating') return;
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    throw forbidden(resource, name, why, [
      {
        reason: 'NamespaceTerminating',
        message: `namespace ${namespace} is being terminated`,
        field: 'metadata.namespace',
      },
    ]);
  }

  // ── update ─────────────────────────────────────────────────────────────────────────────────────

  update(request: WriteRequest): WriteResult {
    const object = this.decodeBody(request);
    const { resource, namespace, name } = request;
    this.takeNamespace(request, object);
    if (stringOf(object.metadata.name) === '') {
      throw badRequest(`name must be provided`);
    }
    if (object.metadata.name !== name) {
      throw badRequest(
        `the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`,
      );
    }
    const current = this.entry(resource, namespace, name);
    if (current === undefined) {
      if (!resource.createOnUpdate || request.subresource !== '') throw notFound(resource, name);
      this.checkNamespaceIsOpen(resource, namespace, name);
      return { code: 201, entry: this.insert(request, object) };
    }
    if (stringOf(object.metadata['resourceVersion']) === '' && !resource.unconditionalUpdate) {
      throw invalid(resource, name, [
        invalidField('metadata.resourceVersion', 0, 'must be specified for an update'),
      ]);
    }
    return { code: 200, entry: this.replace(request, object, current) };
  }

  /** The common end of updates and patches: `object` is the whole new state, in the resource's own shape. */
  private replace(request: WriteRequest, object: KubeObject, current: Entry, applied = false): Entry {
    const { resource, name, subresource } = request;
    const old = current.object;
    checkPreconditions(resource, name, object.metadata, current);
    carryMetadata(object.metadata, old.metadata);
    const stored = resource.toStorage(object);
    const strategy = resource.strategy;
    const status = subresource === 'status';
    if (status) strategy.prepareStatusUpdate?.(stored, old);
    else strategy.prepareUpdate?.(stored, old);
    this.refuseInvalid(resource, stored, [
      ...metadataErrors(stored.metadata, resource.nameRule),
      ...metadataUpdateErrors(stored.metadata, old.metadata),
      ...((status ? strategy.validateStatusUpdate?.(stored, old) : strategy.validateUpdate?.(stored, old)) ??
        []),
    ]);
    if (!status) strategy.allocate?.(stored, old);
    if (resource.counted && !sameContent(stored, old)) {
      stored.metadata['generation'] = Number(old.metadata['generation'] ?? 0) + 1;
    }
    if (!applied) trackUpdate(resource, stored, old, { manager: request.manager, subresource });
    return this.commit(request, stored, current);
  }

  private commit(request: WriteRequest, stored: KubeObject, current: Entry): Entry {
    const { resource } = request;
    const table = this.cluster.table(resource);
    if (isDryRun(request)) {
      resource.strategy.release?.(stored, current.object);
      return new Entry(current.key, stored, 0);
    }
    // an update that changes nothing writes nothing: same resourceVersion, no event
    if (sameObject(stored, current.object)) return current;
    resource.strategy.release?.(current.object, stored);
    const gone =
      stored.metadata['deletionTimestamp'] !== undefined &&
      arrayOf(stored.metadata['finalizers']).length === 0;
    if (!gone) return table.put(current.key, stored);
    resource.strategy.release?.(stored, undefined);
    table.put(current.key, stored);
    return table.delete(current.key) ?? current;
  }

  // ── patch ──────────────────────────────────────────────────────────────────────────────────────

  patch(request: WriteRequest, contentType: string): WriteResult {
    const { resource, namespace, name } = request;
    const current = this.entry(resource, namespace, name);
    if (contentType === 'application/apply-patch+yaml') return this.apply(request, current);
    if (current === undefined) throw notFound(resource, name);
    const before = external(resource, current.object);
    const body = request.body as JsonObject;
    const patched = objectOf(patchedBy(contentType, resource, before, body));
    const object = this.decodeBody({ ...request, body: patched });
    this.takeNamespace(request, object);
    if (object.metadata.name !== name) {
      throw invalid(resource, name, [
        invalidField('metadata.name', object.metadata.name ?? '', 'field is immutable'),
      ]);
    }
    return { code: 200, entry: this.replace(request, object, current) };
  }

  private apply(request: WriteRequest, current: Entry | undefined): WriteResult {
    const { resource, namespace, name, query } = request;
    const manager = query.get('fieldManager') ?? '';
    if (manager === '')
      throw badRequest(
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
      );
    const applied = this.decodeBody(request);
    this.takeNamespace(request, applied);
    const appliedName = stringOf(applied.metadata.name);
    if (appliedName !== '' && appliedName !== name) {
      throw badRequest(
        `the name of the object (${appliedName}) does not match the name on the URL (${name})`,
      );
    }
    if (current === undefined && request.subresource !== '') throw notFound(resource, name);
    const options = { manager, force: query.get('force') === 'true', subresource: request.subresource };
    const before = current === undefined ? undefined : external(resource, current.object);
    const body = clone(request.body ?? {});
    const result = applyPatch(resource, before, body, options);
    const object = this.decodeBody({ ...request, body: result });
    object.metadata.name = name;
    if (resource.namespaced) object.metadata['namespace'] = namespace;
    if (current !== undefined) {
      const wanted = stringOf(applied.metadata['resourceVersion']);
      object.metadata['resourceVersion'] = wanted === '' ? String(current.revision) : wanted;
      return { code: 200, entry: this.replace(request, object, current, true) };
    }
    this.checkNamespaceIsOpen(resource, namespace, name);
    return { code: 201, entry: this.insert(request, object, true) };
  }

  // ── delete ─────────────────────────────────────────────────────────────────────────────────────

  delete(request: WriteRequest): WriteResult {
    const { resource, namespace, name } = request;
    const current = this.entry(resource, namespace, name);
    if (current === undefined) throw notFound(resource, name);
    const preconditions = objectOf(request.body?.['preconditions']);
    checkDeletePreconditions(resource, name, preconditions, current);
    return this.remove(request, current);
  }

  /** Removes the object, or marks it when finalizers hold it. */
  remove(request: Pick<WriteRequest, 'resource' | 'query' | 'body'>, current: Entry): WriteResult {
    const { resource } = request;
    const table = this.cluster.table(resource);
    if (isDryRun(request)) return { code: 200, entry: current, deleted: true };
    if (resource.plural === 'namespaces') return this.terminateNamespace(request, current);
    if (arrayOf(current.object.metadata['finalizers']).length > 0) {
      if (current.object.metadata['deletionTimestamp'] !== undefined) return { code: 200, entry: current };
      return { code: 200, entry: table.put(current.key, markedForDeletion(current.object)) };
    }
    resource.strategy.release?.(current.object, undefined);
    return { code: 200, entry: table.delete(current.key) ?? current, deleted: true };
  }

  /** The namespace controller's work, done at once: the content goes, then the namespace. */
  private terminateNamespace(
    request: Pick<WriteRequest, 'resource' | 'query' | 'body'>,
    current: Entry,
  ): WriteResult {
    const name = current.object.metadata.name;
    if (['default', 'kube-system', 'kube-public'].includes(name)) {
      throw forbidden(request.resource, name, 'this namespace may not be deleted');
    }
    const table = this.cluster.table(request.resource);
    const marked = markedForDeletion(current.object);
    marked['status'] = { phase: 'Terminating' };
    const entry = table.put(current.key, marked);
    for (const resource of this.cluster.resources) {
      if (!resource.namespaced) continue;
      for (const inside of this.cluster.table(resource).list(`${name}/`)) {
        this.remove({ resource, query: request.query, body: undefined }, inside);
      }
    }
    table.delete(current.key);
    return { code: 200, entry };
  }

  // ── shared ─────────────────────────────────────────────────────────────────────────────────────

  private entry(resource: Resource, namespace: string, name: string): Entry | undefined {
    return this.cluster.table(resource).get(keyOf(resource, namespace, name));
  }

  /** Reads the body as the resource's kind, sets defaults and reports unknown fields as asked. */
  private decodeBody(request: WriteRequest): KubeObject {
    const { resource, body, query } = request;
    if (body === undefined) throw badRequest('the request body is empty');
    const apiVersion = apiVersionOf(resource);
    const saysVersion = stringOf(body['apiVersion']) || apiVersion;
    const saysKind = stringOf(body['kind']) || resource.kind;
    if (saysVersion !== apiVersion) {
      throw badRequest(
        `the API version in the data (${saysVersion}) does not match the expected API version (${apiVersion})`,
      );
    }
    if (saysKind !== resource.kind) {
      throw badRequest(
        `${saysKind} in version ${JSON.stringify(resource.version)} cannot be handled as a ${resource.kind}`,
      );
    }
    const unknown: string[] = [];
    const decoded = decode(resource.schema, body, resource.version, { unknown });
    const object = { ...decoded, kind: resource.kind, apiVersion } as unknown as KubeObject;
    reportUnknown(unknown, query.get('fieldValidation') ?? '', request.warnings);
    resource.strategy.setDefaults?.(object);
    return object;
  }

  private takeNamespace(request: WriteRequest, object: KubeObject): void {
    const { resource, namespace } = request;
    const says = stringOf(object.metadata['namespace']);
    if (!resource.namespaced) {
      if (says !== '') throw badRequest('namespace may not be set on a cluster-scoped object');
      return;
    }
    if (says !== '' && says !== namespace) {
      throw badRequest(
        `the namespace of the provided object does not match the namespace sent on the request`,
      );
    }
    object.metadata['namespace'] = namespace;
  }

  private refuseInvalid(resource: Resource, object: KubeObject, errors: readonly FieldError[]): void {
    if (errors.length > 0) throw invalid(resource, object.metadata.name ?? '', errors);
  }
}

function reportUnknown(unknown: readonly string[], mode: string, warnings: string[]): void {
  if (unknown.length === 0 || mode === 'Ignore') return;
  const texts = unknown.map((field) => `unknown field ${JSON.stringify(field)}`);
  if (mode === 'Strict') throw badRequest(`strict decoding error: ${texts.join(', ')}`);
  warnings.push(...texts);
}

function patchedBy(contentType: string, resource: Resource, before: KubeObject, patch: JsonObject): unknown {
  switch (contentType) {
    case 'application/json-patch+json':
      return jsonPatch(before, patch);
    case 'application/merge-patch+json':
      return mergePatch(before, patch);
    case 'application/strategic-merge-patch+json':
      return strategicMergePatch(resource.schema, before, patch);
    default:
      throw unsupportedMediaType([
        'application/json-patch+json',
        'application/merge-patch+json',
        'application/strategic-merge-patch+json',
        'application/apply-patch+yaml',
      ]);
  }
}

function isDryRun(request: Pick<WriteRequest, 'query' | 'body'>): boolean {
  return request.query.get('dryRun') === 'All' || arrayOf(request.body?.['dryRun']).includes('All');
}

function generateName(prefix: string): string {
  let suffix = '';
  while (suffix.length < 5) suffix += NAME_SUFFIX[randomInt(NAME_SUFFIX.length)];
  return prefix.slice(0, 58) + suffix;
}

function checkPreconditions(resource: Resource, name: string, metadata: JsonObject, current: Entry): void {
  const uid = stringOf(metadata['uid']);
  const currentUid = stringOf(current.object.metadata['uid']);
  if (uid !== '' && uid !== currentUid) {
    throw conflict(
      resource,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${currentUid}`,
    );
  }
  const revision = stringOf(metadata['resourceVersion']);
  if (revision !== '' && revision !== '0' && revision !== String(current.revision)) {
    throw conflict(resource, name, MODIFIED_MEANWHILE);
  }
}

function checkDeletePreconditions(
  resource: Resource,
  name: string,
  wanted: JsonObject,
  current: Entry,
): void {
  for (const [field, label] of [
    ['uid', 'UID'],
    ['resourceVersion', 'ResourceVersion'],
  ] as const) {
    const value = wanted[field];
    const is = stringOf(current.object.metadata[field]);
    if (value === undefined || value === null || value === is) continue;
    throw conflict(
      resource,
      name,
      `the ${label} in the precondition (${value}) does not match the ${label} in record (${is}). The object might have been deleted and then recreated`,
    );
  }
}

/** What a client cannot change in metadata comes from the stored object. */
function carryMetadata(metadata: JsonObject, old: JsonObject): void {
  const fields = [
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'generation',
    'generateName',
    'resourceVersion',
  ];
  for (const field of fields) {
    if (old[field] === undefined) delete metadata[field];
    else metadata[field] = old[field];
  }
  delete metadata['selfLink'];
}

function markedForDeletion(object: KubeObject): KubeObject {
  const metadata = {
    ...object.metadata,
    deletionTimestamp: timeText(Date.now()),
    deletionGracePeriodSeconds: 0,
  };
  return { ...object, metadata };
}

function sameContent(a: KubeObject, b: KubeObject): boolean {
  const { metadata: _a, status: _as, ...restA } = a;
  const { metadata: _b, status: _bs, ...restB } = b;
  return equal(restA, restB);
}

/** Equal apart from the bookkeeping in managedFields. */
function sameObject(a: KubeObject, b: KubeObject): boolean {
  const { managedFields: fieldsA, ...metadataA } = a.metadata;
  const { managedFields: fieldsB, ...metadataB } = b.metadata;
  if (!equal(metadataA, metadataB) || !equal(withoutTimes(fieldsA), withoutTimes(fieldsB))) return false;
  return equal({ ...a, metadata: null }, { ...b, metadata: null });
}

function withoutTimes(managedFields: unknown): JsonObject[] {
  return arrayOf(managedFields)
    .filter(isObject)
    .map(({ time: _time, ...rest }) => rest);
}
