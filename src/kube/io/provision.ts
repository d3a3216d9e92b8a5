/**
 * Gives lbd its place in a cluster, with the rights of an administrator: ServiceAccount, roles, bindings, and a kubeconfig
 * with a token. Everything is applied (server-side apply), so that doing it again changes nothing but the token.
 */

import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { errorText, LbdError } from '../../lib/errors.ts';
import { SILENT_LOGGER } from '../../lib/logger.ts';
import { instant } from '../../lib/time.ts';
import { type AccountToken, grantedToken, tokenRequestBody, tokenRequestPath } from '../account-token.ts';
import { ACCOUNT_NAME, type AccessOptions, accessManifests, type Manifest } from '../permissions.ts';
import { ApiClient } from './api-client.ts';
import { Credentials } from './credentials.ts';
import { loadKubeconfig } from './kubeconfig.ts';

export type ProvisionOptions = {
  readonly adminKubeconfig: string;
  /** undefined means the file's current one. */
  readonly adminContext: string | undefined;
  /** Where lbd is to reach the API server, `https://host:port`; undefined means where the administrator does. */
  readonly server: string | undefined;
  /** The CA of that server, a file in PEM; undefined means the administrator's. */
  readonly caFile: string | undefined;
  readonly access: AccessOptions;
  /** How long the token is to be valid; the API server may grant less. */
  readonly lifetimeMs: number;
  /** Called for each object once it is in place. */
  readonly onApplied: (manifest: Manifest) => void;
};

export type Provisioned = {
  /** YAML. */
  readonly kubeconfig: string;
  readonly server: string;
  readonly token: AccountToken;
};

/** Throws LbdError naming what could not be done: `kube.kubeconfig-…`, `kube.request-failed`, `kube.provision`. */
export async function provision(options: ProvisionOptions): Promise<Provisioned> {
  const { adminKubeconfig: path, adminContext: context } = options;
  const admin = { path, context, mayBeExposed: true };
  const cluster = clusterOf(options);
  const credentials = new Credentials({ ...admin, logger: SILENT_LOGGER, now });
  try {
    const client = new ApiClient(credentials, now);
    for (const manifest of accessManifests(options.access)) {
      await apply(client, manifest);
      options.onApplied(manifest);
    }
    const account = { namespace: options.access.namespace, name: ACCOUNT_NAME };
    const granted = grantedToken(await requestToken(client, account, options.lifetimeMs), account);
    if (granted === undefined) {
      throw failure('the API server answered the TokenRequest without a token of the ServiceAccount');
    }
    const { text, token } = granted;
    return { kubeconfig: kubeconfigText(cluster, text, account.namespace), server: cluster.server, token };
  } finally {
    credentials.close();
  }
}

function now() {
  return instant(performance.now());
}

type Cluster = { readonly server: string; readonly caData: string };

/** What the kubeconfig says of the server; nothing has been asked of anybody before it is known to be usable. */
function clusterOf(options: ProvisionOptions): Cluster {
  const loaded = loadKubeconfig(options.adminKubeconfig, options.adminContext, true);
  const server = (options.server ?? loaded.server).replace(/\/+$/, '');
  if (!URL.canParse(server) || new URL(server).protocol !== 'https:') {
    throw failure(`expected https://HOST:PORT as the server, got ${JSON.stringify(server)}`);
  }
  const { caData, caFile } = loaded.kubeConfig.getCurrentCluster() ?? {};
  const file = options.caFile ?? (caData === undefined ? caFile : undefined);
  if (file !== undefined) return { server, caData: Buffer.from(readCa(file)).toString('base64') };
  if (caData === undefined) {
    throw failure(`${options.adminKubeconfig} names no CA of the API server: give one with --ca FILE`);
  }
  return { server, caData };
}

function readCa(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw failure(`cannot read the CA: ${errorText(error)}`);
  }
  if (!text.includes('-----BEGIN CERTIFICATE-----')) {
    throw failure(`expected certificates in PEM in ${file}, got none`);
  }
  return text;
}

function failure(message: string): LbdError {
  return new LbdError('kube.provision', message);
}

const CORE = '/api/v1';
const RBAC = '/apis/rbac.authorization.k8s.io/v1';

const RESOURCES: Readonly<Record<string, { readonly root: string; readonly plural: string }>> = {
  ServiceAccount: { root: CORE, plural: 'serviceaccounts' },
  ClusterRole: { root: RBAC, plural: 'clusterroles' },
  ClusterRoleBinding: { root: RBAC, plural: 'clusterrolebindings' },
  Role: { root: RBAC, plural: 'roles' },
  RoleBinding: { root: RBAC, plural: 'rolebindings' },
};

async function apply(client: ApiClient, manifest: Manifest): Promise<void> {
  const { name, namespace } = manifest.metadata;
  const resource = RESOURCES[manifest.kind];
  if (resource === undefined) throw failure(`nobody knows where a ${manifest.kind} goes`);
  const where = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  await client.request({
    verb: 'patch',
    resource: resource.plural,
    method: 'PATCH',
    path: `${resource.root}${where}/${resource.plural}/${name}?fieldManager=lbctl&force=true`,
    contentType: 'application/apply-patch+yaml',
    body: manifest,
  });
}

function requestToken(
  client: ApiClient,
  account: { readonly namespace: string; readonly name: string },
  lifetimeMs: number,
): Promise<unknown> {
  return client.request({
    verb: 'create',
    resource: 'serviceaccounts/token',
    method: 'POST',
    path: tokenRequestPath(account),
    body: tokenRequestBody(lifetimeMs),
  });
}

/** JSON text is YAML: no value can break out of its place. */
function kubeconfigText({ server, caData }: Cluster, token: string, namespace: string): string {
  return `# Made by "lbctl kubeconfig". lbd renews the token before it expires and keeps the new one in its state directory;
# a kubeconfig made anew goes before that.
apiVersion: v1
kind: Config
clusters:
  - name: kubernetes
    cluster:
      server: ${JSON.stringify(server)}
      certificate-authority-data: ${JSON.stringify(caData)}
users:
  - name: lbd
    user:
      token: ${JSON.stringify(token)}
contexts:
  - name: lbd
    context:
      cluster: kubernetes
      user: lbd
      namespace: ${JSON.stringify(namespace)}
current-context: lbd
`;
}
