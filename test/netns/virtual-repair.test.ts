import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { LabHost } from '../support/lab-host.ts';
import { favoured, type LabProcess } from '../support/lab-process.ts';
import { held, inState, SKIP } from '../support/scenario.ts';
import {
  expectOnLink,
  LINK,
  READY,
  routesOverLink,
  TERMINATING,
  textsOnLink,
  VirtualLab,
} from '../support/virtual-lab.ts';
import { sleep, waitFor } from '../support/wait.ts';

const POOL = `[[pool]]
name = "default"
addresses = ["203.0.113.0/24", "fd55::/120"]
aggregate = { v4 = 24, v6 = 64 }
`;
const ALONE = '[[pool]]\nname = "alone"\naddresses = ["fd56::/120"]\nauto_assign = false\n';
const ROUNDS = 3;
const ROUTE_ROUNDS = 9;
const OTHERS_EVERY_MS = 10;
/** lbd repairs the same no more than three times a second. */
const BETWEEN_ROUNDS_MS = 350;
const REPAIR_BOUND_MS = 100;
const OTHER_MAC = 'given another MAC';

/** What happens to virtual addresses and to the host that has them, on real kernels. */
describe('virtual addresses', { skip: SKIP }, () => {
  let lab: VirtualLab;
  let h1: LabHost;
  let h2: LabHost;

  before(async () => {
    lab = await VirtualLab.start({ hosts: { h1: {}, h2: {} } });
    h1 = lab.host('h1');
    h2 = lab.host('h2');
  });
  afterEach(() => lab.reset());
  after(() => lab?.close());

  test('are back within 100 ms of the kernel’s word when their link is deleted, renamed or taken down', async (context) => {
    const lbd = await lab.startLbd(h1, POOL + ALONE);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await lab.serve('dns', ['203.0.113.2']);
    await lab.serve('alone', ['fd56::1']);
    const all = ['203.0.113.1/24', '203.0.113.2/24', 'fd55::1/64', 'fd56::1/128'];
    const routes = ['203.0.113.0/24', 'fd55::/64', 'fd56::1'];
    const isWhole = async () =>
      (await textsOnLink(h1)).join() === all.join() && (await routesOverLink(h1)).join() === routes.join();
    const isMarked = async () =>
      (await h1.run(['ip', 'link', 'show', LINK], { mayFail: true })).stdout.includes(' 02:6c:62:64:');
    await waitFor(isWhole, { describe: 'all addresses and routes' });
    // Its times are those of its reading, so it has to be as quick as lbd.
    const monitor = await h1.spawn(favoured(['ip', '-ts', '-o', 'monitor', 'link', 'address', 'route']));
    const faults: Readonly<Record<string, readonly string[]>> = {
      deleted: ['link', 'delete', LINK],
      renamed: ['link', 'set', LINK, 'name', 'lb-renamed'],
      down: ['link', 'set', LINK, 'down'],
      [OTHER_MAC]: ['link', 'set', LINK, 'address', '02:00:00:00:00:99'],
      'without its primary address': ['address', 'delete', '203.0.113.1/24', 'dev', LINK],
      'without the IPv4 route': ['route', 'delete', '203.0.113.0/24', 'dev', LINK],
      'without the IPv6 route': ['-6', 'route', 'delete', 'fd55::/64', 'dev', LINK],
      'without the route of an IPv6 address alone': ['-6', 'route', 'delete', 'fd56::1/128', 'dev', LINK],
    };
    for (const [what, args] of Object.entries(faults)) {
      const took: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const repairs = (await lbd.status()).virtual?.repairs ?? 0;
        const from = await quiet(monitor);
        await h1.run(['ip', ...args]);
        // Whole it is before the fault is noticed, too.
        await lbd.waitForStatus(({ virtual }) => (virtual?.repairs ?? 0) > repairs, { describe: `a repair` });
        await waitFor(async () => (await isMarked()) && (await isWhole()), {
          describe: `all to be back after the link was ${what}`,
        });
        const to = await quiet(monitor);
        const events = monitor.lines.slice(from, to).map(({ text }) => text);
        // A bridge that comes up tells of its missing carrier some time later.
        const isLate = (text: string) => what !== OTHER_MAC && text.includes(' mtu ');
        const [first, last] = [events[0], events.findLast((text) => !isLate(text))];
        took.push(timeOf(last) - timeOf(first));
        await sleep(BETWEEN_ROUNDS_MS);
      }
      const median = took.toSorted((left, right) => left - right)[Math.floor(ROUNDS / 2)] ?? Infinity;
      context.diagnostic(
        `${what}: first to last word of the kernel ${took.map((ms) => ms.toFixed(0)).join(', ')} ms`,
      );
      assert.ok(median <= REPAIR_BOUND_MS, `${what}: ${median} ms`);
    }
    const { stdout } = await h1.run(['ip', '-o', 'link']);
    assert.doesNotMatch(stdout, /lb-renamed|02:00:00:00:00:99/);
    await monitor.stop();
    for (const route of ['203.0.113.0/24', 'fd55::/64', 'fd56::1/128']) {
      const told = lbd.process.lines.find(({ text }) => text.includes(`"route":"${route}"`))?.text ?? '';
      assert.match(told, /virtual\.repaired/, route);
      assert.match(told, /"by":"(ip \(pid \d+\)|pid \d+)/);
    }
    for (const name of ['web', 'dns', 'alone']) await lab.lab.api.deleteService(name);
    await expectOnLink(h1, []);
    assert.deepEqual(await routesOverLink(h1), [], 'what was put back goes with the last address, too');
  });

  test('have their route back within 100 ms, though others change routes all the time', async (context) => {
    const lbd = await lab.startLbd(h1, POOL);
    await lab.serve('web', ['203.0.113.1']);
    await expectOnLink(h1, ['203.0.113.1/24']);
    const monitor = await h1.spawn(favoured(['ip', '-ts', '-o', '-4', 'monitor', 'route']));
    const others = await h1.spawn(['ip', '-force', '-batch', '-']);
    const change = setInterval(
      () => others.write('route add 198.18.0.0/24 dev eth0\nroute del 198.18.0.0/24 dev eth0\n'),
      OTHERS_EVERY_MS,
    );
    try {
      const took: number[] = [];
      while (took.length < ROUTE_ROUNDS) {
        const from = monitor.lines.length;
        await h1.run(['ip', 'route', 'delete', '203.0.113.0/24', 'dev', LINK]);
        const told = () =>
          monitor.lines
            .slice(from)
            .filter(({ text }) => text.includes(' 203.0.113.0/24 '))
            .map(({ text }) => timeOf(text));
        await waitFor(() => told().length === 2, { describe: 'it to go and be back' });
        const [gone = 0, back = 0] = told();
        took.push(back - gone);
        await sleep(BETWEEN_ROUNDS_MS);
      }
      took.sort((left, right) => left - right);
      context.diagnostic(`back after ${took.map((ms) => ms.toFixed(0)).join(', ')} ms`);
      const median = took[Math.floor(ROUTE_ROUNDS / 2)] ?? Infinity;
      assert.ok(median <= REPAIR_BOUND_MS, `${median} ms`);
      assert.ok(((await lbd.status()).virtual?.repairs ?? 0) >= ROUTE_ROUNDS);
    } finally {
      clearInterval(change);
      others.endInput();
      await monitor.stop();
    }
  });

  test('are listed by lbctl addresses beside local ones, and status says why the link is no dummy, also after a restart', async () => {
    const local = '[[pool]]\nname = "office"\naddresses = ["10.77.0.200-10.77.0.220"]\nauto_assign = false\n';
    const first = await lab.startLbd(h1, POOL + local);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await lab.serve('desk', ['10.77.0.200']);
    await held(first, '203.0.113.1');
    await held(first, '10.77.0.200');
    await first.stop('SIGTERM');
    const lbd = await lab.startLbd(h1, POOL + local);
    await held(lbd, 'fd55::1');
    await held(lbd, '10.77.0.200');
    const { stdout } = await lbd.lbctl(['addresses']);
    const rows = stdout.trimEnd().split('\n').slice(1);
    const shown = rows.map((row) =>
      row
        .replace(/\b\d+(ms|s)\b/g, '…')
        .replace(/\s+/g, ' ')
        .trim(),
    );
    assert.deepEqual(shown, [
      `10.77.0.200/32 IPv4 local announced eth0 … … ${announcementsOf(rows[0])} pool office default/desk`,
      `203.0.113.1/24 IPv4 virtual announced ${LINK} … permanent 0 pool default default/web`,
      `fd55::1/64 IPv6 virtual announced ${LINK} … permanent 0 pool default default/web`,
    ]);
    const { virtual } = await lbd.status();
    const { stdout: status } = await lbd.lbctl(['status']);
    if (virtual?.type === 'bridge') assert.match(status, /kube-lb0 +a bridge with 2 .*"modprobe dummy"/);
    else assert.match(status, /kube-lb0 +a dummy with 2 virtual addresses\n/);
  });

  test('of a Local Service go by endpoints that terminate only when there is no other', async () => {
    await lab.startLbd(h1, POOL);
    const other = await lab.startLbd(h2, POOL);
    const spec = { externalTrafficPolicy: 'Local' };
    const own = ['203.0.113.9/32', 'fd55::9/128'];
    await lab.setEndpoints('some', [h1], () => TERMINATING);
    await lab.serve('some', ['203.0.113.9', 'fd55::9'], spec);
    await expectOnLink(h1, own);
    await inState(other, '203.0.113.9', 'elsewhere');
    await lab.setEndpoints('some', [h1, h2], (host) => (host === h1 ? TERMINATING : READY));
    await expectOnLink(h2, own);
    await expectOnLink(h1, []);
    await lab.setEndpoints('some', [h1, h2], () => TERMINATING);
    await expectOnLink(h1, own);
    await expectOnLink(h2, own);
    await lab.setEndpoints('some', [h1, h2], () => ({ ...TERMINATING, serving: false }));
    await expectOnLink(h1, []);
    await expectOnLink(h2, []);
    await inState(other, 'fd55::9', 'unserved');
  });

  test('of two pools with one aggregate share its route, and the last of both takes it away', async () => {
    const pool = (name: string, range: string, length: number) =>
      `[[pool]]\nname = "${name}"\naddresses = ["${range}"]\naggregate = { v4 = ${length} }\n`;
    const low = pool('low', '203.0.113.0/26', 24);
    const lbd = await lab.startLbd(h1, low + pool('high', '203.0.113.128/26', 24));
    await lab.serve('low', ['203.0.113.1']);
    await lab.serve('high', ['203.0.113.129']);
    await expectOnLink(h1, ['203.0.113.1/24', '203.0.113.129/24']);
    assert.deepEqual(await routesOverLink(h1), ['203.0.113.0/24']);
    assert.ok((await lbd.status()).config.warnings.some((text) => /one route serves both/.test(text)));

    // One inside the other: each goes with the last of its own addresses.
    await lbd.reload(low + pool('high', '203.0.113.128/26', 26));
    await expectOnLink(h1, ['203.0.113.1/24', '203.0.113.129/26']);
    assert.deepEqual(await routesOverLink(h1), ['203.0.113.0/24', '203.0.113.128/26']);
    await lab.lab.api.deleteService('low');
    await expectOnLink(h1, ['203.0.113.129/26']);
    assert.deepEqual(await routesOverLink(h1), ['203.0.113.128/26']);
    await lab.lab.api.deleteService('high');
    await expectOnLink(h1, []);
    assert.deepEqual(await routesOverLink(h1), []);
  });

  test('are routed alone as soon as their aggregate holds a gateway of the host', async () => {
    const lbd = await lab.startLbd(h1, POOL);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await expectOnLink(h1, ['203.0.113.1/24', 'fd55::1/64']);
    const route = ['default', 'via', '203.0.113.254', 'dev', 'eth0', 'onlink', 'metric', '500'];
    await h1.run(['ip', 'route', 'add', ...route]);
    try {
      await expectOnLink(h1, ['203.0.113.1/32', 'fd55::1/64']);
      const { reason } = await held(lbd, '203.0.113.1');
      assert.match(
        reason ?? '',
        /aggregate 203\.0\.113\.0\/24 .* holds 203\.0\.113\.254, the gateway of one/,
      );
      const { stdout } = await h1.run(['ip', '-j', 'route', 'get', '203.0.113.254']);
      assert.equal(JSON.parse(stdout)[0].dev, 'eth0', 'and not the link, where it would end');
    } finally {
      await h1.run(['ip', 'route', 'delete', ...route]);
    }
    await expectOnLink(h1, ['203.0.113.1/24', 'fd55::1/64']);
  });
});

/** The column that depends on how long ago it was announced first. */
function announcementsOf(row = ''): string {
  return /(\d+)\s+pool/.exec(row)?.[1] ?? '';
}

/** Waits until the monitor has said nothing for a while; resolves with how many lines it has by then. */
async function quiet(monitor: LabProcess): Promise<number> {
  for (;;) {
    const before = monitor.lines.length;
    await sleep(50);
    if (monitor.lines.length === before) return before;
  }
}

/** `[2026-11-23T17:12:55.123456] Deleted 5: …` in milliseconds. */
function timeOf(line = ''): number {
  const [, seconds = '', microseconds] = /^\[(\S+)\.(\d{6})\]/.exec(line) ?? [];
  return Date.parse(seconds) + Number(microseconds) / 1_000;
}
