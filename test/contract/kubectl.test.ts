/** kubectl as the judge: the one on the PATH, and Debian's when it is unpacked in .cache/kubectl. */

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { contract } from './target.ts';

const run = promisify(execFile);
const DEBIAN = join(import.meta.dirname, '../../.cache/kubectl/usr/bin/kubectl');

const MANIFEST = `apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {app: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
`;

async function onPath(): Promise<boolean> {
  return run('kubectl', ['version', '--client']).then(
    () => true,
    () => false,
  );
}

const binaries = [...((await onPath()) ? ['kubectl'] : []), ...(existsSync(DEBIAN) ? [DEBIAN] : [])];

contract('kubectl', (context) => {
  if (binaries.length === 0) it.skip('kubectl is not installed', () => {});
  for (const binary of binaries) {
    describe(binary, () => {
      let directory = '';
      let namespace = '';
      const kubectl = async (...parameters: string[]): Promise<string> => {
        const flags = [
          '--kubeconfig',
          join(directory, 'config'),
          '--cache-dir',
          join(directory, 'cache'),
          '-n',
          namespace,
        ];
        return (await run(binary, [...flags, ...parameters])).stdout;
      };

      before(async () => {
        directory = mkdtempSync(join(tmpdir(), 'lbd-kubectl-'));
        writeFileSync(join(directory, 'config'), context().target.kubeconfigFor('admin'), { mode: 0o600 });
        writeFileSync(join(directory, 'web.yaml'), MANIFEST);
        namespace = await context().namespace();
      });
      after(() => rmSync(directory, { recursive: true, force: true }));

      it('creates, lists and describes a Service', async () => {
        assert.match(
          await kubectl('create', 'service', 'loadbalancer', 'made', '--tcp=80:8080'),
          /service\/made created/,
        );
        const table = await kubectl('get', 'svc');
        assert.match(table, /^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\n/);
        assert.match(table, /\nmade +LoadBalancer +10\.[\d.]+ +<pending> +80:\d+\/TCP +\d+s\n/);
        assert.match(await kubectl('describe', 'svc', 'made'), /Type: +LoadBalancer/);
        assert.match(await kubectl('get', 'svc', 'made', '-o', 'yaml'), /kind: Service/);
      });

      it('applies a manifest, twice, then a changed one', async () => {
        const file = join(directory, 'web.yaml');
        assert.match(await kubectl('apply', '-f', file), /service\/web created/);
        assert.match(await kubectl('apply', '-f', file), /service\/web unchanged/);
        writeFileSync(file, MANIFEST.replace('port: 80,', 'port: 8000,'));
        assert.match(await kubectl('apply', '-f', file), /service\/web configured/);
        assert.equal(await kubectl('get', 'svc', 'web', '-o', 'jsonpath={.spec.ports[*].port}'), '8000');
      });

      it('applies on the server side', async () => {
        const file = join(directory, 'ssa.yaml');
        writeFileSync(file, MANIFEST.replace('name: web', 'name: ssa'));
        assert.match(await kubectl('apply', '--server-side', '-f', file), /service\/ssa serverside-applied/);
      });

      it('shows a status that was written, in the table and in describe with its events', async () => {
        await kubectl('create', 'service', 'loadbalancer', 'shown', '--tcp=80');
        const path = `/api/v1/namespaces/${namespace}/services/shown`;
        const { admin } = context();
        const answer = await admin.patch(`${path}/status`, {
          status: { loadBalancer: { ingress: [{ ip: '192.0.2.7' }] } },
        });
        const uid = String((answer.body['metadata'] as { uid: string }).uid);
        await admin.post(`/apis/events.k8s.io/v1/namespaces/${namespace}/events`, {
          metadata: { name: 'shown.1' },
          eventTime: new Date().toISOString().replace('Z', '000Z'),
          reportingController: 'lbd.io/lbd',
          reportingInstance: 'host-1',
          action: 'Allocate',
          reason: 'AddressAllocated',
          regarding: { apiVersion: 'v1', kind: 'Service', namespace, name: 'shown', uid },
          note: 'gave 192.0.2.7',
          type: 'Normal',
        });
        assert.match(await kubectl('get', 'svc', 'shown'), / 192\.0\.2\.7 /);
        const described = await kubectl('describe', 'svc', 'shown');
        assert.match(described, /LoadBalancer Ingress: +192\.0\.2\.7/);
        assert.match(described, /AddressAllocated/);
        assert.match(await kubectl('get', 'events'), /AddressAllocated +service\/shown +gave 192\.0\.2\.7/);
      });

      it('patches, labels and annotates', async () => {
        await kubectl('create', 'service', 'loadbalancer', 'patched', '--tcp=80');
        assert.match(
          await kubectl('patch', 'svc', 'patched', '-p', '{"spec":{"selector":{"a":"b"}}}'),
          /patched/,
        );
        assert.match(await kubectl('annotate', 'svc', 'patched', 'lbd.io/pool=lan'), /annotated/);
        assert.match(await kubectl('label', 'svc', 'patched', 'x=y'), /labeled/);
        assert.equal(
          await kubectl('get', 'svc', '-l', 'x=y', '-o', 'jsonpath={.items[*].metadata.name}'),
          'patched',
        );
      });

      it('watches', async () => {
        const flags = ['--kubeconfig', join(directory, 'config'), '-n', namespace];
        const watching = spawn(binary, [...flags, 'get', 'svc', '-w', '--no-headers'], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        try {
          const seen = new Promise<string>((resolve) => {
            let text = '';
            watching.stdout.on('data', (chunk: Buffer) => {
              text += chunk;
              if (/watched +LoadBalancer/.test(text)) resolve(text);
            });
          });
          await kubectl('create', 'service', 'loadbalancer', 'watched', '--tcp=80');
          assert.match(await seen, /watched +LoadBalancer/);
        } finally {
          watching.kill();
        }
      });

      it('refuses what the API refuses, with its text', async () => {
        await assert.rejects(kubectl('create', 'service', 'loadbalancer', 'Bad', '--tcp=80'), /DNS-1035/);
        await assert.rejects(kubectl('get', 'svc', 'absent'), /services "absent" not found/);
      });

      it('knows nodes, leases, endpoint slices and its own rights', async () => {
        await kubectl('get', 'nodes,leases,endpointslices');
        assert.match(await kubectl('api-resources'), /leases +coordination\.k8s\.io\/v1 +true +Lease/);
        assert.match(await kubectl('auth', 'can-i', 'delete', 'services'), /yes/);
      });

      it('deletes one and all', async () => {
        await kubectl('create', 'service', 'loadbalancer', 'gone', '--tcp=80');
        assert.match(await kubectl('delete', 'svc', 'gone'), /service "gone" deleted/);
        await kubectl('delete', 'svc', '--all');
        assert.equal(await kubectl('get', 'svc', '-o', 'name'), '');
      });
    });
  }
});
