/** Server-side apply: what a manager says it wants, merged field by field, with conflicts per leaf path. */

import { ApiError } from './errors.ts';
import { mergeApplied, type Path, removePath, shownPath } from './field-paths.ts';
import { clone, equal, type JsonObject, type KubeObject } from './json.ts';
import { type Manager, ownedLeaves, readManagers, writeManagers } from './managed-fields.ts';
import type { Resource } from './resources.ts';
import { timeText } from './schema.ts';
import { apiVersionOf } from './tables.ts';

export interface ApplyOptions {
  readonly manager: string;
  readonly force: boolean;
  readonly subresource: string;
}

/**
 * The object after the apply, managedFields included; `live` undefined creates it.
 * Throws 409 with one FieldManagerConflict cause per field somebody else owns and has otherwise.
 */
export function applyPatch(
  resource: Resource,
  live: KubeObject | undefined,
  applied: JsonObject,
  options: ApplyOptions,
): KubeObject {
  const wanted = ownedLeaves(resource, applied);
  const managers = readManagers(live);
  const isOwn = (manager: Manager): boolean =>
    manager.name === options.manager &&
    manager.operation === 'Apply' &&
    manager.subresource === options.subresource;
  const others = managers.filter((manager) => !isOwn(manager));
  const own = managers.find(isOwn);

  const current = live === undefined ? new Map() : ownedLeaves(resource, live);
  const disputed = [...wanted]
    .filter(([path, value]) => !equal(current.get(path), value))
    .map(([path]) => path);
  const conflicts = others.flatMap((manager) =>
    disputed.filter((path) => manager.paths.has(path)).map((path) => ({ manager, path })),
  );
  if (conflicts.length > 0 && !options.force) throw conflictError(conflicts);
  for (const { manager, path } of conflicts) manager.paths.delete(path);

  const base = live === undefined ? undefined : clone(live);
  const result = mergeApplied(resource.schema, base, clone(applied)) as KubeObject;
  const kept = others.flatMap((manager) => [...manager.paths]);
  const dropped = [...(own?.paths ?? [])].filter(
    (path) => !wanted.has(path) && !kept.some((other) => other === path || other.startsWith(`${path}\n`)),
  );
  for (const path of dropped) removePath(resource.schema, result, path.split('\n'));

  const paths = new Set(wanted.keys());
  const unchanged =
    own !== undefined && own.paths.size === paths.size && [...paths].every((path) => own.paths.has(path));
  const entry: Manager = {
    name: options.manager,
    operation: 'Apply',
    apiVersion: apiVersionOf(resource),
    subresource: options.subresource,
    time: unchanged ? own.time : timeText(Date.now()),
    paths,
  };
  writeManagers(result, [...others, entry]);
  return result;
}

function conflictError(conflicts: readonly { manager: Manager; path: Path }[]): ApiError {
  const describe = ({ manager }: { manager: Manager }): string =>
    `conflict with ${JSON.stringify(manager.name)}${manager.subresource === '' ? '' : ` with subresource ${JSON.stringify(manager.subresource)}`} using ${manager.apiVersion}`;
  const causes = conflicts.map((conflict) => ({
    reason: 'FieldManagerConflict',
    message: describe(conflict),
    field: shownPath(conflict.path),
  }));
  const plural = conflicts.length === 1 ? 'conflict' : 'conflicts';
  const list = causes.map((cause) => `${cause.message}: ${cause.field}`).join('\n');
  return new ApiError(409, 'Conflict', `Apply failed with ${conflicts.length} ${plural}: ${list}`, {
    causes,
  });
}
