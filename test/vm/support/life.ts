import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { RunResult } from '../../support/lab-process.ts';
import { labTimeMs } from '../../support/lab-time.ts';
import { Prober } from '../../support/prober.ts';
import type { Suite } from './image.ts';
import type { Machine } from './machine.ts';
import { MachineLab } from './machine-lab.ts';
import { makeRepositoryAsTyped, REPOSITORY_URL, serveRepository } from './package.ts';
import { type Command, Reader, readmeTranscript, type Substitutions } from './readme.ts';
import {
  ADMIN_KUBECONFIG,
  changesSince,
  holds,
  journalHas,
  mainPid,
  makeControlPlane,
  ROUTED,
  readyAgain,
  seconds,
  serveRouted,
  startWebServer,
  survey,
  VIP,
  watchAddresses,
} from './story.ts';

const TYPE_TIMEOUT_MS = 300_000;

/** What `lbd check` prints of the hour, of the size of the pool and of the API server, and of what no README can know. */
const VARIABLE = [
  /digest [0-9a-f]{12}/g,
  /(?<=valid for |renews it in )[0-9dhms]+/g,
  /\d+ addresses/g,
  /Kubernetes v[^,]+/g,
  /\d+ ms/g,
] as const;

/**
 * The life of lbd on one machine, as tests that go on from one to the next: the README's commands, every one of them and
 * none besides, until the address answers; then a kill, and the purge. The long one has a reboot before the purge, and a
 * virtual address in use beside the local one.
 */
export function lifeOfLbd(suite: Suite, skip: string | false, extent: 'short' | 'long' = 'short'): void {
  describe(`lbd on a machine with ${suite}`, { skip }, () => {
    let lab: MachineLab;
    let machine: Machine;
    let reader: Reader;
    let prober: Prober;
    let untouched: ReadonlySet<string>;
    let substitutions: Substitutions;

    before(async () => {
      lab = await MachineLab.start({ suite });
      machine = lab.machine();
      await makeControlPlane(lab, machine);
      await startWebServer(machine);
      untouched = await survey(machine);
      substitutions = {
        repository: REPOSITORY_URL,
        apiServer: lab.lab.apiServer.url,
        pool: '10.77.0.200-10.77.0.220',
        subnet: '10.77.0.0/24',
        address: VIP,
      };
      reader = new Reader(substitutions, (command) => type(lab, command));
    });
    afterEach(async (t) => {
      if ('passed' in t && !t.passed) console.log(await machine.journal());
    });
    after(() => lab?.close());

    test('is installed by apt, starts nothing without a configuration, and says what to do', async (t) => {
      await reader.typeUntil('make apt-repo');
      const startedAt = labTimeMs();
      const said = await reader.typeUntil('apt install lbd');
      t.diagnostic(`apt update and apt install took ${seconds(startedAt)}`);
      assert.match(said, /systemctl enable --now lbd/);
      assert.equal(await mainPid(machine), 0);
      assert.match(await machine.output('lbd version'), /0\.1\.0/);
    });

    test('gets its access, its addresses and its start, and a Service has an address that answers', async (t) => {
      const startedAt = labTimeMs();
      const said = await reader.typeUntil('lbctl kubeconfig');
      assert.match(said, /\/etc\/lbd\/kubeconfig is written \(mode 0640, root:lbd\)/);
      const checked = await reader.typeUntil('lbd check');
      assert.match(checked, /\nno errors\n$/);
      assert.equal(constant(checked), constant(readmeTranscript('lbd check', substitutions)));
      await reader.typeUntil('systemctl enable --now lbd');
      t.diagnostic(`lbctl kubeconfig, lbd check and systemctl enable --now took ${seconds(startedAt)}`);
      t.diagnostic(
        `the unit was started and ready in ${await startedInMs(machine)} ms by the machine's clock`,
      );

      prober = await Prober.start(lab.client, { addresses: [VIP] });
      await reader.typeUntil('kubectl create service');
      const answer = await prober.firstAnswer(VIP, { timeoutMs: 180_000 });
      assert.equal(answer.mac, machine.mac);
      assert.match(await reader.typeUntil('kubectl get service'), /^web +LoadBalancer .* 10\.77\.0\.200 /m);
      assert.match(await reader.typeUntil('lbctl status'), /^default\/web +10\.77\.0\.200 +announced +eth0/m);
      assert.match(await reader.typeUntil('ip addr'), /inet 10\.77\.0\.200\/32 .* eth0\n/);
      assert.equal(await reader.typeUntil('curl'), `${machine.name}\n`);
      assert.deepEqual(reader.left, []);
    });

    test('that is killed is back at once, and its addresses were never gone', async (t) => {
      const deleted = await watchAddresses(machine);
      const before = await mainPid(machine);
      const killedAt = labTimeMs();
      const upAt = Number(await machine.output('systemctl kill -s KILL lbd; cut -d " " -f 1 /proc/uptime'));
      await readyAgain(machine, before);
      const tookMs = (await unitTimeMs(machine, 'ActiveEnter')) - upAt * 1_000;
      const awayMs = labTimeMs() - killedAt;
      t.diagnostic(
        `killed and ready again in ${seconds(killedAt)}, by the machine's clock in ${Math.round(tookMs)} ms`,
      );
      const gapMs = Math.round(
        prober.longestGap(VIP, { fromMs: killedAt, toMs: labTimeMs() })?.ms ?? Number.POSITIVE_INFINITY,
      );
      t.diagnostic(`longest time without an answer: ${gapMs} ms`);
      // By the same clock, as slow as the machine may be: 0.04 of 6.5 s were seen.
      assert.ok(gapMs < awayMs / 2, `nobody answered for ${gapMs} of ${Math.round(awayMs)} ms`);
      assert.deepEqual(await deleted(), []);
      assert.deepEqual(prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
      await journalHas(machine, /"how":"adopted".*address\.held/);
      // By the tag in the kernel, which an `ip` of 2022 does not show.
      if (suite === 'trixie')
        assert.match(await machine.output(`ip -o addr show dev eth0 to ${VIP}`), / proto 0x6c /);
      await machine.run('systemctl stop watch-addresses');
    });

    if (extent === 'long') {
      test('that is rebooted serves again, and has a virtual address as well', async (t) => {
        const rebootedAt = labTimeMs();
        await machine.reboot();
        await holds(machine, VIP);
        t.diagnostic(`held ${seconds(rebootedAt)} after systemctl reboot`);
        const answer = await prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
        assert.equal(answer.mac, machine.mac);
        await serveRouted(lab, machine);
      });
    }

    test('that is purged leaves nothing', async (t) => {
      const startedAt = labTimeMs();
      await machine.run('apt-get purge -y lbd', { timeoutMs: TYPE_TIMEOUT_MS });
      t.diagnostic(`apt purge took ${seconds(startedAt)}`);
      await holds(machine, VIP, false, 1_000);
      await holds(machine, ROUTED.ip, false, 1_000);
      await machine.run('rm /etc/apt/sources.list.d/lbd.list /usr/share/keyrings/lbd.gpg');
      assert.deepEqual(changesSince(untouched, await survey(machine)), { added: [], gone: [] });
    });
  });
}

/** From the beginning of the unit's last start until READY=1. */
async function startedInMs(machine: Machine): Promise<number> {
  return Math.round((await unitTimeMs(machine, 'ActiveEnter')) - (await unitTimeMs(machine, 'InactiveExit')));
}

/** When the unit last changed in this way, in ms since the boot. */
async function unitTimeMs(machine: Machine, change: 'ActiveEnter' | 'InactiveExit'): Promise<number> {
  const us = await machine.output(`systemctl show --property ${change}TimestampMonotonic --value lbd`);
  return Number(us) / 1_000;
}

function constant(transcript: string): string {
  return VARIABLE.reduce((text, variable) => text.replaceAll(variable, '…'), transcript);
}

/** The repository is served as the README asks for it, by a web server of the lab. */
async function type(lab: MachineLab, { place, text }: Command): Promise<RunResult> {
  switch (place) {
    case 'repository': {
      const { directory, result } = await makeRepositoryAsTyped(text);
      await serveRepository(lab.lab, { directory });
      // Which the packing has left behind; apt refuses a signature from its future.
      await lab.machine().setClock();
      return result;
    }
    case 'host':
      return lab.machine().run(text, { timeoutMs: TYPE_TIMEOUT_MS });
    case 'kubectl':
      return lab.lab.apiServer.host.run(['bash', '-c', text], { env: { KUBECONFIG: ADMIN_KUBECONFIG } });
    case 'client':
      return lab.client.run(['bash', '-c', text]);
    default:
      throw new Error(`no place ${place satisfies never}`);
  }
}
