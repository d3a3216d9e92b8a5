/** The documents by which clients learn what the server serves: versions, groups, resources, schemas. */

import type { Json, JsonObject } from './json.ts';
import { openApiV2, openApiV2Protobuf, openApiV3, openApiV3Index } from './openapi.ts';
import type { Resource } from './resources.ts';

export const SERVER_VERSION = {
  major: '1',
  minor: '36',
  gitVersion: 'v1.36.0-standin',
  gitCommit: '0000000000000000000000000000000000000000',
  gitTreeState: 'clean',
  buildDate: '2026-01-01T00:00:00Z',
  goVersion: 'go1.26',
  compiler: 'gc',
  platform: 'linux/amd64',
};

export interface Document {
  readonly body: string | Buffer;
  readonly contentType: string;
}

const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
const OPENAPI_V2_PROTOBUF = 'application/com.github.proto-openapi.spec.v2';

/** The document at the path, or undefined when there is none. */
export function discoveryDocument(
  resources: readonly Resource[],
  path: string,
  accept: string,
): Document | undefined {
  const aggregated = accept.includes('as=APIGroupDiscoveryList') && accept.includes('v=v2;');
  switch (path) {
    case '/version':
      return json(SERVER_VERSION);
    case '/healthz':
    case '/livez':
    case '/readyz':
      return { body: 'ok', contentType: 'text/plain; charset=utf-8' };
    case '/api':
      if (aggregated) return aggregatedList(resources, true);
      return json({ kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] });
    case '/apis':
      if (aggregated) return aggregatedList(resources, false);
      return json({ kind: 'APIGroupList', apiVersion: 'v1', groups: groupsOf(resources).map(groupDocument) });
    case '/openapi/v2':
      return accept.includes(OPENAPI_V2_PROTOBUF)
        ? { body: openApiV2Protobuf(), contentType: `${OPENAPI_V2_PROTOBUF}.v1.0+protobuf` }
        : json(openApiV2(resources));
    case '/openapi/v3':
      return json(openApiV3Index(allResources(resources)));
    default:
      return versionDocument(resources, path);
  }
}

function versionDocument(resources: readonly Resource[], path: string): Document | undefined {
  const openApi = /^\/openapi\/v3\/(api|apis\/([^/]+))\/([^/]+)$/.exec(path);
  if (openApi !== null) {
    const matching = inVersion(resources, openApi[2] ?? '', openApi[3] ?? '');
    return matching.length === 0 ? undefined : json(openApiV3(matching));
  }
  const match = /^\/(?:api|apis\/([^/]+))\/([^/]+)\/?$/.exec(path);
  if (match !== null) {
    const [, group = '', version = ''] = match;
    const listed = inVersion(allResources(resources), group, version);
    return listed.length === 0 ? undefined : json(resourceList(group, version, listed));
  }
  const name = /^\/apis\/([^/]+)$/.exec(path)?.[1];
  if (name === undefined || !groupsOf(resources).includes(name)) return undefined;
  return json({ kind: 'APIGroup', apiVersion: 'v1', ...groupDocument(name) });
}

/** What discovery says about a resource, or about a kind that is answered but not stored. */
export interface Listed {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly hasStatus: boolean;
}

const REVIEW: Listed = {
  group: 'authorization.k8s.io',
  version: 'v1',
  plural: 'selfsubjectaccessreviews',
  singular: 'selfsubjectaccessreview',
  kind: 'SelfSubjectAccessReview',
  namespaced: false,
  verbs: ['create'],
  shortNames: [],
  categories: [],
  hasStatus: false,
};

function allResources(resources: readonly Resource[]): Listed[] {
  return [...resources, REVIEW];
}

function inVersion<T extends Listed>(resources: readonly T[], group: string, version: string): T[] {
  return resources.filter((resource) => resource.group === group && resource.version === version);
}

function groupsOf(resources: readonly Resource[]): string[] {
  return [...new Set(allResources(resources).map((resource) => resource.group))].filter(
    (group) => group !== '',
  );
}

function groupDocument(name: string): JsonObject {
  const version = { groupVersion: `${name}/v1`, version: 'v1' };
  return { name, versions: [version], preferredVersion: version };
}

function resourceList(group: string, version: string, listed: readonly Listed[]): JsonObject {
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources: listed.flatMap((resource) => [
      {
        name: resource.plural,
        singularName: resource.singular,
        namespaced: resource.namespaced,
        kind: resource.kind,
        verbs: [...resource.verbs],
        ...(resource.shortNames.length === 0 ? {} : { shortNames: [...resource.shortNames] }),
        ...(resource.categories.length === 0 ? {} : { categories: [...resource.categories] }),
      },
      ...subresources(resource).map((subresource) => ({
        name: `${resource.plural}/${subresource.name}`,
        singularName: '',
        namespaced: resource.namespaced,
        ...subresource.kind,
        verbs: subresource.verbs,
      })),
    ]),
  };
}

function subresources(
  resource: Listed,
): { name: string; kind: JsonObject & { kind: string }; verbs: string[] }[] {
  if (resource.hasStatus)
    return [{ name: 'status', kind: { kind: resource.kind }, verbs: ['get', 'patch', 'update'] }];
  if (resource.plural !== 'serviceaccounts') return [];
  return [
    {
      name: 'token',
      kind: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' },
      verbs: ['create'],
    },
  ];
}

function aggregatedList(resources: readonly Resource[], core: boolean): Document {
  const groups = core ? [''] : groupsOf(resources);
  const items = groups.map((group): Json => {
    const listed = inVersion(allResources(resources), group, 'v1');
    return {
      metadata: group === '' ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
      versions: [{ version: 'v1', freshness: 'Current', resources: listed.map(aggregatedResource) }],
    };
  });
  const body = { kind: 'APIGroupDiscoveryList', apiVersion: 'apidiscovery.k8s.io/v2', metadata: {}, items };
  return { body: JSON.stringify(body), contentType: AGGREGATED };
}

function aggregatedResource(resource: Listed): JsonObject {
  const { group, version, kind } = resource;
  return {
    resource: resource.plural,
    responseKind: { group, version, kind },
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: [...resource.verbs],
    shortNames: [...resource.shortNames],
    categories: [...resource.categories],
    subresources: subresources(resource).map((subresource) => ({
      subresource: subresource.name,
      responseKind: { group, version, ...subresource.kind },
      verbs: subresource.verbs,
    })),
  };
}

function json(value: unknown): Document {
  return { body: JSON.stringify(value), contentType: 'application/json' };
}
