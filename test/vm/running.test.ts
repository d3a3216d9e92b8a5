import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import type { Machine } from './support/machine.ts';
import { buildRepository, INSTALL_COMMANDS, type Repository, serveRepository } from './support/package.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { Session, Traffic } from './support/session.ts';
import { CONFIG, holds, journalHas, mainPid, readyAgain, seconds, VIP } from './support/story.ts';

const REMOVED = new RegExp(`^removed ${VIP}/32 from eth0$`, 'm');

/** What happens to a machine whose lbd holds an address, and what must not happen to the address. */
describe('lbd that holds an address', { skip: SKIP_LONG }, () => {
  let session: Session;
  let machine: Machine;
  let next: Repository;

  before(async () => {
    session = await Session.start();
    machine = session.machine;
    next = await buildRepository('0.1.1');
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

  test('and is stopped leaves no address', async (t) => {
    const stoppedAt = labTimeMs();
    await machine.run('systemctl stop lbd');
    t.diagnostic(`systemctl stop took ${seconds(stoppedAt)}`);
    await holds(machine, VIP, false, 1_000);
  });

  test('and is stopped in a crash loop leaves no address', async () => {
    await holdForEver();
    await machine.writeFile('/etc/lbd.toml', '[nonsense');
    await machine.run('systemctl restart lbd', { mayFail: true });
    await machine.waitFor('systemctl show --property NRestarts --value lbd', {
      describe: 'a restart by systemd',
      predicate: (text) => Number(text) >= 1,
    });
    await session.neverGone();
    await machine.run('systemctl stop lbd');
    await holds(machine, VIP, false);
    assert.match(await machine.output('systemctl show --property ActiveState lbd'), /inactive|failed/);
  });

  test('and is stopped between a crash and its restart leaves no address', async (t) => {
    await holdForEver();
    const slow = '/run/systemd/system/lbd.service.d';
    await machine.run(
      `mkdir -p ${slow}; printf '[Service]\nRestartSec=60s\n' >${slow}/slow.conf; systemctl daemon-reload`,
    );
    try {
      await machine.run('systemctl kill -s KILL lbd');
      await machine.waitFor('systemctl show --property SubState lbd', {
        describe: 'the pause before the restart',
        predicate: (text) => /auto-restart/.test(text),
      });
      await session.neverGone();
      const stoppedAt = labTimeMs();
      await machine.run('systemctl stop lbd');
      await holds(machine, VIP, false);
      t.diagnostic(`taken off ${seconds(stoppedAt)} after systemctl stop`);
      assert.match(await machine.journal('lbd-cleanup'), REMOVED);
    } finally {
      await machine.run(`rm -r ${slow}; systemctl daemon-reload`);
    }
  });

  /** So that whatever takes the address off, it is not the kernel, at the end of a lifetime. */
  async function holdForEver(): Promise<void> {
    await machine.writeFile('/etc/lbd.toml', `${CONFIG}\n[local]\nlifetime = 0\n`);
    await machine.run('systemctl reload lbd');
    await machine.waitFor(`ip -o addr show dev eth0 to ${VIP}`, {
      describe: 'an address that the kernel does not end',
      predicate: (text) => /valid_lft forever/.test(text),
    });
  }

  test('and whose clock is stepped by a day keeps renewing it', async () => {
    for (const step of ['+1 day', '-2 days', '+1 day']) {
      await machine.run(`date --set "$(date --date='${step}' --rfc-3339=ns)"`);
      await machine.waitFor(`ip -o addr show dev eth0 to ${VIP}`, {
        describe: 'a renewed lifetime',
        predicate: (text) => /valid_lft (2[6-9]|30)sec/.test(text),
      });
    }
    await session.neverGone();
  });

  test('and is restarted with a full disk keeps it, and is stopped there as well', async () => {
    const pid = await mainPid(machine);
    await machine.run('fallocate -l 4G /full; cat /dev/zero >/fuller; cat /dev/zero >/fullest', {
      mayFail: true,
      timeoutMs: 180_000,
    });
    try {
      assert.match(await machine.output('df --output=avail / | tail -1'), /^\s*0$/);
      await machine.run('systemctl restart lbd');
      await readyAgain(machine, pid);
      await announced(machine);
      await session.neverGone();
      await machine.run('systemctl stop lbd');
      await holds(machine, VIP, false, 1_000);
    } finally {
      await machine.run('rm -f /full /fuller /fullest');
    }
  });

  test('and is restarted on a read-only root keeps it, says what it cannot write, and is stopped there as well', async () => {
    const pid = await mainPid(machine);
    // As the kernel does it after an error of the disk.
    await machine.run(
      'echo u >/proc/sysrq-trigger; until grep -q " / ext4 ro" /proc/mounts; do sleep 0.1; done',
    );
    try {
      await machine.run('systemctl restart lbd');
      await readyAgain(machine, pid);
      await announced(machine);
      await machine.waitFor('lbctl status', {
        describe: 'a warning of the file that cannot be written',
        predicate: (text) => /WARNING +cannot write \/var\/lib\/lbd\/services\.json: EROFS/.test(text),
      });
      await session.neverGone();
      await machine.run('systemctl stop lbd');
      await holds(machine, VIP, false, 1_000);
    } finally {
      await machine.run('mount -o remount,rw /');
    }
  });

  test('is upgraded by apt under traffic without a lost request', async (t) => {
    const stopServing = await serveRepository(session.lab.lab, next);
    const traffic = await Traffic.start(session);
    assert.equal(await installedVersion(machine), '0.1.0');
    const pid = await mainPid(machine);
    const startedAt = labTimeMs();
    await machine.type(INSTALL_COMMANDS, { timeoutMs: 300_000 });
    await readyAgain(machine, pid);
    t.diagnostic(`apt update and apt install took ${seconds(startedAt)}`);
    const { answered, slowestMs, lost } = await traffic.stop();
    await stopServing();
    assert.equal(await installedVersion(machine), '0.1.1');
    assert.deepEqual(lost, []);
    t.diagnostic(`${answered} requests, the slowest ${slowestMs} ms`);
    t.diagnostic(`longest time without an ARP answer: ${await session.neverGone()} ms`);
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
      // The shutdown took it off; it did not just vanish with the machine.
      const journal = await machine.output('journalctl --no-pager -o cat -b -1 -u lbd -u lbd-cleanup');
      const shutdown = journal.slice(journal.lastIndexOf('Stopping lbd.service'));
      assert.match(shutdown, REMOVED);
      assert.doesNotMatch(shutdown, /cannot ask systemd|Failed to/);
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

  test('and is removed takes it off, keeps the configuration, and serves again when it is back', async (t) => {
    const startedAt = labTimeMs();
    await machine.run('apt-get remove -y lbd', { timeoutMs: 300_000 });
    t.diagnostic(`apt-get remove took ${seconds(startedAt)}`);
    await holds(machine, VIP, false, 1_000);
    assert.equal(await machine.output('cat /etc/lbd.toml'), CONFIG.trimEnd());
    assert.equal(await machine.output('cat /proc/sys/net/ipv4/conf/eth0/arp_ignore'), '0');
    const stopServing = await serveRepository(session.lab.lab, next);
    await machine.type(INSTALL_COMMANDS, { timeoutMs: 300_000 });
    await stopServing();
    await holds(machine, VIP);
  });
});

async function announced(machine: Machine): Promise<void> {
  await machine.waitFor('lbctl status', {
    describe: 'the Service announced',
    predicate: (text) => /default\/web +10\.77\.0\.200 +announced/.test(text),
  });
}

function installedVersion(machine: Machine): Promise<string> {
  return machine.output(`dpkg-query --show --showformat '\${Version}' lbd`);
}
