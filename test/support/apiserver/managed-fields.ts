/** metadata.managedFields: who set which field, kept on every write. */

import { fromFieldsV1, type Leaves, leaves, type Path, toFieldsV1 } from './field-paths.ts';
import { arrayOf, equal, isObject, type JsonObject, type KubeObject, stringOf } from './json.ts';
import type { Resource } from './resources.ts';
import { timeText } from './schema.ts';
import { apiVersionOf, external } from './tables.ts';

export interface Manager {
  readonly name: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string;
  readonly paths: Set<Path>;
}

/** The system's own fields belong to nobody. */
const UNOWNED = new Set(
  [
    'name',
    'namespace',
    'generateName',
    'uid',
    'resourceVersion',
    'creationTimestamp',
    'generation',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'managedFields',
    'selfLink',
  ].map((field) => `f:metadata\nf:${field}`),
);

export function ownedLeaves(resource: Resource, object: JsonObject): Leaves {
  const all = leaves(resource.schema, object);
  for (const path of all.keys()) {
    if (path === 'f:kind' || path === 'f:apiVersion' || UNOWNED.has(path)) all.delete(path);
  }
  return all;
}

export function readManagers(object: KubeObject | undefined): Manager[] {
  return arrayOf(object?.metadata['managedFields'])
    .filter(isObject)
    .map((entry) => ({
      name: stringOf(entry['manager']),
      operation: entry['operation'] === 'Apply' ? 'Apply' : 'Update',
      apiVersion: stringOf(entry['apiVersion']),
      subresource: stringOf(entry['subresource']),
      time: stringOf(entry['time']),
      paths: fromFieldsV1(entry['fieldsV1']),
    }));
}

export function writeManagers(object: KubeObject, managers: readonly Manager[]): void {
  const entries = managers
    .filter((manager) => manager.paths.size > 0)
    .map((manager) => ({
      manager: manager.name,
      operation: manager.operation,
      apiVersion: manager.apiVersion,
      time: manager.time,
      fieldsType: 'FieldsV1',
      fieldsV1: toFieldsV1(manager.paths),
      ...(manager.subresource === '' ? {} : { subresource: manager.subresource }),
    }));
  if (entries.length === 0) delete object.metadata['managedFields'];
  else object.metadata['managedFields'] = entries;
}

/** Books a create or update: the writer owns what it changed, the others lose that. */
export function trackUpdate(
  resource: Resource,
  stored: KubeObject,
  old: KubeObject | undefined,
  writer: { readonly manager: string; readonly subresource: string },
): void {
  const after = ownedLeaves(resource, external(resource, stored));
  const before: Leaves = old === undefined ? new Map() : ownedLeaves(resource, external(resource, old));
  const changed = [...after]
    .filter(([path, value]) => !before.has(path) || !equal(before.get(path), value))
    .map(([path]) => path);
  const removed = [...before.keys()].filter((path) => !after.has(path));
  const managers = readManagers(old);
  const apiVersion = apiVersionOf(resource);
  const isWriter = (manager: Manager): boolean =>
    manager.name === writer.manager &&
    manager.operation === 'Update' &&
    manager.subresource === writer.subresource &&
    manager.apiVersion === apiVersion;
  for (const manager of managers) {
    if (!isWriter(manager)) for (const path of changed) manager.paths.delete(path);
    for (const path of removed) manager.paths.delete(path);
  }
  if (changed.length > 0) {
    const index = managers.findIndex(isWriter);
    const paths = new Set([...(managers[index]?.paths ?? []), ...changed]);
    const own: Manager = {
      name: writer.manager,
      operation: 'Update',
      apiVersion,
      subresource: writer.subresource,
      time: timeText(Date.now()),
      paths,
    };
    if (index < 0) managers.push(own);
    else managers[index] = own;
  }
  writeManagers(stored, managers);
}
