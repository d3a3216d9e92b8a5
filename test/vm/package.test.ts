import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import type { Machine } from './support/machine.ts';
import { MachineLab } from './support/machine-lab.ts';
import {
  buildOlderRepository,
  buildRepository,
  INSTALL_COMMANDS,
  OLDER,
  olderObstacle,
  type Repository,
  serveRepository,
} from './support/package.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { Session, Traffic } from './support/session.ts';
import {
  CONFIG,
  changesSince,
  holds,
  holdsBoth,
  mainPid,
  ROUTED,
  readyAgain,
  seconds,
  serveRouted,
  survey,
  VIP,
} from './support/story.ts';

const NO_OLDER = SKIP_LONG || olderObstacle();
const APT_TIMEOUT_MS = 300_000;

/** What a removed package leaves: what the administrator wrote, what lbd learned, whose that is, and dpkg's record of it. */
const KEPT = [
  /^(file \S+ \S+|content \w+) +\/etc\/lbd(\.toml|\.toml\.dpkg-dist|\.d|\.d\/routed\.toml|\/kubeconfig)?$/,
  /^file \S+ \S+ \/var\/lib\/lbd(\/[a-z]+\.json)?$/,
  /^file \S+ \S+ \/etc\/systemd\/system\/multi-user\.target\.wants\/lbd\.service$/,
  /^file \S+ \S+ \/var\/lib\/systemd\/deb-systemd-helper-enabled(\/.*)?$/,
  /^(passwd|shadow|group|gshadow) lbd:/,
  /^package lbd deinstall ok config-files$/,
  // Enabled it stays, as with any package of Debian, and so systemd has its name.
  /^unit lbd\.service +not-found /,
];

/** The package of an earlier day, with its state and a configuration of the administrator's, on its way to the end. */
describe('the package', { skip: SKIP_LONG }, () => {
  let session: Session;
  let machine: Machine;
  let current: Repository;
  let untouched: ReadonlySet<string>;

  before(async () => {
    current = await buildRepository('0.1.0');
    const first = NO_OLDER === false ? await buildOlderRepository() : current;
    const lab = await MachineLab.start();
    try {
      machine = lab.machine();
      untouched = await survey(machine);
      const stopServing = await serveRepository(lab.lab, first);
      await machine.type(INSTALL_COMMANDS, { timeoutMs: APT_TIMEOUT_MS });
      await stopServing();
      session = await Session.begin(lab);
    } catch (error) {
      await lab.close();
      throw error;
    }
  });
  beforeEach(() => session.mark());
  after(() => session?.lab.close());

  /** The commands of the README, from the repository with today's package; `answer` is what a question of dpkg gets. */
  async function install(answer = ''): Promise<void> {
    const stopServing = await serveRepository(session.lab.lab, current);
    // Either repository may have been signed first, and apt takes nothing that is older than what it has.
    await machine.run('rm -rf /var/lib/apt/lists/lab-server*');
    const commands = INSTALL_COMMANDS.map((command) =>
      command === 'apt install lbd' ? `${command} <<<'${answer}'` : command,
    );
    await machine.type(commands, { timeoutMs: APT_TIMEOUT_MS });
    await stopServing();
  }

  /** The machine as it is now, without what the README had the administrator write for apt. */
  async function surveyed(): Promise<ReadonlySet<string>> {
    await machine.run('rm /etc/apt/sources.list.d/lbd.list /usr/share/keyrings/lbd.gpg');
    return survey(machine);
  }

  test('is upgraded from an older build under traffic without a lost request, and goes on with its state while the API server is away', {
    skip: NO_OLDER,
  }, async (t) => {
    assert.match(await machine.output('lbd version'), new RegExp(OLDER.commit.slice(0, 12)));
    assert.equal(await installedVersion(), OLDER.version);
    await machine.waitFor('cat /var/lib/lbd/services.json', {
      describe: 'the Service among those that the older lbd remembers',
      predicate: (text) => text.includes(VIP),
    });
    const { lab } = session.lab;
    const away = await lab.segment().drop({ from: lab.host('server'), match: 'tcp sport 6443' });
    const traffic = await Traffic.start(session);
    const pid = await mainPid(machine);
    const startedAt = labTimeMs();
    // dpkg asks about /etc/lbd.toml, which is another in both packages and was edited: Enter keeps it.
    await install();
    await readyAgain(machine, pid);
    t.diagnostic(`apt update and apt install took ${seconds(startedAt)}`);
    await machine.waitFor('lbctl status', {
      describe: 'the Service announced, without an API server',
      predicate: (text) =>
        /default\/web +10\.77\.0\.200 +announced/.test(text) && !/API server .* reachable,/.test(text),
    });
    const { answered, slowestMs, lost } = await traffic.stop();
    t.diagnostic(`${answered} requests, the slowest ${slowestMs} ms`);
    t.diagnostic(`longest time without an ARP answer: ${await session.neverGone()} ms`);
    await away.remove();
    assert.deepEqual(lost, []);
    assert.equal(await installedVersion(), '0.1.0');
    assert.doesNotMatch(await machine.output('lbd version'), new RegExp(OLDER.commit.slice(0, 12)));
    assert.equal(await machine.output('cat /etc/lbd.toml'), CONFIG.trimEnd());
    await machine.run('test -s /etc/lbd.toml.dpkg-dist');
  });

  test('is removed with a local and a virtual address in use and leaves the configuration and the state, and serves both again when it is back', async (t) => {
    await serveRouted(session.lab, machine);
    const startedAt = labTimeMs();
    await machine.run('apt-get remove -y lbd', { timeoutMs: APT_TIMEOUT_MS });
    t.diagnostic(`apt-get remove took ${seconds(startedAt)}`);
    await holds(machine, VIP, false, 1_000);
    await holds(machine, ROUTED.ip, false, 1_000);
    const { added, gone } = changesSince(untouched, await surveyed());
    assert.deepEqual(gone, []);
    assert.deepEqual(
      added.filter((line) => !KEPT.some((kept) => kept.test(line))),
      [],
    );
    assert.equal(await machine.output('cat /etc/lbd.toml'), CONFIG.trimEnd());
    await install();
    await holdsBoth(machine);
  });

  test('is purged with a local and a virtual address in use and leaves nothing', async (t) => {
    const startedAt = labTimeMs();
    await machine.run('apt-get purge -y lbd', { timeoutMs: APT_TIMEOUT_MS });
    t.diagnostic(`apt-get purge took ${seconds(startedAt)}`);
    await holds(machine, VIP, false, 1_000);
    await holds(machine, ROUTED.ip, false, 1_000);
    assert.deepEqual(changesSince(untouched, await surveyed()), { added: [], gone: [] });
  });

  function installedVersion(): Promise<string> {
    return machine.output(`dpkg-query --show --showformat '\${Version}' lbd`);
  }
});
