import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import type { Machine } from './support/machine.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { Session } from './support/session.ts';
import {
  CONFIG,
  holds,
  journalHas,
  mainPid,
  ROUTED,
  readyAgain,
  seconds,
  serveRouted,
  VIP,
} from './support/story.ts';

/** WatchdogSec= of the unit, and how much later systemd may see to it on a processor that it has to wait for. */
const WATCHDOG_MS = 10_000;
const BUSY_MS = 2_500;

/** DefaultStartLimitBurst= and DefaultStartLimitIntervalSec= of systemd: so many starts within so long, and then none. */
const START_LIMIT = { burst: 5, intervalMs: 10_000 } as const;
const CRASHES = START_LIMIT.burst + 2;

const REMOVED = new RegExp(`^removed ${VIP}/32 from eth0$`, 'm');

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

  test('is the user lbd with three capabilities, comes before others on a starving host, and is asked without root by its group', async () => {
    const pid = await mainPid(machine);
    const status = await machine.output(
      `cat /proc/${pid}/status; echo "user $(ps -o user= ${pid})"; echo "oom $(cat /proc/${pid}/oom_score_adj)"
      cd "/sys/fs/cgroup$(cut -d: -f3 /proc/${pid}/cgroup)"; echo "cpu $(cat cpu.weight)"; systemctl show --property IOWeight lbd`,
    );
    // CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12, CAP_NET_RAW 13 (linux/capability.h).
    for (const set of ['Eff', 'Prm', 'Amb', 'Bnd'])
      assert.match(status, new RegExp(`^Cap${set}:\\s+0{12}3400$`, 'm'));
    assert.match(status, /^NoNewPrivs:\s+1$/m);
    for (const line of ['user lbd', 'oom -900', 'cpu 1000', 'IOWeight=1000'])
      assert.ok(status.split('\n').includes(line), `${line}:\n${status}`);
    const nobody = 'setpriv --reuid 65534 --regid 65534';
    await machine.waitFor(`${nobody} --groups "$(getent group lbd | cut -d: -f3)" lbctl status`, {
      describe: 'an answer for a member of the group',
      predicate: (text) => /default\/web +10\.77\.0\.200 +announced/.test(text),
    });
    const refused = await machine.run(`${nobody} --clear-groups lbctl status`, { mayFail: true });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /no access to .*usermod -aG lbd/);
  });

  test('and is restarted keeps it', async (t) => {
    const pid = await mainPid(machine);
    await machine.run('systemctl restart lbd');
    await readyAgain(machine, pid);
    t.diagnostic(`longest time without an answer: ${await session.neverGone()} ms`);
  });

  test('and hangs is killed by the watchdog after a third of the lifetime, and replaced before the address ends', async (t) => {
    const pid = await mainPid(machine);
    const stoppedAt = Number(await machine.output(`kill -STOP ${pid}; cut -d ' ' -f 1 /proc/uptime`));
    await readyAgain(machine, pid);
    const noticed = await machine.output(
      "journalctl --no-pager -o short-monotonic -b -u lbd | grep -F 'Watchdog timeout (limit 10s)' | tail -1",
    );
    const killedAt = Number(/^\[ *([\d.]+)\]/.exec(noticed)?.[1]);
    const hungMs = Math.round((killedAt - stoppedAt) * 1_000);
    t.diagnostic(`killed by the watchdog ${hungMs} ms after it was stopped, by the machine's own clock`);
    assert.ok(hungMs > 0 && hungMs <= WATCHDOG_MS + BUSY_MS, `killed after ${hungMs} ms`);
    t.diagnostic(`longest time without an answer: ${await session.neverGone()} ms`);
  });

  test('refuses a bad configuration whole, says why, and goes on', async () => {
    await machine.writeFile('/etc/lbd.toml', `${CONFIG}\n[log]\nlevel = "loud"\n`);
    const pid = await mainPid(machine);
    const { code } = await machine.run('systemctl reload lbd', { mayFail: true });
    assert.notEqual(code, 0, 'the reload says that it failed');
    await journalHas(machine, /lbd\.toml:6.*log\.level.*"loud"/);
    await announced(machine);
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

  test('and crashes more often than systemd allows by default is started again each time, and keeps it', async (t) => {
    const before = await restarts();
    const [from, to, last] = (await machine.output(killAsSoonAsItRuns(CRASHES))).split(' ');
    const tookMs = Math.round((Number(to) - Number(from)) * 1_000);
    t.diagnostic(`${CRASHES} crashes within ${tookMs} ms by the machine's own clock`);
    assert.ok(tookMs < START_LIMIT.intervalMs, `${CRASHES} crashes took ${tookMs} ms`);
    await readyAgain(machine, Number(last));
    assert.ok((await restarts()) >= before + CRASHES);
    await announced(machine);
    t.diagnostic(`longest time without an answer: ${await session.neverGone()} ms`);
  });

  async function restarts(): Promise<number> {
    return Number(await machine.output('systemctl show --property NRestarts --value lbd'));
  }

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

  test('and a virtual one has that on kube-lb0, a real dummy, keeps both in a restart, and leaves neither at a stop', async () => {
    const { lab, client } = session.lab;
    await serveRouted(session.lab, machine);
    try {
      const onDummy = new RegExp(`^\\d+: kube-lb0 +inet ${ROUTED.ip}/32 .*valid_lft forever`, 'm');
      assert.match(await machine.output('ip -o addr show dev kube-lb0'), onDummy);
      assert.match(await machine.output('ls -d /sys/module/dummy'), /dummy/);
      await client.run(['ip', 'route', 'replace', ROUTED.prefix, 'via', machine.ip]);
      const { stdout: page } = await client.run(['curl', '-sf', '--max-time', '10', `http://${ROUTED.ip}/`]);
      assert.equal(page, `${machine.name}\n`);

      const link = await machine.output('cat /sys/class/net/kube-lb0/ifindex');
      const pid = await mainPid(machine);
      await machine.run('systemctl restart lbd');
      await readyAgain(machine, pid);
      assert.equal(await machine.output('cat /sys/class/net/kube-lb0/ifindex'), link);
      assert.match(await machine.output('ip -o addr show dev kube-lb0'), onDummy);
      const changes = await machine.output('cat /run/watched');
      assert.doesNotMatch(changes, new RegExp(`^Deleted .* ${ROUTED.ip}/`, 'm'));

      await machine.run('systemctl stop lbd');
      await holds(machine, ROUTED.ip, false, 1_000);
      assert.equal(await machine.output('ip -br link show type dummy'), '');
    } finally {
      await lab.api.deleteService('routed');
      await machine.run('rm -r /etc/lbd.d');
      await client.run(['ip', 'route', 'flush', ROUTED.prefix], { mayFail: true });
    }
  });

  test('and whose clock is stepped by a day keeps renewing it', async () => {
    const renewals = `awk '!/^Deleted/ && / ${VIP}\\// { count++ } END { print +count }' /run/watched`;
    for (const step of ['+1 day', '-2 days']) {
      const before = await machine.output(
        `date --set "$(date --date='${step}' --rfc-3339=ns)" >&2 && ${renewals}`,
      );
      await machine.waitFor(renewals, {
        describe: `a renewal after ${before} before`,
        predicate: (text) => Number(text) > Number(before),
      });
    }
    await machine.run(`date --set "$(date --date='+1 day' --rfc-3339=ns)"`);
    await session.neverGone();
  });

  test('and is restarted with a full disk keeps it, loses no state without a word, and is stopped there as well', async () => {
    const pid = await mainPid(machine);
    await machine.run('fallocate -l 4G /full; cat /dev/zero >/fuller; cat /dev/zero >/fullest', {
      mayFail: true,
      timeoutMs: 180_000,
    });
    try {
      assert.match(await machine.output('df --output=avail / | tail -1'), /^\s*0$/);
      await machine.run('touch /run/restarted; systemctl restart lbd');
      await readyAgain(machine, pid);
      await announced(machine);
      // The journal may give up old files of its own for new ones, and so leave room for those of lbd.
      await machine.waitFor('lbctl status; find /var/lib/lbd -newer /run/restarted', {
        describe: 'a warning of the file that cannot be written, or the file',
        predicate: (text) =>
          /WARNING +cannot write \/var\/lib\/lbd\/services\.json: .*ENOSPC/.test(text) ||
          /^\/var\/lib\/lbd\/services\.json$/m.test(text),
      });
      await session.neverGone();
      await machine.run('systemctl stop lbd');
      await holds(machine, VIP, false, 1_000);
    } finally {
      await machine.run('rm -f /full /fuller /fullest /run/restarted');
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
      // No address of this configuration is virtual: it is there because modules-load.d says so.
      const loaded = await machine.output('journalctl --no-pager -o cat -b -u systemd-modules-load; lsmod');
      assert.match(loaded, /^dummy /m);
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
});

/** Kills so many daemons one after the other; prints the uptime before and after, and the pid of the last. */
function killAsSoonAsItRuns(times: number): string {
  return `last=0
    from=$(cut -d ' ' -f 1 /proc/uptime)
    for _ in $(seq ${times}); do
      until pid=$(systemctl show --property MainPID --value lbd); [ "$pid" != 0 ] && [ "$pid" != "$last" ]; do :; done
      kill -KILL "$pid"
      last=$pid
    done
    echo "$from $(cut -d ' ' -f 1 /proc/uptime) $last"`;
}

async function announced(machine: Machine): Promise<void> {
  await machine.waitFor('lbctl status', {
    describe: 'the Service announced',
    predicate: (text) => /default\/web +10\.77\.0\.200 +announced/.test(text),
  });
}
