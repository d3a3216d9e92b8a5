/** Authorization from the stored Roles, ClusterRoles and their bindings, as RBAC evaluates them. */

import { arrayOf, at, type Json, type KubeObject, stringOf } from './json.ts';
import type { Table } from './store.ts';
import type { Rule } from './types.ts';
import type { Identity } from './users.ts';

const GROUP = 'rbac.authorization.k8s.io';
const API_VERSION = `${GROUP}/v1`;
const MASTERS = 'system:masters';

/** Open to everyone, and to every authenticated user. */
const PUBLIC_PATHS = /^\/(healthz|livez|readyz|version)(\/.*)?$/;
const DISCOVERY_PATHS = /^\/(api|apis|openapi|healthz|livez|readyz|version)(\/.*)?$/;

export interface Attempt {
  readonly verb: string;
  readonly group: string;
  /** With the subresource: `services/status`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

interface Grant {
  readonly rule: Json;
  /** '' grants everywhere. */
  readonly namespace: string;
}

export interface RbacTables {
  readonly roles: Table;
  readonly roleBindings: Table;
  readonly clusterRoles: Table;
  readonly clusterRoleBindings: Table;
}

export class Authorizer {
  private readonly tables: RbacTables;
  private readonly grants = new Map<string, Grant[]>();

  constructor(tables: RbacTables) {
    this.tables = tables;
    for (const table of Object.values(tables) as Table[]) table.on('change', () => this.grants.clear());
  }

  allows(identity: Identity, attempt: Attempt): boolean {
    if (identity.groups.includes(MASTERS)) return true;
    const selfReview = attempt.group === 'authorization.k8s.io' && attempt.verb === 'create';
    if (selfReview && identity.groups.includes('system:authenticated')) return true;
    return this.grantsOf(identity).some(
      ({ rule, namespace }) =>
        (namespace === '' || namespace === attempt.namespace) && permits(rule, attempt),
    );
  }

  /** For paths that name no resource, such as /version. */
  allowsPath(identity: Identity, path: string): boolean {
    if (identity.groups.includes(MASTERS) || PUBLIC_PATHS.test(path)) return true;
    return identity.groups.includes('system:authenticated') && DISCOVERY_PATHS.test(path);
  }

  private grantsOf(identity: Identity): Grant[] {
    const key = `${identity.name}\n${identity.groups.join('\n')}`;
    const known = this.grants.get(key);
    if (known !== undefined) return known;
    const grants: Grant[] = [];
    for (const { object } of this.tables.clusterRoleBindings.list('')) {
      if (binds(object, identity)) grants.push(...this.rulesOf(object, ''));
    }
    for (const { object } of this.tables.roleBindings.list('')) {
      if (binds(object, identity))
        grants.push(...this.rulesOf(object, stringOf(object.metadata['namespace'])));
    }
    this.grants.set(key, grants);
    return grants;
  }

  private rulesOf(binding: KubeObject, namespace: string): Grant[] {
    const name = stringOf(at(binding, 'roleRef', 'name'));
    const role =
      at(binding, 'roleRef', 'kind') === 'Role'
        ? this.tables.roles.get(`${namespace}/${name}`)
        : this.tables.clusterRoles.get(name);
    return arrayOf(role?.object['rules']).map((rule) => ({ rule, namespace }));
  }
}

function binds(binding: KubeObject, identity: Identity): boolean {
  return arrayOf(binding['subjects']).some((subject) => {
    const name = stringOf(at(subject, 'name'));
    switch (at(subject, 'kind')) {
      case 'User':
        return name === identity.name;
      case 'Group':
        return identity.groups.includes(name);
      case 'ServiceAccount':
        return identity.name === `system:serviceaccount:${stringOf(at(subject, 'namespace'))}:${name}`;
      default:
        return false;
    }
  });
}

function permits(rule: Json, attempt: Attempt): boolean {
  const has = (field: string, ...wanted: string[]): boolean => {
    const values = arrayOf(at(rule, field));
    return values.includes('*') || wanted.some((value) => values.includes(value));
  };
  const subresource = attempt.resource.split('/')[1];
  const resources = subresource === undefined ? [attempt.resource] : [attempt.resource, `*/${subresource}`];
  const names = arrayOf(at(rule, 'resourceNames'));
  return (
    has('verbs', attempt.verb) &&
    has('apiGroups', attempt.group) &&
    has('resources', ...resources) &&
    (names.length === 0 || names.includes(attempt.name))
  );
}

/** The roles and bindings that give a user exactly these rules. */
export function rbacObjects(user: string, rules: readonly Rule[]): KubeObject[] {
  const namespaces = new Set(rules.map((rule) => rule.namespace ?? ''));
  return [...namespaces].flatMap((namespace) => {
    const prefix = namespace === '' ? 'Cluster' : '';
    const metadata = { name: `test:${user}`, ...(namespace === '' ? {} : { namespace }) };
    const own = rules.filter((rule) => (rule.namespace ?? '') === namespace);
    const role: KubeObject = {
      kind: `${prefix}Role`,
      apiVersion: API_VERSION,
      metadata,
      rules: own.map((rule) => ({
        verbs: [...rule.verbs],
        apiGroups: [...rule.apiGroups],
        resources: [...rule.resources],
        ...(rule.resourceNames === undefined ? {} : { resourceNames: [...rule.resourceNames] }),
      })),
    };
    const binding: KubeObject = {
      kind: `${prefix}RoleBinding`,
      apiVersion: API_VERSION,
      metadata,
      subjects: [{ kind: 'User', apiGroup: GROUP, name: user }],
      roleRef: { apiGroup: GROUP, kind: `${prefix}Role`, name: `test:${user}` },
    };
    return [role, binding];
  });
}
