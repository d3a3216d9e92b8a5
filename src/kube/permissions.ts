/**
 * Everything that lbd asks of the Kubernetes API, each verb with its reason: the one list behind
 * packaging/kubernetes/rbac.yaml, `lbctl kubeconfig`, `lbd check` and the tests' own user.
 */

import { LEASE_NAME } from './lease.ts';

export type Permission = {
  /** '' is the core group. */
  readonly group: string;
  /** With its subresource: `services/status`. */
  readonly resource: string;
  readonly verb: 'get' | 'list' | 'watch' | 'create' | 'patch';
  /** `lease`: only in the namespace of the allocator's Lease; `self`: only in that of lbd's ServiceAccount. */
  readonly scope: 'cluster' | 'lease' | 'self';
  /** The one object it is needed for; undefined where RBAC cannot name it (`create`, `list`) or there are many. */
  readonly name: string | undefined;
  readonly reason: string;
  /** False: lbd serves Services without it too. */
  readonly isRequired: boolean;
};

/** Who lbd is in the cluster, and where. */
export type AccessOptions = {
  /** The namespace of the ServiceAccount. */
  readonly namespace: string;
  readonly leaseNamespace: string;
};

/** The name of the ServiceAccount, the roles and the bindings. */
export const ACCOUNT_NAME = 'lbd';
export const DEFAULT_ACCESS: AccessOptions = { namespace: 'kube-system', leaseNamespace: 'kube-system' };

const COORDINATION = 'coordination.k8s.io';
const DISCOVERY = 'discovery.k8s.io';
const EVENTS = 'events.k8s.io';

export const PERMISSIONS: readonly Permission[] = [
  everywhere(
    '',
    'services',
    'list',
    'find the Services of type LoadBalancer and the addresses that they have',
  ),
  everywhere('', 'services', 'watch', 'learn at once when a Service comes, changes or goes'),
  everywhere('', 'services/status', 'patch', 'write the addresses given to a Service into its status'),
  everywhere(DISCOVERY, 'endpointslices', 'list', 'know which nodes have ready endpoints of a Service'),
  everywhere(DISCOVERY, 'endpointslices', 'watch', 'learn at once when endpoints come, go or get unready'),
  everywhere('', 'nodes', 'list', 'know which nodes are ready and may own addresses'),
  everywhere('', 'nodes', 'watch', 'learn at once when a node gets ready or unready'),
  everywhere(
    EVENTS,
    'events',
    'create',
    'tell in "kubectl describe service" what was done with it and why',
    false,
  ),
  everywhere(EVENTS, 'events', 'patch', 'count an Event that repeats instead of writing another one', false),
  inLeaseNamespace('create', undefined, 'make the Lease by which lbd hosts agree on the one that allocates'),
  inLeaseNamespace('get', LEASE_NAME, 'see which host allocates, and whether it still does'),
  inLeaseNamespace('patch', LEASE_NAME, 'become the one that allocates, stay it, and give it up'),
  {
    group: '',
    resource: 'serviceaccounts/token',
    verb: 'create',
    scope: 'self',
    name: ACCOUNT_NAME,
    reason: 'renew its own token before that expires',
    isRequired: false,
  },
];

function everywhere(
  group: string,
  resource: string,
  verb: Permission['verb'],
  reason: string,
  isRequired = true,
): Permission {
  return { group, resource, verb, scope: 'cluster', name: undefined, reason, isRequired };
}

function inLeaseNamespace(verb: Permission['verb'], name: string | undefined, reason: string): Permission {
  return { group: COORDINATION, resource: 'leases', verb, scope: 'lease', name, reason, isRequired: true };
}

/** One RBAC rule (rbac.authorization.k8s.io/v1 PolicyRule). Without a namespace it is for the whole cluster. */
export type AccessRule = {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly namespace?: string;
};

/** The namespace that a permission is for; undefined for all of them. */
export function namespaceOf({ scope }: Permission, options: AccessOptions): string | undefined {
  if (scope === 'cluster') return undefined;
  return scope === 'lease' ? options.leaseNamespace : options.namespace;
}

/** The permissions as rules: those that differ only by their verb are one. */
export function accessRules(options: AccessOptions): readonly AccessRule[] {
  const groups = new Map<string, [Permission, ...Permission[]]>();
  for (const permission of PERMISSIONS) {
    const { group, resource, scope, name } = permission;
    const key = JSON.stringify([group, resource, scope, name]);
    const known = groups.get(key);
    if (known === undefined) groups.set(key, [permission]);
    else known.push(permission);
  }
  return [...groups.values()].map((permissions) => {
    const [{ group, resource, name }] = permissions;
    const namespace = namespaceOf(permissions[0], options);
    return {
      apiGroups: [group],
      resources: [resource],
      verbs: permissions.map(({ verb }) => verb),
      ...(name === undefined ? {} : { resourceNames: [name] }),
      ...(namespace === undefined ? {} : { namespace }),
    };
  });
}

/** An object of the API as it is sent. */
export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
};

const RBAC_GROUP = 'rbac.authorization.k8s.io';

/** The ServiceAccount of lbd with its roles and bindings, in the order in which they are made. */
export function accessManifests(options: AccessOptions): readonly Manifest[] {
  const rules = accessRules(options);
  const namespaces = [...new Set(rules.map(({ namespace }) => namespace))];
  const account: Manifest = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: ACCOUNT_NAME, namespace: options.namespace },
    automountServiceAccountToken: false,
  };
  const roles = namespaces.flatMap((namespace) => {
    const own = rules.filter((rule) => rule.namespace === namespace);
    return roleManifests(options, namespace, own);
  });
  return [account, ...roles];
}

function roleManifests(
  options: AccessOptions,
  namespace: string | undefined,
  rules: readonly AccessRule[],
): readonly Manifest[] {
  const kind = namespace === undefined ? 'ClusterRole' : 'Role';
  const apiVersion = `${RBAC_GROUP}/v1`;
  const metadata = { name: ACCOUNT_NAME, ...(namespace === undefined ? {} : { namespace }) };
  return [
    { apiVersion, kind, metadata, rules: rules.map(({ namespace: _, ...rule }) => rule) },
    {
      apiVersion,
      kind: `${kind}Binding`,
      metadata,
      roleRef: { apiGroup: RBAC_GROUP, kind, name: ACCOUNT_NAME },
      subjects: [{ kind: 'ServiceAccount', name: ACCOUNT_NAME, namespace: options.namespace }],
    },
  ];
}
