import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatDuration, parseDuration } from '../config/duration.ts';
import { checkAccess } from '../kube/io/access-check.ts';
import { type Provisioned, provision } from '../kube/io/provision.ts';
import { DEFAULT_ACCESS, type Manifest } from '../kube/permissions.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { groupId, OPERATORS_GROUP } from '../sys/group.ts';
import { type FileOwner, replaceFile } from '../sys/replace-file.ts';
import type { CliIo } from './cli-io.ts';
import { formatAge, printable } from './text.ts';

/** Where administrators' kubeconfigs are: kubectl's own, kubeadm's and k3s's. */
const ADMIN_FILES = ['/etc/kubernetes/admin.conf', '/etc/rancher/k3s/k3s.yaml'];
/** Of a TokenRequest, which takes no less than ten minutes. */
const SHORTEST_LIFETIME_MS = 600_000;
const VERIFY_TIMEOUT_MS = 5_000;
/** An API server learns of new accounts and roles from its own watches, a moment after it has stored them. */
const VERIFY_ATTEMPTS = 4;
const VERIFY_PAUSE_MS = 300;
const STDOUT = '-';

export type KubeconfigOptions = {
  readonly server?: string;
  readonly ca?: string;
  readonly adminKubeconfig?: string;
  readonly adminContext?: string;
  readonly leaseNamespace: string;
  readonly tokenLifetime: string;
  readonly output: string;
  readonly verify: boolean;
};

/**
 * `lbctl kubeconfig`: makes lbd's ServiceAccount and roles with an administrator's kubeconfig, and writes a kubeconfig for
 * lbd. May be run again at any time, which changes nothing but the token. Throws LbdError when something is in the way;
 * the file is written last, and only when the API server takes it.
 */
export async function makeKubeconfig(options: KubeconfigOptions, io: CliIo): Promise<void> {
  const lifetimeMs = lifetimeOf(options.tokenLifetime);
  // On standard output only the kubeconfig itself.
  const say = (text: string) => (options.output === STDOUT ? io.err : io.out)(`${printable(text)}\n`);
  const made = await provision({
    adminKubeconfig: options.adminKubeconfig ?? adminKubeconfig(io),
    adminContext: options.adminContext,
    server: options.server,
    caFile: options.ca,
    access: { ...DEFAULT_ACCESS, leaseNamespace: options.leaseNamespace },
    lifetimeMs,
    onApplied: (manifest) => say(`${nameOf(manifest)} is in place`),
  });
  if (options.verify) await verify(made, options.leaseNamespace);
  const life = made.token.expiresAtMs - made.token.issuedAtMs;
  const granted = life < lifetimeMs ? `, which is all that the API server grants` : '';
  if (options.output === STDOUT) io.out(made.kubeconfig);
  else say(`${options.output} is written${await write(options.output, made.kubeconfig)}`);
  say(
    `its token is valid for ${formatAge(life)}${granted}; lbd renews it at half of that, see "lbctl status"`,
  );
  if (options.output !== STDOUT) say('next: "lbd check", then "systemctl enable --now lbd"');
}

function lifetimeOf(text: string): number {
  const parsed = parseDuration(text);
  const expected = parsed.ok ? `expected at least ${formatDuration(SHORTEST_LIFETIME_MS)}` : parsed.error;
  if (parsed.ok && parsed.value >= SHORTEST_LIFETIME_MS) return parsed.value;
  throw new LbdError('cli.bad-option', `--token-lifetime: ${expected}, got ${JSON.stringify(text)}`);
}

function nameOf({ kind, metadata }: Manifest): string {
  return `${kind} ${metadata.namespace === undefined ? '' : `${metadata.namespace}/`}${metadata.name}`;
}

/** As kubectl finds it: $KUBECONFIG, then ~/.kube/config; on a control plane what its installer left. */
function adminKubeconfig(io: CliIo): string {
  const [named] = (io.env['KUBECONFIG'] ?? '').split(':');
  if (named !== undefined && named !== '') return named;
  const own = join(io.env['HOME'] ?? homedir(), '.kube/config');
  const found = [own, ...ADMIN_FILES].find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new LbdError(
    'cli.no-admin-kubeconfig',
    `expected an administrator's kubeconfig, found none at $KUBECONFIG, ${own} or ${ADMIN_FILES.join(' or ')}; ` +
      'name one with --admin-kubeconfig FILE',
  );
}

/** Asks the API server as lbd would, with the new file and nothing else. Throws LbdError when lbd could not work with it. */
async function verify({ kubeconfig, server }: Provisioned, leaseNamespace: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'lbctl-'));
  try {
    const path = join(directory, 'kubeconfig');
    writeFileSync(path, kubeconfig, { mode: 0o600 });
    let obstacle: string | undefined;
    for (let attempt = 0; attempt < VERIFY_ATTEMPTS; attempt++) {
      if (attempt > 0) await sleep(VERIFY_PAUSE_MS);
      obstacle = await obstacleOf(path, leaseNamespace, directory);
      if (obstacle === undefined) return;
    }
    throw new LbdError(
      'cli.not-verified',
      `nothing is written, because lbd could not work with it on ${server}: ${obstacle}; ` +
        'correct --server or --ca, or give --no-verify when only the hosts of lbd reach it',
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function obstacleOf(
  path: string,
  leaseNamespace: string,
  stateDirectory: string,
): Promise<string | undefined> {
  const { api, kubeconfig } = await checkAccess({
    config: { kubeconfig: path, context: undefined, leaseNamespace },
    stateDirectory,
    isOffline: false,
    timeoutMs: VERIFY_TIMEOUT_MS,
  });
  if (kubeconfig.kind === 'unusable') return kubeconfig.problem;
  if (api?.kind !== 'answers') return api?.problem ?? 'it was not asked';
  if (api.missing.length === 0) return undefined;
  return `it may not ${api.missing.map(({ verb, resource }) => `${verb} ${resource}`).join(', ')}`;
}

/** Writes the file for root and the group `lbd` if there is one, else for this user alone; gives how, for the message. */
async function write(output: string, text: string): Promise<string> {
  const path = resolve(output);
  const gid = process.geteuid?.() === 0 ? groupId(OPERATORS_GROUP) : undefined;
  const owner: FileOwner | undefined = gid === undefined ? undefined : { uid: 0, gid };
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    await replaceFile(path, text, owner === undefined ? 0o600 : 0o640, owner);
  } catch (error) {
    throw new LbdError('cli.write-failed', `cannot write ${output}: ${errorText(error)}`, { cause: error });
  }
  return owner === undefined ? ' (mode 0600)' : ` (mode 0640, root:${OPERATORS_GROUP})`;
}
