import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { labTimeMs } from '../../support/lab-time.ts';
import { Prober } from '../../support/prober.ts';
import type { Suite } from './image.ts';
import type { Machine } from './machine.ts';
import { MachineLab } from './machine-lab.ts';
import { buildRepository, INSTALL_COMMANDS, serveRepository } from './package.ts';
import {
  configure,
  documentedCommands,
  fetchFrom,
  holds,
  mainPid,
  readyAgain,
  seconds,
  serve,
  startWebServer,
  survey,
  VIP,
  watchAddresses,
} from './story.ts';

/**
 * The life of lbd on one machine, from the commands of the documentation to its purge, as tests that go on from one to
 * the next.
 */
export function lifeOfLbd(suite: Suite, skip: string | false): void {
  describe(`lbd on a machine with ${suite}`, { skip }, () => {
    let lab: MachineLab;
    let machine: Machine;
    let prober: Prober;
    let untouched: ReadonlySet<string>;

    before(async () => {
      const [started, repository] = await Promise.all([
        MachineLab.start({ suite }),
        buildRepository('0.1.0'),
      ]);
      lab = started;
      machine = lab.machine();
      await serveRepository(lab.lab, repository);
      untouched = await survey(machine);
    });
    after(() => lab?.close());

    test('is installed by apt, starts nothing without a configuration, and says what to do', async (t) => {
      const startedAt = labTimeMs();
      const results = await machine.type(INSTALL_COMMANDS, { timeoutMs: 300_000 });
      t.diagnostic(`apt install took ${seconds(startedAt)}`);
      assert.match(results.at(-1)?.stdout ?? '', /systemctl enable --now lbd/);
      assert.equal(await mainPid(machine), 0);
      assert.match(await machine.output('lbd version'), /0\.1\.0/);
    });

    test('starts with systemctl enable --now, and gives a Service an address that answers', async (t) => {
      await configure(lab, machine);
      await startWebServer(machine);
      const commands = documentedCommands('systemctl enable --now lbd');
      const startedAt = labTimeMs();
      for (const command of commands.filter((line) => /^(lbd check|systemctl)/.test(line)))
        await machine.run(command);
      t.diagnostic(`lbd check and systemctl enable --now took ${seconds(startedAt)}`);
      prober = await Prober.start(lab.client, { addresses: [VIP] });
      assert.equal(await serve(lab), VIP);
      const answer = await prober.firstAnswer(VIP, { timeoutMs: 60_000 });
      assert.equal(answer.mac, machine.mac);
      assert.equal(await fetchFrom(lab.client, VIP), machine.name);
      assert.match(await machine.output('lbctl status'), /default\/web +10\.77\.0\.200 +announced +eth0/);
      assert.match(await machine.output('ip addr show dev eth0'), /inet 10\.77\.0\.200\/32/);
    });

    test('that is killed is back at once, and its addresses were never gone', async (t) => {
      const deleted = await watchAddresses(machine);
      const before = await mainPid(machine);
      const killedAt = labTimeMs();
      await machine.run('systemctl kill -s KILL lbd');
      await readyAgain(machine, before);
      t.diagnostic(`killed and ready again in ${seconds(killedAt)}`);
      const gap = prober.longestGap(VIP, { fromMs: killedAt, toMs: labTimeMs() });
      t.diagnostic(`longest time without an answer: ${Math.round(gap?.ms ?? -1)} ms`);
      assert.deepEqual(await deleted(), []);
      assert.deepEqual(prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
      await machine.run('systemctl stop watch-addresses');
    });

    test('that is purged leaves nothing', async (t) => {
      const startedAt = labTimeMs();
      await machine.run('apt-get purge -y lbd', { timeoutMs: 300_000 });
      t.diagnostic(`apt purge took ${seconds(startedAt)}`);
      await holds(machine, VIP, false, 1_000);
      await machine.run(
        'systemctl stop web; rm -r /run/www /etc/apt/sources.list.d/lbd.list /usr/share/keyrings/lbd.gpg',
      );
      const left = await survey(machine);
      assert.deepEqual([...left.difference(untouched)], []);
      assert.deepEqual([...untouched.difference(left)], []);
    });
  });
}
