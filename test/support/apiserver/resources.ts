/** The resource table: one descriptor per resource drives routing, storage, validation and discovery. */

import {
  CORE_EVENT_COLUMNS,
  type Column,
  ENDPOINT_SLICE_COLUMNS,
  LEASE_COLUMNS,
  NAMESPACE_COLUMNS,
  NODE_COLUMNS,
  SERVICE_COLUMNS,
} from './columns.ts';
import { EndpointSliceStrategy } from './endpointslice.ts';
import type { FieldError, ResourceName } from './errors.ts';
import { CoreEventStrategy, coreFromEvent, EventStrategy, eventFromCore } from './event.ts';
import type { KubeObject } from './json.ts';
import * as kinds from './kinds.ts';
import { LeaseStrategy } from './lease.ts';
import type { NameRule } from './names.ts';
import { NamespaceStrategy, NodeStrategy } from './node.ts';
import type { StructSchema } from './schema.ts';
import { type ServiceNetworks, ServiceStrategy } from './service.ts';

/** What is particular to a kind when it is written. Objects passed in may be changed, old ones never. */
export interface Strategy {
  setDefaults?(object: KubeObject): void;
  prepareCreate?(object: KubeObject): void;
  prepareUpdate?(object: KubeObject, old: KubeObject): void;
  /** For a write to the status subresource: puts back what such a write may not touch. */
  prepareStatusUpdate?(object: KubeObject, old: KubeObject): void;
  validate?(object: KubeObject): FieldError[];
  validateUpdate?(object: KubeObject, old: KubeObject): FieldError[];
  validateStatusUpdate?(object: KubeObject, old: KubeObject): FieldError[];
  /** Takes what the object needs from shared ranges; throws an ApiError when there is none. */
  allocate?(object: KubeObject, old: KubeObject | undefined): void;
  release?(old: KubeObject, object: KubeObject | undefined): void;
}

export interface Resource extends ResourceName {
  readonly version: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly schema: StructSchema;
  readonly nameRule: NameRule;
  /** The table objects are kept in: two resources with the same one are views of the same objects. */
  readonly storage: string;
  readonly verbs: readonly string[];
  readonly hasStatus: boolean;
  readonly strategy: Strategy;
  /** Field selector → path into the stored object. */
  readonly selectable: Readonly<Record<string, readonly string[]>>;
  readonly columns: readonly Column[];
  /** PUT of an unknown name creates it. */
  readonly createOnUpdate: boolean;
  /** PUT without a resourceVersion overwrites whatever is there. */
  readonly unconditionalUpdate: boolean;
  /** metadata.generation counts changes of the spec. */
  readonly counted: boolean;
  readonly returnsDeleted: boolean;
  readonly toStorage: (object: KubeObject) => KubeObject;
  readonly fromStorage: (object: KubeObject) => KubeObject;
}

const ALL_VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const RBAC = 'rbac.authorization.k8s.io';

const METADATA_FIELDS = {
  'metadata.name': ['metadata', 'name'],
  'metadata.namespace': ['metadata', 'namespace'],
};
const EVENT_FIELDS = {
  ...METADATA_FIELDS,
  ...Object.fromEntries(
    ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map((field) => [
      `involvedObject.${field}`,
      ['involvedObject', field],
    ]),
  ),
  reason: ['reason'],
  reportingComponent: ['reportingComponent'],
  source: ['source', 'component'],
  type: ['type'],
};
const REGARDING_FIELDS = {
  ...EVENT_FIELDS,
  ...Object.fromEntries(
    ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map((field) => [
      `regarding.${field}`,
      ['involvedObject', field],
    ]),
  ),
  reportingController: ['reportingComponent'],
};

type Partial = Pick<Resource, 'group' | 'version' | 'plural' | 'kind' | 'namespaced' | 'schema'>;

function resource(required: Partial, options: globalThis.Partial<Resource> = {}): Resource {
  const group = required.group === '' ? 'core' : required.group;
  return {
    ...required,
    singular: required.kind.toLowerCase(),
    shortNames: [],
    categories: [],
    nameRule: 'dns1123Subdomain',
    storage: `${group}/${required.plural}`,
    verbs: ALL_VERBS,
    hasStatus: false,
    strategy: {},
    selectable: METADATA_FIELDS,
    columns: [],
    createOnUpdate: false,
    unconditionalUpdate: true,
    counted: false,
    returnsDeleted: false,
    toStorage: (object) => object,
    fromStorage: (object) => object,
    ...options,
  };
}

function rbac(plural: string, kind: string, namespaced: boolean, schema: StructSchema): Resource {
  return resource(
    { group: RBAC, version: 'v1', plural, kind, namespaced, schema },
    { nameRule: 'pathSegment', createOnUpdate: true },
  );
}

/** All resources of one server. Strategies hold state (allocated addresses), so each server has its own. */
export function createResources(networks: ServiceNetworks): Resource[] {
  const core = { group: '', version: 'v1' };
  return [
    resource(
      { ...core, plural: 'services', kind: 'Service', namespaced: true, schema: kinds.SERVICE },
      {
        shortNames: ['svc'],
        categories: ['all'],
        nameRule: 'dns1035Label',
        hasStatus: true,
        strategy: new ServiceStrategy(networks),
        selectable: {
          ...METADATA_FIELDS,
          'spec.clusterIP': ['spec', 'clusterIP'],
          'spec.type': ['spec', 'type'],
        },
        columns: SERVICE_COLUMNS,
        createOnUpdate: true,
        returnsDeleted: true,
      },
    ),
    resource(
      { ...core, plural: 'nodes', kind: 'Node', namespaced: false, schema: kinds.NODE },
      {
        shortNames: ['no'],
        hasStatus: true,
        strategy: new NodeStrategy(),
        selectable: { ...METADATA_FIELDS, 'spec.unschedulable': ['spec', 'unschedulable'] },
        columns: NODE_COLUMNS,
      },
    ),
    resource(
      { ...core, plural: 'namespaces', kind: 'Namespace', namespaced: false, schema: kinds.NAMESPACE },
      {
        shortNames: ['ns'],
        nameRule: 'dns1123Label',
        hasStatus: true,
        strategy: new NamespaceStrategy(),
        selectable: { ...METADATA_FIELDS, 'status.phase': ['status', 'phase'] },
        columns: NAMESPACE_COLUMNS,
        verbs: ALL_VERBS.filter((verb) => verb !== 'deletecollection'),
        returnsDeleted: true,
      },
    ),
    resource(
      { ...core, plural: 'events', kind: 'Event', namespaced: true, schema: kinds.CORE_EVENT },
      {
        shortNames: ['ev'],
        nameRule: 'pathSegment',
        strategy: new CoreEventStrategy(),
        selectable: EVENT_FIELDS,
        columns: CORE_EVENT_COLUMNS,
        createOnUpdate: true,
      },
    ),
    resource(
      {
        ...core,
        plural: 'serviceaccounts',
        kind: 'ServiceAccount',
        namespaced: true,
        schema: kinds.SERVICE_ACCOUNT,
      },
      { shortNames: ['sa'], unconditionalUpdate: false, returnsDeleted: true },
    ),
    resource(
      {
        group: 'events.k8s.io',
        version: 'v1',
        plural: 'events',
        kind: 'Event',
        namespaced: true,
        schema: kinds.EVENT,
      },
      {
        shortNames: ['ev'],
        nameRule: 'pathSegment',
        storage: 'core/events',
        strategy: new EventStrategy(),
        selectable: REGARDING_FIELDS,
        columns: CORE_EVENT_COLUMNS,
        createOnUpdate: true,
        toStorage: coreFromEvent,
        fromStorage: eventFromCore,
      },
    ),
    resource(
      {
        group: 'discovery.k8s.io',
        version: 'v1',
        plural: 'endpointslices',
        kind: 'EndpointSlice',
        namespaced: true,
        schema: kinds.ENDPOINT_SLICE,
      },
      { strategy: new EndpointSliceStrategy(), columns: ENDPOINT_SLICE_COLUMNS, counted: true },
    ),
    resource(
      {
        group: 'coordination.k8s.io',
        version: 'v1',
        plural: 'leases',
        kind: 'Lease',
        namespaced: true,
        schema: kinds.LEASE,
      },
      {
        strategy: new LeaseStrategy(),
        columns: LEASE_COLUMNS,
        createOnUpdate: true,
        unconditionalUpdate: false,
      },
    ),
    rbac('roles', 'Role', true, kinds.ROLE),
    rbac('rolebindings', 'RoleBinding', true, kinds.ROLE_BINDING),
    rbac('clusterroles', 'ClusterRole', false, kinds.CLUSTER_ROLE),
    rbac('clusterrolebindings', 'ClusterRoleBinding', false, kinds.CLUSTER_ROLE_BINDING),
  ];
}
