/**
 * What `lbd check` asks of Kubernetes: whether the kubeconfig can serve, whether the API server answers, and which verbs of
 * `../permissions.ts` it would refuse (one SelfSubjectAccessReview for each).
 */

import { performance } from 'node:perf_hooks';
import type { KubernetesConfig } from '../../config/types.ts';
import { errorText, LbdError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { type Instant, instant } from '../../lib/time.ts';
import { type AccountToken, parseAccountToken, type TokenStatus, tokenStatus } from '../account-token.ts';
import { ACCOUNT_NAME, namespaceOf, PERMISSIONS, type Permission } from '../permissions.ts';
import { recordOf, shortTextOf } from '../raw.ts';
import { ApiClient, ApiError } from './api-client.ts';
import { Credentials } from './credentials.ts';
import { readRenewedToken } from './token-renewal.ts';

export type AccessCheckOptions = {
  readonly config: Pick<KubernetesConfig, 'kubeconfig' | 'context' | 'leaseNamespace'>;
  readonly stateDirectory: string;
  /** Looks at the kubeconfig only. */
  readonly isOffline: boolean;
  /** For all that is asked together. */
  readonly timeoutMs: number;
};

export type AccessReport = {
  readonly kubeconfig: KubeconfigReport;
  /** undefined when it was not asked. */
  readonly api: ApiReport | undefined;
};

export type KubeconfigReport =
  | { readonly kind: 'usable'; readonly server: string; readonly token: TokenStatus | undefined }
  /** This user may not read it, which says nothing about the daemon. */
  | { readonly kind: 'unseen' }
  | { readonly kind: 'unusable'; readonly problem: string };

export type ApiReport =
  | {
      readonly kind: 'answers';
      /** `v1.36.0`; undefined when it tells none. */
      readonly version: string | undefined;
      readonly tookMs: number;
      /** How many permissions were asked about. */
      readonly asked: number;
      readonly missing: readonly Permission[];
    }
  | { readonly kind: 'failed'; readonly problem: string };

/** Never rejects: whatever is wrong is in the report. */
export async function checkAccess(options: AccessCheckOptions): Promise<AccessReport> {
  const problems: string[] = [];
  let credentials: Credentials;
  try {
    credentials = openCredentials(options, problems);
  } catch (error) {
    if (!(error instanceof LbdError)) throw error;
    return { kubeconfig: kubeconfigProblem(error), api: undefined };
  }
  try {
    const text = credentials.accountToken();
    const token = text === undefined ? undefined : parseAccountToken(text);
    const kubeconfig = {
      kind: 'usable',
      server: credentials.server,
      token: token && tokenStatus(token, Date.now(), undefined),
    } as const;
    if (options.isOffline) return { kubeconfig, api: undefined };
    const api = await askApi(new ApiClient(credentials, now), options, token);
    if (api.kind === 'answers' || problems.length === 0) return { kubeconfig, api };
    // A token file that cannot be read explains the 401 that follows.
    return { kubeconfig, api: { ...api, problem: `${api.problem}; ${problems.join('; ')}` } };
  } finally {
    credentials.close();
  }
}

function now(): Instant {
  return instant(performance.now());
}

function openCredentials({ config, stateDirectory }: AccessCheckOptions, problems: string[]): Credentials {
  const logger: Logger = {
    debug() {},
    info() {},
    error() {},
    warn: ({ problem }) => void problems.push(String(problem)),
  };
  return new Credentials({
    path: config.kubeconfig,
    context: config.context,
    logger,
    now,
    renewedToken: readRenewedToken(stateDirectory),
  });
}

function kubeconfigProblem(error: LbdError): KubeconfigReport {
  const cause = error.cause;
  const errno = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return errno === 'EACCES' ? { kind: 'unseen' } : { kind: 'unusable', problem: errorText(error) };
}

async function askApi(
  client: ApiClient,
  options: AccessCheckOptions,
  token: AccountToken | undefined,
): Promise<ApiReport> {
  const startedAt = performance.now();
  try {
    const { timeoutMs } = options;
    const request = {
      verb: 'get',
      resource: '/version',
      method: 'GET',
      path: '/version',
      timeoutMs,
    } as const;
    const version = shortTextOf(recordOf(await client.request(request))['gitVersion'], 64);
    const tookMs = performance.now() - startedAt;
    const leftMs = Math.max(1, timeoutMs - tookMs);
    // Renewing a token is for those that end, and of the account that they are.
    const permissions = PERMISSIONS.filter(({ scope }) => scope !== 'self' || token !== undefined);
    const answers = await Promise.all(
      permissions.map((permission) => mayI(client, permission, options.config.leaseNamespace, token, leftMs)),
    );
    const missing = permissions.filter((_, index) => answers[index] === false);
    return { kind: 'answers', version, tookMs, asked: permissions.length, missing };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { kind: 'failed', problem: errorText(error) };
  }
}

async function mayI(
  client: ApiClient,
  permission: Permission,
  leaseNamespace: string,
  token: AccountToken | undefined,
  timeoutMs: number,
): Promise<boolean> {
  const namespace = namespaceOf(permission, { leaseNamespace, namespace: token?.namespace ?? '' });
  const name = permission.scope === 'self' ? (token?.name ?? ACCOUNT_NAME) : permission.name;
  const [resource, subresource] = permission.resource.split('/');
  const resourceAttributes = {
    verb: permission.verb,
    group: permission.group,
    resource,
    ...(subresource === undefined ? {} : { subresource }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
  };
  const answer = await client.request({
    verb: 'create',
    resource: 'selfsubjectaccessreviews',
    method: 'POST',
    path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
    body: {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes },
    },
    timeoutMs,
  });
  return recordOf(recordOf(answer)['status'])['allowed'] === true;
}
