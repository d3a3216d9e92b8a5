/**
 * The stand-in as a program:
 *   node test/support/apiserver/main.ts --listen 10.0.0.1:6443 --directory DIR [--lbd-form tokenFile]
 * writes DIR/admin.kubeconfig, DIR/lbd.kubeconfig, DIR/ca.crt and DIR/admin.sock, prints one JSON line when
 * it is ready, and runs until SIGTERM, SIGINT or `POST /quit` on the admin socket. With
 * KUBE_APISERVER=/path/to/kube-apiserver in the environment it starts the real one instead, with the same files.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startAdmin } from './admin.ts';
import { realApiServerPath, startRealApiServer } from './real.ts';
import { startApiServer } from './server.ts';
import { type CredentialForm, LBD_RULES } from './types.ts';

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:0' },
    directory: { type: 'string' },
    'lbd-form': { type: 'string', default: 'token' },
    'certificate-host': { type: 'string', multiple: true, default: [] },
    'bookmark-interval-ms': { type: 'string', default: '60000' },
    'node-ports': { type: 'string', default: '30000-32767' },
  },
});
if (values.directory === undefined) throw new Error('--directory DIR is required');
const directory = resolve(values.directory);
mkdirSync(directory, { recursive: true });

const listen = /^\[?(?<host>[^\]]+)\]?:(?<port>\d+)$/.exec(values.listen)?.groups;
if (listen === undefined)
  throw new Error(`--listen: expected ADDRESS:PORT, got ${JSON.stringify(values.listen)}`);
const [firstPort = '', lastPort = ''] = values['node-ports'].split('-');

// until everything runs there is nothing to end in order; exit handlers remove what was started
const abort = (): never => process.exit(1);
process.once('SIGTERM', abort);
process.once('SIGINT', abort);

const common = {
  host: listen['host'] ?? '',
  port: Number(listen['port']),
  directory,
  certificateHosts: values['certificate-host'],
  nodePorts: { first: Number(firstPort), last: Number(lastPort) },
};
const standIn =
  realApiServerPath() === undefined
    ? await startApiServer({ ...common, bookmarkIntervalMs: Number(values['bookmark-interval-ms']) })
    : undefined;
const api = standIn ?? (await startRealApiServer(common));
await api.createUser('lbd', { rules: LBD_RULES });

const secret = { mode: 0o600 };
writeFileSync(join(directory, 'ca.crt'), api.caPem);
writeFileSync(join(directory, 'admin.kubeconfig'), api.kubeconfigFor('admin'), secret);
const form = values['lbd-form'] as CredentialForm;
writeFileSync(join(directory, 'lbd.kubeconfig'), api.kubeconfigFor('lbd', { form }), secret);

const adminSocket = join(directory, 'admin.sock');
const admin = await startAdmin(api, standIn, adminSocket, quit);

async function stop(): Promise<void> {
  admin.close();
  await api.close();
}

function quit(): void {
  stop().then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${error}\n`);
      process.exit(1);
    },
  );
}
process.off('SIGTERM', abort);
process.off('SIGINT', abort);
process.on('SIGTERM', quit);
process.on('SIGINT', quit);

process.stdout.write(
  `${JSON.stringify({ ready: true, standIn: api.isStandIn, url: api.url, directory, adminSocket, pid: process.pid })}\n`,
);
