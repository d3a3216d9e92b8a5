/** Renders stored objects into what the client asked for: whole objects, tables, or metadata only. */

import { type Column, CREATED_AT, NAME } from './columns.ts';
import type { Json, JsonObject, KubeObject } from './json.ts';
import type { View } from './request.ts';
import type { Resource } from './resources.ts';
import { decode } from './schema.ts';
import type { Entry } from './store.ts';

export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** The stored object as this resource presents it, kind and apiVersion first. */
export function external(resource: Resource, stored: KubeObject): KubeObject {
  const { kind: _kind, apiVersion: _apiVersion, ...rest } = resource.fromStorage(stored);
  return { kind: resource.kind, apiVersion: apiVersionOf(resource), ...rest } as KubeObject;
}

/** JSON text of one object, rendered once per version and kept with it. */
export function objectText(resource: Resource, entry: Entry): string {
  return entry.text(apiVersionOf(resource), (object) => external(resource, object));
}

/** The same without kind and apiVersion: typed lists leave them out of their items. */
function itemText(resource: Resource, entry: Entry): string {
  const head = `{"kind":"${resource.kind}","apiVersion":"${apiVersionOf(resource)}",`;
  return `{${objectText(resource, entry).slice(head.length)}`;
}

function partial(object: KubeObject): JsonObject {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata };
}

function columnsOf(resource: Resource): readonly Column[] {
  return resource.columns.length > 0 ? resource.columns : [NAME, CREATED_AT];
}

function columnDefinitions(resource: Resource): Json[] {
  return columnsOf(resource).map((column) => ({
    name: column.name,
    type: column.type,
    format: column.name === 'Name' ? 'name' : '',
    description: column.name,
    priority: column.priority,
  }));
}

/** How `includeObject` fills a row. */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

function row(resource: Resource, object: KubeObject, include: IncludeObject, nowMs: number): JsonObject {
  const cells = columnsOf(resource).map((column) => column.cell(object, nowMs));
  if (include === 'None') return { cells };
  return { cells, object: include === 'Object' ? external(resource, object) : partial(object) };
}

function tableText(
  resource: Resource,
  metadata: JsonObject,
  objects: readonly KubeObject[],
  include: IncludeObject,
  withHeader: boolean,
): string {
  const now = Date.now();
  return JSON.stringify({
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: withHeader ? columnDefinitions(resource) : null,
    rows: objects.map((object) => row(resource, object, include, now)),
  });
}

/** One object in the view asked for. Watches pass withHeader only for their first table. */
export function oneText(
  resource: Resource,
  entry: Entry,
  view: View,
  include: IncludeObject,
  withHeader = true,
): string {
  if (view === 'object') return objectText(resource, entry);
  if (view === 'partial') return entry.text('partial', partial);
  const metadata = { resourceVersion: String(entry.revision) };
  return tableText(resource, metadata, [entry.object], include, withHeader);
}

export function listText(
  resource: Resource,
  entries: readonly Entry[],
  metadata: JsonObject,
  view: View,
  include: IncludeObject,
): string {
  if (view === 'table') {
    return tableText(
      resource,
      metadata,
      entries.map((entry) => entry.object),
      include,
      true,
    );
  }
  const items = entries.map((entry) =>
    view === 'partial' ? entry.text('partial', partial) : itemText(resource, entry),
  );
  const kind = view === 'partial' ? 'PartialObjectMetadataList' : `${resource.kind}List`;
  const apiVersion = view === 'partial' ? 'meta.k8s.io/v1' : apiVersionOf(resource);
  const head = `{"kind":"${kind}","apiVersion":"${apiVersion}","metadata":${JSON.stringify(metadata)},"items":[`;
  return `${head}${items.join(',')}]}`;
}

/** A bookmark carries nothing but a resourceVersion, in an otherwise empty object of the kind. */
export function bookmarkText(
  resource: Resource,
  revision: number,
  view: View,
  endsInitialEvents: boolean,
): string {
  const metadata: JsonObject = { resourceVersion: String(revision), creationTimestamp: null };
  if (endsInitialEvents) metadata['annotations'] = { 'k8s.io/initial-events-end': 'true' };
  const empty = decode(resource.schema, {}, resource.version, { unknown: [] });
  const object = {
    ...empty,
    kind: resource.kind,
    apiVersion: apiVersionOf(resource),
    metadata,
  } as unknown as KubeObject;
  if (view === 'partial') return JSON.stringify(partial(object));
  if (view === 'object') return JSON.stringify(object);
  return JSON.stringify({
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: String(revision) },
    columnDefinitions: null,
    rows: [{ cells: [], object }],
  });
}
