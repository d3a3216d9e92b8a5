import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { grantedToken, tokenRequestBody, tokenRequestPath } from '../../../src/kube/account-token.ts';
import { ApiClient } from '../../../src/kube/io/api-client.ts';
import { Credentials } from '../../../src/kube/io/credentials.ts';
import { readRenewedToken, TokenRenewal } from '../../../src/kube/io/token-renewal.ts';
import { accessManifests, DEFAULT_ACCESS } from '../../../src/kube/permissions.ts';
import type { KubeObject } from '../../support/apiserver/json.ts';
import { waitFor } from '../../support/wait.ts';
import { Harness, now } from './harness.ts';

const LIFE_MS = 10 * 3_600_000;
const ACCOUNT = { namespace: 'kube-system', name: 'lbd' };

let harness: Harness;
let directory: string;
beforeEach(async () => {
  harness = await Harness.start();
  harness.api.load(accessManifests(DEFAULT_ACCESS) as unknown as KubeObject[], { checked: false });
  directory = join(harness.directory, 'state');
});
afterEach(() => harness.close());

/** A token of the ServiceAccount, from the API server. */
async function newToken(): Promise<string> {
  const answer = await harness.admin('POST', tokenRequestPath(ACCOUNT), tokenRequestBody(LIFE_MS));
  const granted = grantedToken(answer, ACCOUNT);
  assert.ok(granted);
  return granted.text;
}

function writeKubeconfig(token: string, path = harness.kubeconfig('lbd')): string {
  const text = readFileSync(path, 'utf8').replace(/^( +token: ).*$/m, `$1${token}`);
  writeFileSync(path, text);
  return path;
}

/** What the daemon has: credentials, a client, and the renewal whose clock stands `ageMs` after now. */
function renewal(path: string, ageMs: number) {
  const clock = { ageMs };
  const credentials = new Credentials({
    path,
    context: undefined,
    logger: harness.logger,
    now,
    renewedToken: readRenewedToken(directory),
  });
  const client = new ApiClient(credentials, now);
  const machine = new TokenRenewal({
    client,
    credentials,
    stateDirectory: directory,
    logger: harness.logger,
    wallNow: () => Date.now() + clock.ageMs,
    checkIntervalMs: 10,
  });
  harness.closeWith(async () => {
    await machine.stop();
    credentials.close();
  });
  const sent = async () => (await credentials.current()).headers['authorization']?.replace('Bearer ', '');
  const list = () =>
    client.request({ verb: 'list', resource: 'services', method: 'GET', path: '/api/v1/services' });
  machine.start();
  return { machine, sent, list, clock };
}

async function logged(event: string): Promise<string> {
  return waitFor(async () => harness.logged.find((line) => line.startsWith(event)), {
    describe: `${event} in the log`,
    timeoutMs: 5_000,
    everyMs: 5,
  });
}

describe('TokenRenewal', () => {
  it('leaves a token alone in the first half of its life', async () => {
    const token = await newToken();
    const { machine, sent, list } = renewal(writeKubeconfig(token), LIFE_MS * 0.49);
    await list();
    assert.equal(await sent(), token);
    const status = machine.status();
    assert.equal(status?.account, 'kube-system/lbd');
    assert.ok(Math.abs((status?.expiresInMs ?? 0) - LIFE_MS * 0.51) < 10_000);
    assert.equal(readRenewedToken(directory), undefined);
    assert.deepEqual(harness.logged, []);
  });

  it('renews it in the second half, uses the new one at once and keeps it for the next start', async () => {
    const token = await newToken();
    const path = writeKubeconfig(token);
    const { sent, list } = renewal(path, LIFE_MS * 0.51);
    await logged('kube.token.renewed');
    const kept = readFileSync(join(directory, 'token'), 'utf8').trim();
    assert.notEqual(kept, token);
    assert.equal(statSync(join(directory, 'token')).mode & 0o777, 0o640);
    assert.equal(await sent(), kept);
    await list();
    assert.match(readFileSync(path, 'utf8'), new RegExp(token), 'the kubeconfig stays as it is');
    assert.equal(await renewal(path, 0).sent(), kept);
  });

  it('shows why it cannot, and tries again later', async () => {
    harness.api.faults.fail(403, { resources: ['serviceaccounts/token'] });
    const token = await newToken().catch(() => undefined);
    assert.equal(token, undefined);
    harness.api.faults.clear();
    const { machine, clock } = renewal(writeKubeconfig(await newToken()), LIFE_MS * 0.1);
    harness.api.faults.fail(403, { resources: ['serviceaccounts/token'] });
    clock.ageMs = LIFE_MS * 0.6;
    await logged('kube.token.renewal-failed');
    assert.match(
      machine.status()?.error ?? '',
      /^cannot create serviceaccounts\/token: 403 .* \(grant verb create on serviceaccounts\/token\)$/,
    );
    assert.equal(machine.status()?.isLate, false);
    harness.api.faults.clear();
    clock.ageMs = LIFE_MS * 0.85;
    await logged('kube.token.renewed');
    await waitFor(async () => machine.status()?.error === undefined, {
      describe: 'the error to go',
      timeoutMs: 1_000,
    });
  });

  it('uses a token that it cannot keep, and says so', async () => {
    mkdirSync(directory);
    mkdirSync(join(directory, 'token'));
    const token = await newToken();
    const { machine, sent, clock } = renewal(writeKubeconfig(token), LIFE_MS * 0.6);
    await logged('kube.token.renewal-failed');
    assert.notEqual(await sent(), token);
    assert.match(harness.logged.join('\n'), /is in use, but cannot be kept in .*\/state\/token: EISDIR/);
    assert.match(machine.status()?.error ?? '', /cannot be kept/);
    rmSync(join(directory, 'token'), { recursive: true });
    clock.ageMs = 61_000;
    const kept = await waitFor(async () => readRenewedToken(directory), {
      describe: 'the token in the state directory',
      timeoutMs: 5_000,
    });
    assert.equal(kept, await sent());
    assert.doesNotMatch(harness.logged.join('\n'), /kube\.token\.renewed/, 'only saved, not renewed again');
  });

  it('goes back to the token of the kubeconfig when the renewed one is refused', async () => {
    const token = await newToken();
    mkdirSync(directory);
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    const forged = Buffer.from(JSON.stringify({ ...claims, iat: claims.iat + 60 })).toString('base64url');
    writeFileSync(join(directory, 'token'), `e30.${forged}.x`);
    const { sent, list } = renewal(writeKubeconfig(token), 0);
    assert.equal(await sent(), `e30.${forged}.x`);
    await list();
    assert.equal(await sent(), token);
  });

  it('gives way to a newer kubeconfig', async () => {
    const path = writeKubeconfig(await newToken());
    renewal(path, LIFE_MS * 0.6);
    await logged('kube.token.renewed');
    // Tokens count whole seconds.
    await waitFor(
      async () =>
        Math.floor(Date.now() / 1000) > Math.floor(statSync(join(directory, 'token')).mtimeMs / 1000),
      {
        describe: 'the next second',
        timeoutMs: 2_000,
        everyMs: 50,
      },
    );
    const newest = await newToken();
    writeKubeconfig(newest, path);
    assert.equal(await renewal(path, 0).sent(), newest);
  });

  it('has nothing to do with other kinds of credentials', async () => {
    for (const form of ['token', 'tokenFile', 'exec', 'clientCertificate'] as const) {
      const { machine, list } = renewal(harness.kubeconfig('lbd', form), LIFE_MS);
      await list();
      assert.equal(machine.status(), undefined, form);
    }
  });
});
