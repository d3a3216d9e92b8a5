/** The state of one API server: its tables by resource, its revision, its resources. */

import { randomUUID } from 'node:crypto';
import type { KubeObject } from './json.ts';
import { createResources, type Resource } from './resources.ts';
import { timeText } from './schema.ts';
import type { ServiceNetworks } from './service.ts';
import { Revisions, Table } from './store.ts';

export interface ClusterOptions extends ServiceNetworks {
  readonly historyLimit: number;
}

const FIRST_REVISION = 100;
const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];

export class Cluster {
  readonly resources: readonly Resource[];
  readonly revisions: Revisions;
  private readonly tables = new Map<string, Table>();
  private readonly byPath = new Map<string, Resource>();

  constructor(options: ClusterOptions) {
    this.revisions = new Revisions(FIRST_REVISION);
    this.resources = createResources(options);
    for (const resource of this.resources) {
      this.byPath.set(`${resource.group}/${resource.version}/${resource.plural}`, resource);
      if (!this.tables.has(resource.storage)) {
        this.tables.set(resource.storage, new Table(this.revisions, options.historyLimit));
      }
    }
    this.seed();
  }

  resource(group: string, version: string, plural: string): Resource | undefined {
    return this.byPath.get(`${group}/${version}/${plural}`);
  }

  table(resource: Resource): Table {
    return this.tableNamed(resource.storage);
  }

  tableNamed(storage: string): Table {
    const table = this.tables.get(storage);
    if (table === undefined) throw new Error(`no table ${storage}`);
    return table;
  }

  allTables(): Table[] {
    return [...this.tables.values()];
  }

  /** Everything but the namespaces is gone, without a word to anybody. */
  loseObjects(): void {
    for (const resource of this.resources) {
      if (resource.plural === 'namespaces') continue;
      for (const entry of this.table(resource).forget()) resource.strategy.release?.(entry.object, undefined);
    }
  }

  /** All objects get new, low revisions, as after a restore into a new etcd. */
  renumber(): void {
    this.revisions.current = 1;
    for (const table of this.tables.values()) table.renumber();
  }

  /** What every cluster has from its first moment: the four namespaces and the API server's own Service. */
  private seed(): void {
    for (const name of NAMESPACES) this.seedNamespace(name);
    const service: KubeObject = {
      kind: 'Service',
      apiVersion: 'v1',
      metadata: {
        name: 'kubernetes',
        namespace: 'default',
        uid: randomUUID(),
        creationTimestamp: timeText(Date.now()),
        labels: { component: 'apiserver', provider: 'kubernetes' },
      },
      spec: { ports: [{ name: 'https', protocol: 'TCP', port: 443, targetPort: 6443 }] },
      status: { loadBalancer: {} },
    };
    const services = this.resources.find((resource) => resource.plural === 'services');
    services?.strategy.setDefaults?.(service);
    services?.strategy.allocate?.(service, undefined);
    this.tableNamed('core/services').put('default/kubernetes', service);
  }

  private seedNamespace(name: string): void {
    const namespace: KubeObject = {
      kind: 'Namespace',
      apiVersion: 'v1',
      metadata: {
        name,
        uid: randomUUID(),
        creationTimestamp: timeText(Date.now()),
        labels: { 'kubernetes.io/metadata.name': name },
      },
      spec: { finalizers: ['kubernetes'] },
      status: { phase: 'Active' },
    };
    this.tableNamed('core/namespaces').put(name, namespace);
  }
}

/** The storage key: namespace and name, as etcd keys are built. */
export function keyOf(resource: Resource, namespace: string, name: string): string {
  return resource.namespaced ? `${namespace}/${name}` : name;
}

/** What all keys of a namespace start with; '' for all namespaces. */
export function prefixOf(resource: Resource, namespace: string): string {
  return resource.namespaced && namespace !== '' ? `${namespace}/` : '';
}
