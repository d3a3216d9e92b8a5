/**
 * Reads a kubeconfig file and refuses what lbd cannot or should not use. Parsing, contexts and authentication are
 * client-node's `KubeConfig`; here is only what it lacks: a check of the file's mode, messages for an operator, the
 * `tokenFile` of a user entry (client-node knows only its own spelling and reads it once), and KUBERNETES_EXEC_INFO.
 */

import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node/dist/config.js';
import { load } from 'js-yaml';
import { errorText, LbdError } from '../../lib/errors.ts';
import { listOf, type RawRecord, recordOf, shortTextOf } from '../raw.ts';

export type LoadedKubeconfig = {
  readonly kubeConfig: KubeConfig;
  /** `https://host:port`, without a trailing slash. */
  readonly server: string;
  /** Read for each refresh of the credentials; undefined when the user entry names none. */
  readonly tokenFile: string | undefined;
  readonly modifiedMs: number;
};

const LARGEST_BYTES = 4 * 1_024 * 1_024;
const MOST_ENTRIES = 1_000;

/**
 * Throws LbdError (`kube.kubeconfig-…`) when the file cannot serve: missing, readable by everybody, no YAML, without the
 * context asked for, or without a server. Asks no server.
 */
export function checkKubeconfig(path: string, context: string | undefined): void {
  loadKubeconfig(path, context);
}

/**
 * As `checkKubeconfig()`, and gives the parsed file. `context` undefined means the file's current one. `mayBeExposed`
 * takes files that everybody may read: a person's own are that person's business.
 */
export function loadKubeconfig(
  path: string,
  context: string | undefined,
  mayBeExposed = false,
): LoadedKubeconfig {
  const { text, modifiedMs } = readChecked(path, mayBeExposed);
  const directory = dirname(resolve(path));
  const document = parsed(path, text);
  const users = listOf(document['users'], MOST_ENTRIES);
  const kubeConfig = new KubeConfig();
  try {
    const ready = { ...document, users: users.map((entry) => prepared(entry, directory)) };
    kubeConfig.loadFromString(JSON.stringify(ready));
    kubeConfig.makePathsAbsolute(directory);
  } catch (error) {
    throw refuse('invalid', path, `is no usable kubeconfig: ${errorText(error)}`);
  }
  selectContext(kubeConfig, path, context);
  const server = serverOf(kubeConfig, path);
  const name = kubeConfig.getCurrentUser()?.name;
  const user = recordOf(recordOf(users.find((entry) => recordOf(entry)['name'] === name))['user']);
  const tokenFile = tokenFileOf(user);
  return {
    kubeConfig,
    server,
    tokenFile: tokenFile === undefined ? undefined : resolve(directory, tokenFile),
    modifiedMs,
  };
}

function readChecked(path: string, mayBeExposed: boolean): { text: string; modifiedMs: number } {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(path);
  } catch (error) {
    throw refuse('missing', path, `cannot be read: ${errorText(error)}`, error);
  }
  if (!stat.isFile()) throw refuse('invalid', path, 'is no regular file');
  if ((stat.mode & 0o007) !== 0 && !mayBeExposed) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
    throw refuse('exposed', path, `is open to every user of this host (mode ${mode}): run chmod 640 ${path}`);
  }
  if (stat.size > LARGEST_BYTES)
    throw refuse('invalid', path, `has ${stat.size} bytes, expected at most ${LARGEST_BYTES}`);
  try {
    return { text: readFileSync(path, 'utf8'), modifiedMs: stat.mtimeMs };
  } catch (error) {
    throw refuse('missing', path, `cannot be read: ${errorText(error)}`, error);
  }
}

function parsed(path: string, text: string): RawRecord {
  let document: unknown;
  try {
    document = load(text);
  } catch (error) {
    throw refuse('invalid', path, `is no YAML: ${firstLine(errorText(error))}`);
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw refuse(
      'invalid',
      path,
      'is no kubeconfig: expected a YAML mapping with clusters, users and contexts',
    );
  }
  return document as RawRecord;
}

/** Takes out what client-node would read once and for good, and tells exec plugins what kubectl tells them. */
function prepared(entry: unknown, directory: string): unknown {
  const record = recordOf(entry);
  const user = recordOf(record['user']);
  const { tokenFile: _ours, 'token-file': _oursToo, 'auth-provider': provider, ...kept } = user;
  const otherProvider = tokenFileOf(user) === undefined ? { 'auth-provider': provider } : {};
  return { ...record, user: { ...kept, ...otherProvider, ...preparedExec(user['exec'], directory) } };
}

function preparedExec(raw: unknown, directory: string): { exec?: unknown } {
  if (raw === undefined || raw === null) return {};
  const exec = recordOf(raw);
  const apiVersion = shortTextOf(exec['apiVersion'], 128) ?? 'client.authentication.k8s.io/v1';
  const info = { kind: 'ExecCredential', apiVersion, spec: { interactive: false } };
  const env = [...listOf(exec['env'], 100), { name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(info) }];
  const command = shortTextOf(exec['command'], 4_096);
  const path = command?.includes('/') ? resolve(directory, command) : command;
  return { exec: { ...exec, command: path, env } };
}

function tokenFileOf(user: RawRecord): string | undefined {
  const provider = recordOf(recordOf(user['auth-provider'])['config']);
  return shortTextOf(user['tokenFile'] ?? user['token-file'] ?? provider['tokenFile'], 4_096);
}

function selectContext(kubeConfig: KubeConfig, path: string, context: string | undefined): void {
  const names = kubeConfig.getContexts().map((entry) => entry.name);
  const wanted = context ?? kubeConfig.getCurrentContext();
  const known = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
  if (typeof wanted !== 'string' || wanted === '') {
    throw refuse(
      'no-context',
      path,
      `has no current-context: set kubernetes.context to one of its contexts (${known})`,
    );
  }
  if (!names.includes(wanted))
    throw refuse('no-context', path, `has no context ${JSON.stringify(wanted)}: ${known}`);
  kubeConfig.setCurrentContext(wanted);
}

function serverOf(kubeConfig: KubeConfig, path: string): string {
  const context = kubeConfig.getCurrentContext();
  const cluster = kubeConfig.getCurrentCluster();
  if (cluster === null)
    throw refuse('invalid', path, `has no cluster for context ${JSON.stringify(context)}`);
  if (kubeConfig.getCurrentUser() === null) {
    throw refuse('invalid', path, `has no user for context ${JSON.stringify(context)}`);
  }
  const url = URL.canParse(cluster.server) ? new URL(cluster.server) : undefined;
  if (url === undefined || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw refuse(
      'invalid',
      path,
      `names the server ${JSON.stringify(cluster.server)}, expected https://HOST:PORT`,
    );
  }
  if (url.protocol === 'http:' && !cluster.skipTLSVerify) {
    throw refuse(
      'invalid',
      path,
      `names ${cluster.server}, which is not encrypted: expected https://, or insecure-skip-tls-verify: true to allow it`,
    );
  }
  return cluster.server.replace(/\/+$/, '');
}

function refuse(code: string, path: string, what: string, cause?: unknown): LbdError {
  return new LbdError(`kube.kubeconfig-${code}`, `kubeconfig ${path} ${what}`, { fields: { path }, cause });
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? '';
}
