import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import type { Machine } from './support/machine.ts';
import { buildRepository, INSTALL_COMMANDS, serveRepository } from './support/package.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { Session, Traffic } from './support/session.ts';
import { CONFIG, holds, journalHas, mainPid, readyAgain, seconds, VIP } from './support/story.ts';

/** What happens to a machine whose lbd holds an address, and what must not happen to the address. */
describe('lbd that holds an address', { skip: SKIP_LONG }, () => {
  let session: Session;
  let machine: Machine;

  before(async () => {
    session = await Session.start();
    machine = session.machine;
  });
  beforeEach(() => session.mark());
  afterEach(() => session.restore());
  after(() => session?.close());

  test('and is restarted keeps it', async (t) => {
    const pid = await mainPid(machine);
    await machine.run('systemctl restart lbd');
    await readyAgain(machine, pid);
    t.diagnostic(`longest time without an answer: ${await session.neverGone()} ms`);
  });

  test('and hangs is replaced by the watchdog before the address ends', async (t) => {
    const pid = await mainPid(machine);
    const stoppedAt = labTimeMs();
    await machine.run(`kill -STOP ${pid}`);
    await readyAgain(machine, pid, 120_000);
    t.diagnostic(`replaced after ${seconds(stoppedAt)}`);
    t.diagnostic(`longest time without an answer: ${await session.neverGone()} ms`);
  });

  test('refuses a bad configuration whole, says why, and goes on', async () => {
    await machine.writeFile('/etc/lbd.toml', `${CONFIG}\n[log]\nlevel = "loud"\n`);
    const pid = await mainPid(machine);
    const { code } = await machine.run('systemctl reload lbd', { mayFail: true });
    assert.notEqual(code, 0, 'the reload says that it failed');
    await journalHas(machine, /lbd\.toml:6.*log\.level.*"loud"/);
    assert.match(await machine.output('lbctl status'), /default\/web +10\.77\.0\.200 +announced/);
    assert.equal(await mainPid(machine), pid);
    await session.neverGone();
    await machine.writeFile('/etc/lbd.toml', CONFIG);
    await machine.run('systemctl reload lbd');
  });

  test('and is stopped leaves no address, and the stop of a crash loop neither', async (t) => {
    const stoppedAt = labTimeMs();
    await machine.run('systemctl stop lbd');
    await holds(machine, VIP, false, 1_000);
    t.diagnostic(`systemctl stop took ${seconds(stoppedAt)}`);
    await session.restore();
    await machine.writeFile('/etc/lbd.toml', '[nonsense');
    await machine.run('systemctl restart lbd', { mayFail: true });
    await machine.waitFor('systemctl show --property NRestarts --value lbd', {
      describe: 'three restarts',
      predicate: (text) => Number(text) >= 3,
      timeoutMs: 120_000,
    });
    await machine.run('systemctl stop lbd');
    await holds(machine, VIP, false, 1_000);
    assert.match(await machine.output('systemctl show --property ActiveState lbd'), /inactive|failed/);
  });

  test('and whose clock is stepped by a day keeps renewing it', async () => {
    for (const step of ['+1 day', '-2 days', '+1 day']) {
      await machine.run(`date --set "$(date --date='${step}' --rfc-3339=ns)"`);
      await machine.waitFor(`ip -o addr show dev eth0 to ${VIP}`, {
        describe: 'a renewed lifetime',
        predicate: (text) => /valid_lft (2[6-9]|30)sec/.test(text),
        timeoutMs: 30_000,
      });
    }
    await session.neverGone();
  });

  test('and is restarted with a full disk keeps it', async () => {
    const pid = await mainPid(machine);
    await machine.run(
      'fallocate -l 4G /full 2>/dev/null; cat /dev/zero >/fuller 2>/dev/null; cat /dev/zero >/fullest',
      {
        mayFail: true,
        timeoutMs: 180_000,
      },
    );
    try {
      assert.match(await machine.output('df --output=avail / | tail -1'), /^\s*0$/);
      await machine.run('systemctl restart lbd');
      await readyAgain(machine, pid);
      await machine.waitFor('lbctl status', {
        describe: 'the Service announced',
        predicate: (text) => /default\/web +10\.77\.0\.200 +announced/.test(text),
      });
      await session.neverGone();
    } finally {
      await machine.run('rm -f /full /fuller /fullest');
    }
  });

  test('and is restarted on a read-only root keeps it', async () => {
    const pid = await mainPid(machine);
    // As the kernel does it after an error of the disk.
    await machine.run(
      'echo u >/proc/sysrq-trigger; until grep -q " / ext4 ro" /proc/mounts; do sleep 0.1; done',
    );
    try {
      await machine.run('systemctl restart lbd');
      await readyAgain(machine, pid);
      await machine.waitFor('lbctl status', {
        describe: 'the Service announced',
        predicate: (text) => /default\/web +10\.77\.0\.200 +announced/.test(text),
      });
      await session.neverGone();
    } finally {
      await machine.run('mount -o remount,rw /');
    }
  });

  test('is upgraded by apt under traffic without a lost request', async (t) => {
    const next = await buildRepository('0.1.1');
    const stopServing = await serveRepository(session.lab.lab, next);
    const traffic = await Traffic.start(session);
    const pid = await mainPid(machine);
    await machine.type(INSTALL_COMMANDS, { timeoutMs: 300_000 });
    await readyAgain(machine, pid);
    const { answered, lost } = await traffic.stop();
    await stopServing();
    assert.match(await machine.output('lbd version'), /0\.1\.1/);
    assert.deepEqual(lost, []);
    t.diagnostic(`${answered} requests; longest time without an ARP answer: ${await session.neverGone()} ms`);
  });

  test('has it again after a reboot, also while the API server is away', async (t) => {
    const { lab } = session.lab;
    await lab.segment().disconnect(lab.host('server'));
    try {
      const rebootedAt = labTimeMs();
      await machine.reboot();
      await holds(machine, VIP);
      t.diagnostic(`held ${seconds(rebootedAt)} after systemctl reboot`);
      const answer = await session.prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
      assert.equal(answer.mac, machine.mac);
    } finally {
      await lab.segment().connect(lab.host('server'));
    }
  });

  test('has it again after a power cut', async (t) => {
    await machine.powerCut();
    const cutAt = labTimeMs();
    await machine.powerOn();
    await holds(machine, VIP);
    t.diagnostic(`held ${seconds(cutAt)} after power came back`);
    await session.prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
  });

  test('and is removed takes it off, keeps the configuration, and serves again when it is back', async () => {
    await machine.run('apt-get remove -y lbd', { timeoutMs: 300_000 });
    await holds(machine, VIP, false, 1_000);
    assert.equal(await machine.output('cat /etc/lbd.toml'), CONFIG.trimEnd());
    assert.equal(await machine.output('cat /proc/sys/net/ipv4/conf/eth0/arp_ignore'), '0');
    const stopServing = await serveRepository(session.lab.lab, session.repository);
    await machine.type(INSTALL_COMMANDS, { timeoutMs: 300_000 });
    await stopServing();
    await holds(machine, VIP);
  });
});
