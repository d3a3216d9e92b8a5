import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { seededRandom } from '../../src/lib/prng.ts';
import type { LabHost } from '../support/lab-host.ts';
import type { Lbd } from '../support/lab-lbd.ts';
import type { LabProcess } from '../support/lab-process.ts';
import { type Burst, burst, OURS, ROUTES, SERVICES } from '../support/outside-changes.ts';
import { held, SKIP } from '../support/scenario.ts';
import { LINK, VirtualLab } from '../support/virtual-lab.ts';
import { sleep, waitFor } from '../support/wait.ts';

/**
 * What others do to a host under a running lbd. Beside it stands a twin without lbd, to which the same is done: what is
 * not lbd's must come out the same on both.
 */

const TRACER = fileURLToPath(new URL('../support/trace-changes.ts', import.meta.url));
const TOML = `[[pool]]
name = "default"
addresses = ["10.77.0.200-10.77.0.219", "fd77::200-fd77::219"]

[[pool]]
name = "routed"
addresses = ["203.0.113.0/24", "fd55::/64"]
aggregate = { v4 = 24, v6 = 64 }

[[pool]]
name = "alone"
addresses = ["fd56::/120"]
auto_assign = false
`;
const WAR_MS = 2_000;
/** At once, and each time twice as late: 50, 100, 200, 400, 800 ms. */
const LOCAL_REPAIRS_MAX = 7;
/** An address and a route, each three times in a second at most, of which the time meets three. */
const VIRTUAL_REPAIRS_MAX = 2 * 3 * 3;
const ROUNDS = 12;
const CHANGES_PER_ROUND = 170;
const SEED = Number(process.env['LBD_TEST_SEED'] ?? Date.now() % 1_000_000);

describe('what others change on a host', { skip: SKIP }, () => {
  let lab: VirtualLab;
  let h1: LabHost;
  let twin: LabHost;
  let lbd: Lbd;

  before(async () => {
    lab = await VirtualLab.start({ hosts: { h1: {} }, others: { twin: {} } });
    h1 = lab.host('h1');
    twin = lab.host('twin');
    lbd = await lab.startLbd(h1, TOML);
    for (const [index, addresses] of SERVICES.entries()) await lab.serve(`web-${index}`, addresses);
    for (const ip of SERVICES.flat()) await held(lbd, ip);
  });
  after(() => lab?.close());

  test('an address deleted by hand is back at once, and the log names who did it', async (context) => {
    const monitor = await h1.spawn(['ip', '-ts', '-4', 'monitor', 'address']);
    // An `ip` that lives on, so that it can be named.
    const ip = await h1.spawn(['ip', '-batch', '-']);
    const [address = ''] = OURS.filter((text) => text.startsWith('10.77.0.'));
    for (let round = 0; round < 12; round++) {
      ip.write(`addr del ${address} dev eth0\n`);
      await waitFor(() => stamps(monitor, address).length === 2 * (round + 1), { describe: 'it to be back' });
      // One that is undone right away would make the next one wait.
      await sleep(300);
    }
    const times = stamps(monitor, address);
    const gaps = times.flatMap((at, index) => (index % 2 === 0 ? [(times[index + 1] ?? at) - at] : []));
    gaps.sort((left, right) => left - right);
    const median = gaps[Math.floor(gaps.length / 2)] ?? 0;
    context.diagnostic(
      `back after ${gaps.map((ms) => ms.toFixed(1)).join(', ')} ms; median ${median.toFixed(1)}`,
    );
    assert.ok(gaps.length >= 10);
    assert.ok(median <= 20, `${median} ms`);
    const [plain = ''] = address.split('/');
    await lbd.waitForLog('address.repaired', { ip: plain, was: 'removed' });
    const log = lbd.process.lines.filter(({ text }) => text.includes('address.repaired'));
    assert.match(log[0]?.text ?? '', /"by":"(ip \(pid \d+\)|pid \d+)/);
    const { addresses } = await lbd.status();
    assert.ok((addresses.find((each) => each.ip === plain)?.repairs ?? 0) >= 10);
    ip.endInput();
    await monitor.stop();
  });

  test('an address whose route of the local table somebody deleted is the host’s again at once', async (context) => {
    const monitor = await h1.spawn(['ip', '-ts', '-o', 'monitor', 'route']);
    for (const [ip, nic] of [
      ['10.77.0.201', 'eth0'],
      ['fd77::200', 'eth0'],
      ['203.0.113.2', LINK],
      ['203.0.113.1', LINK],
      ['fd55::3', LINK],
      ['fd56::1', LINK],
    ] as const) {
      const from = monitor.lines.length;
      const linesBefore = lbd.process.lines.length;
      const family = ip.includes(':') ? ['-6'] : [];
      await h1.run(['ip', ...family, 'route', 'delete', 'local', ip, 'dev', nic, 'table', 'local']);
      const told = () => monitor.lines.slice(from).filter(({ text }) => text.includes(`local ${ip} dev `));
      await waitFor(() => told().length >= 2 && !told().at(-1)?.text.includes('Deleted'), {
        describe: `${ip} to be the host’s`,
      });
      const tookMs = stampOf(told().at(-1)?.text) - stampOf(told()[0]?.text);
      context.diagnostic(`${ip}: back after ${tookMs.toFixed(1)} ms`);
      assert.ok(tookMs <= 100, `${ip}: ${tookMs} ms`);
      const line = () =>
        lbd.process.lines
          .slice(linesBefore)
          .find(({ text }) => text.includes('.repaired') && text.includes(`"${ip}"`));
      await waitFor(line, { describe: 'the log to tell' });
      assert.match(line()?.text ?? '', /"by":"(ip \(pid \d+\)|pid \d+)/);
    }
    await monitor.stop();
  });

  test(`${ROUNDS * CHANGES_PER_ROUND} random changes: ours is put right, and nothing else is ever touched`, async (context) => {
    context.diagnostic(`seed ${SEED}; LBD_TEST_SEED=${SEED} repeats it`);
    const random = seededRandom(SEED);
    for (const host of [h1, twin]) await host.ipBatch(['link add ext0 type bridge', 'link set ext0 up']);
    // The twin's own, so that what others put on it has a place there too.
    await restoreLink(twin);
    for (const host of [h1, twin]) await anchor(host);
    const tracer = await h1.spawn([process.execPath, TRACER]);
    await trace(tracer);
    let slowestMs = 0;
    let requests = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const changes = burst(random, CHANGES_PER_ROUND);
      await Promise.all([carryOut(h1, changes), carryOut(twin, changes)]);
      const fromMs = performance.now();
      const look = async () => {
        const seen = await dump(h1);
        return isWhole(seen) && seen;
      };
      const repaired = await waitFor(look, {
        describe: `ours to be back after round ${round}: ${changes.lines.join('; ')}`,
        timeoutMs: 5_000,
        everyMs: 10,
      });
      slowestMs = Math.max(slowestMs, performance.now() - fromMs);
      if (changes.breaksLink) await restoreLink(twin);
      const what = () => `round ${round}, after ${changes.lines.join('; ')}`;
      assert.deepEqual(foreign(repaired, h1), foreign(await dump(twin), twin), what());
      if (changes.breaksLink) for (const host of [h1, twin]) await anchor(host);
      const asked = await trace(tracer);
      requests += asked.length;
      for (const { text } of asked) assert.ok(isOurs(text), `lbd asked: ${text}; ${what()}`);
    }
    const { virtual } = await lbd.status();
    context.diagnostic(
      `slowest ${slowestMs.toFixed(0)} ms, a dump included; ${virtual?.repairs} virtual repairs`,
    );
    assert.ok((virtual?.repairs ?? 0) > 0);
    assert.ok(requests > ROUNDS, `only ${requests} of lbd's requests were seen`);
    assert.equal(lbd.process.exited, undefined);
    for (const ip of SERVICES.flat()) await held(lbd, ip);
    await tracer.stop();
  });

  test('a program at war over an address and a route is not answered without end, and everything is back after it', async (context) => {
    const counted = async () => {
      const { addresses, virtual } = await lbd.status();
      const repairs = addresses.find(({ ip }) => ip === '10.77.0.200')?.repairs ?? 0;
      return { local: repairs, virtual: virtual?.repairs ?? 0 };
    };
    await waitFor(async () => isWhole(await dump(h1)), { describe: 'all to be there' });
    const before = await counted();
    const undo = [
      'ip addr del 10.77.0.200/32 dev eth0',
      `ip addr del 203.0.113.2/24 dev ${LINK}`,
      `ip -6 route del fd56::1/128 dev ${LINK}`,
    ];
    const war = `while :; do ${undo.map((line) => `${line} 2>/dev/null`).join('; ')}; done`;
    await h1.run(['timeout', String(WAR_MS / 1_000), 'sh', '-c', war], { mayFail: true });
    const after = await counted();
    const local = after.local - before.local;
    const virtual = after.virtual - before.virtual;
    context.diagnostic(`${local} repairs of the local address, ${virtual} of the virtual one and the route`);
    assert.ok(local >= 1 && local <= LOCAL_REPAIRS_MAX, `${local} of the local address`);
    assert.ok(virtual >= 2 && virtual <= VIRTUAL_REPAIRS_MAX, `${virtual} of virtual ones`);
    await waitFor(async () => isWhole(await dump(h1)), { describe: 'all to be back', timeoutMs: 2_000 });
  });
});

/** When the address went and came, in ms. */
function stamps(monitor: LabProcess, address: string): readonly number[] {
  return monitor.lines.filter(({ text }) => text.includes(` ${address} `)).map(({ text }) => stampOf(text));
}

/** `[2026-11-23T17:12:55.123456] …` in ms. */
function stampOf(text = ''): number {
  return Date.parse(/^\[([^\]]+)\]/.exec(text)?.[1] ?? '') + microseconds(text);
}

/** What Date.parse() drops. */
function microseconds(text: string): number {
  return Number(/\.\d{3}(\d{3})\]/.exec(text)?.[1] ?? 0) / 1_000;
}

async function carryOut(host: LabHost, { lines, sysctls }: Burst): Promise<void> {
  await host.run(['ip', '-force', '-batch', '-'], { stdin: `${lines.join('\n')}\n`, mayFail: true });
  const writes = sysctls.map(([path, value]) => `echo ${value} >/proc/sys/${path}`);
  if (writes.length > 0) await host.run(['sh', '-c', writes.join('; ')]);
}

/** As lbd does it on the host: the link is made anew, or raised. */
async function restoreLink(twin: LabHost): Promise<void> {
  await twin.run(['ip', 'link', 'add', LINK, 'type', 'bridge'], { mayFail: true });
  await twin.run(['sh', '-c', `echo 1 >/proc/sys/net/ipv4/conf/${LINK}/promote_secondaries`]);
  await twin.ipBatch([`link set ${LINK} up`]);
}

/**
 * An address that nobody takes away. With the last IPv4 address of a link the kernel removes all routes on it
 * (fib_disable_ip in net/ipv4/fib_frontend.c): whether others' deletions come to that depends on how quick lbd is.
 */
async function anchor(host: LabHost): Promise<void> {
  await host.run(['ip', 'addr', 'replace', '192.0.2.99/32', 'dev', LINK]);
}

type Dump = {
  readonly addresses: readonly string[];
  readonly routes: readonly string[];
  readonly rules: readonly string[];
  readonly links: readonly string[];
  readonly sysctls: readonly string[];
};

const SHOWN_SYSCTLS = ['conf/eth0/arp_notify', 'conf/ext0/arp_ignore', 'conf/ext0/arp_announce'];
const OWN_SYSCTLS = ['conf/eth0/arp_ignore', 'conf/eth0/arp_announce'];

/** Everything in one command. Lifetimes that run are told as `finite`. */
async function dump(host: LabHost): Promise<Dump> {
  const files = [...SHOWN_SYSCTLS, ...OWN_SYSCTLS].map((path) => `/proc/sys/net/ipv4/${path}`);
  const script = [
    'ip -o addr show',
    'ip -o -4 route show table all',
    'ip -o -6 route show table all',
    'ip -o rule show; ip -o -6 rule show',
    'ip -o link show',
    `cat ${files.join(' ')}`,
  ].join('; echo ----; ');
  const { stdout } = await host.run(['sh', '-c', script]);
  const lists = stdout.split('----\n').map((part) =>
    part
      .split('\n')
      .map((line) => line.replaceAll(/\\?\s+/g, ' ').trim())
      .filter((line) => line !== ''),
  );
  const [addresses = [], v4 = [], v6 = [], rules = [], links = [], sysctls = []] = lists;
  return {
    addresses: addresses.map((line) =>
      line
        .replace(/^\d+: /, '')
        .replaceAll(/(valid|preferred)_lft \d+sec/g, '$1_lft finite')
        .replaceAll(/ (tentative|dadfailed|mngtmpaddr|dynamic)\b/g, ''),
    ),
    routes: [...v4, ...v6].map((line) =>
      line.replaceAll(/expires \d+sec/g, 'expires').replaceAll(/ (linkdown|dead)\b/g, ''),
    ),
    rules,
    links: links.map((line) =>
      line
        .replace(/^\d+: /, '')
        .replace(/ link\/ether .*/, '')
        .replace(/ (state|mode|qlen|group|master) \S+/g, ''),
    ),
    sysctls,
  };
}

/** Whether all of ours is there as it should be. */
function isWhole({ addresses, routes, sysctls }: Dump): boolean {
  const own = addresses.filter((line) => OURS.some((address) => line.includes(` ${address} `)));
  if (own.length !== OURS.length) return false;
  const areRight = own.every((line) => {
    if (line.startsWith(LINK))
      return (
        line.includes('valid_lft forever') &&
        (line.includes('inet6')
          ? line.includes('preferred_lft 0sec') || line.includes('preferred_lft finite')
          : true)
      );
    return line.includes('noprefixroute') && line.includes('valid_lft finite');
  });
  const areTheHosts = OURS.every((address) =>
    routes.some((line) => line.startsWith(`local ${address.split('/')[0]} dev `)),
  );
  const own4 = routes.filter((line) => ROUTES.some((route) => line.startsWith(`${route} dev ${LINK}`)));
  return areRight && areTheHosts && own4.length >= ROUTES.length && sysctls.slice(-2).join(' ') === '1 2';
}

/** What is not lbd's, with the host's own address under one name and without what differs between any two hosts. */
function foreign({ addresses, routes, rules, links, sysctls }: Dump, host: LabHost): Dump {
  const own = [...OURS, ...ROUTES].flatMap((text) => [text, text.split('/')[0] ?? '']);
  const isOwn = (line: string) => line.split(' ').some((word) => own.includes(word));
  const isBroadcast = (line: string) =>
    /^(broadcast|anycast|multicast|local) (203\.0\.113\.|fd55::|fd56::|ff00::)/.test(line);
  const names = (line: string) => line.replaceAll(host.ip, 'OWN').replaceAll(host.ip6, 'OWN6');
  const isPlain = (line: string) => !line.includes('fe80:') && !isOwn(line) && !isBroadcast(line);
  return {
    addresses: addresses.filter(isPlain).map(names).sort(),
    routes: routes
      .filter(isPlain)
      .filter((line) => !/ff00::\/8/.test(line))
      .map(names)
      .sort(),
    rules: rules.toSorted(),
    links: links
      .filter((line) => !line.startsWith(LINK))
      .map((line) => line.replace(/@if\d+/, ''))
      .sort(),
    sysctls: sysctls.slice(0, SHOWN_SYSCTLS.length),
  };
}

type Traced = { readonly port: number; readonly text: string };

/** What lbd asked the kernel for since the last call. */
async function trace(tracer: LabProcess): Promise<readonly Traced[]> {
  const count = tracer.lines.length;
  tracer.write('\n');
  await waitFor(() => tracer.lines.length > count, { describe: 'the trace' });
  return JSON.parse(tracer.lines.at(-1)?.text ?? '[]') as readonly Traced[];
}

function isOurs(text: string): boolean {
  const [, what = '', name = ''] = text.split(' ');
  if (what === 'link') return name === LINK;
  return OURS.includes(name) || (what === 'route' && ROUTES.includes(name));
}
