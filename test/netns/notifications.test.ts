import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { openNotificationSocket } from '../../src/iface/io/netlink-socket.ts';
import { Rtnetlink, type RtnetlinkOptions } from '../../src/iface/io/rtnetlink.ts';
import { SourceRoutingKernel } from '../../src/iface/io/source-routing-kernel.ts';
import { addressKey, type ObservedChanges } from '../../src/iface/observed.ts';
import { FIRST_TABLE, TABLE_PRIORITY } from '../../src/iface/source-routing.ts';
import type { AddressRequest, IfIndex } from '../../src/iface/types.ts';
import { type Ip, prefixOf } from '../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../src/lib/logger.ts';
import { AF_NETLINK, NETLINK_ROUTE, SOCK_RAW } from '../../src/sys/constants.ts';
import { netlinkProcess } from '../../src/sys/netlink-process.ts';
import { sockaddrNetlink } from '../../src/sys/sockaddr.ts';
import { RawSocket } from '../../src/sys/socket.ts';
import { waitFor } from '../support/wait.ts';
import { enterOwnNamespace, indexOf, ip, SKIP } from './own-namespace.ts';

enterOwnNamespace(import.meta.filename);

const OPTIONS = { skip: SKIP, timeout: 60_000 };
const X = '192.0.2.10' as Ip;

function makeNic(t: TestContext): IfIndex {
  ip('link add nic0 type bridge');
  t.after(() => ip('link del nic0'));
  ip('link set nic0 up');
  return indexOf('nic0');
}

type Opened = { readonly rtnetlink: Rtnetlink; readonly changes: ObservedChanges[]; readonly log: string[] };

async function open(t: TestContext, options: Partial<RtnetlinkOptions> = {}): Promise<Opened> {
  const changes: ObservedChanges[] = [];
  const log: string[] = [];
  const rtnetlink = new Rtnetlink({
    logger: { ...SILENT_LOGGER, warn: (_: object, text: string) => void log.push(text) },
    onChange: (each) => changes.push(each),
    ...options,
  });
  t.after(() => rtnetlink.close());
  await rtnetlink.start();
  return { rtnetlink, changes, log };
}

function addition(ifIndex: IfIndex): AddressRequest {
  return {
    kind: 'add',
    ifIndex,
    ip: X,
    prefixLength: 32,
    scope: 0,
    flags: 0x200,
    preferredSeconds: 300,
    validSeconds: 300,
    protocol: 108,
  };
}

/** A socket that hears nothing. */
function deaf(): RawSocket {
  const socket = new RawSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  socket.bind(sockaddrNetlink(0, 0));
  return socket;
}

test(
  'what no notification told is found by the comparison, and the next change is told again',
  OPTIONS,
  async (t) => {
    const nic = makeNic(t);
    let sockets = 0;
    const { rtnetlink, changes, log } = await open(t, {
      compareIntervalMs: 200,
      openNotifications: (...args) => (sockets++ === 0 ? deaf() : openNotificationSocket(...args)),
    });
    ip(`addr add ${X}/32 dev nic0`);
    ip('link add other0 type bridge');
    t.after(() => ip('link del other0'));
    const state = rtnetlink.observed();
    const key = addressKey({ ifIndex: nic, ip: X, prefixLength: 32 });
    await waitFor(() => state.addresses.has(key), { describe: 'the address to be found' });
    assert.ok(changes.some(({ addresses }) => addresses.present.some((address) => address.ip === X)));
    assert.ok([...state.links.values()].some(({ name }) => name === 'other0'));
    await waitFor(() => sockets === 2, { describe: 'a new socket' });
    assert.ok(rtnetlink.counters().missed >= 2);
    assert.deepEqual(log.slice(0, 2), ['netlink.missed', 'netlink.resync']);
    const before = rtnetlink.counters().notifications;
    ip(`addr del ${X}/32 dev nic0`);
    await waitFor(() => !state.addresses.has(key), { describe: 'the address to go', timeoutMs: 190 });
    assert.ok(rtnetlink.counters().notifications > before, 'told, not found');
  },
);

test(
  'the route of an IPv6 address alone that nobody told of is missed by the comparison',
  OPTIONS,
  async (t) => {
    ip('link add lb0 address 02:6c:62:64:00:00 type bridge');
    t.after(() => ip('link del lb0'));
    ip('link set lb0 up');
    ip('addr add 2001:db8::1/128 dev lb0 nodad');
    const key = addressKey({ ifIndex: indexOf('lb0'), ip: '2001:db8::1' as Ip, prefixLength: 128 });
    let sockets = 0;
    const { rtnetlink, changes, log } = await open(t, {
      compareIntervalMs: 200,
      openNotifications: (...args) => (sockets++ === 0 ? deaf() : openNotificationSocket(...args)),
    });
    const { hostRoutes } = rtnetlink.observed();
    assert.deepEqual([...hostRoutes], [key]);
    ip('-6 route del 2001:db8::1/128 dev lb0');
    await waitFor(() => !rtnetlink.observed().hostRoutes.has(key), { describe: 'the comparison' });
    await waitFor(() => changes.some(({ routesChanged }) => routesChanged), {
      describe: 'a change to be told',
    });
    await waitFor(() => log.includes('netlink.missed'), { describe: 'the log to tell' });
  },
);

test('the comparison finds nothing where all was told, whatever happens meanwhile', OPTIONS, async (t) => {
  const nic = makeNic(t);
  const { rtnetlink, log } = await open(t, { compareIntervalMs: 20 });
  const request = addition(nic);
  const { ifIndex, prefixLength } = request;
  for (let round = 0; round < 100; round++) {
    await rtnetlink.apply([
      request,
      { ...request, kind: 'replace', validSeconds: 200, preferredSeconds: 200 } as AddressRequest,
    ]);
    if (round % 10 === 0) ip(`addr add 198.51.100.${round}/24 dev nic0`);
    await rtnetlink.apply([{ kind: 'delete', ifIndex, ip: X, prefixLength }]);
  }
  await rtnetlink.apply([request]);
  // A lifetime that runs is no change.
  await new Promise((resolve) => setTimeout(resolve, 2_200));
  assert.deepEqual(log, []);
  assert.equal(rtnetlink.counters().missed, 0);
});

/** The descriptors of this process that are sockets. */
function socketsOpen(): readonly number[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:') ? [Number(fd)] : [];
    } catch {
      return [];
    }
  });
}

test(
  'netlink sockets that are closed under it are opened anew, and what happened meanwhile is found',
  OPTIONS,
  async (t) => {
    const nic = makeNic(t);
    const before = new Set(socketsOpen());
    const { rtnetlink } = await open(t, { compareIntervalMs: 200 });
    const own = socketsOpen().filter((fd) => !before.has(fd));
    assert.equal(own.length, 2, 'one for requests, one for notifications');
    for (const fd of own) closeSync(fd);
    await waitFor(async () => (await rtnetlink.apply([addition(nic)]))[0]?.ok, {
      describe: 'a request to be granted again',
    });
    const key = addressKey({ ifIndex: nic, ip: X, prefixLength: 32 });
    await waitFor(() => rtnetlink.observed().addresses.has(key), { describe: 'the address to be known' });
    ip(`addr del ${X}/32 dev nic0`);
    await waitFor(() => !rtnetlink.observed().addresses.has(key), { describe: 'the address to go' });
  },
);

test('a change tells who asked for it, by name while that process is there', OPTIONS, async (t) => {
  const nic = makeNic(t);
  const { rtnetlink, changes } = await open(t);
  await rtnetlink.apply([addition(nic)]);
  const key = addressKey({ ifIndex: nic, ip: X, prefixLength: 32 });
  const asker = () => changes.map(({ askedBy }) => askedBy?.get(key)).find((port) => port !== undefined);
  await waitFor(() => changes.length > 0, { describe: 'the addition to be told' });
  assert.equal(asker(), undefined, 'lbd itself');
  changes.length = 0;
  // An `ip` that waits for the next command after this one.
  const child = spawn('ip', ['-batch', '-'], { stdio: ['pipe', 'ignore', 'inherit'] });
  t.after(() => child.kill());
  child.stdin.write(`addr del ${X}/32 dev nic0\n`);
  const port = await waitFor(asker, { describe: 'who removed it' });
  assert.equal(netlinkProcess(port), `ip (pid ${child.pid})`);
  child.stdin.end();
  await once(child, 'exit');
  assert.equal(netlinkProcess(port), `pid ${child.pid}, which has ended`);
  assert.equal(netlinkProcess(0), undefined);
  assert.match(netlinkProcess(0xffff_f000) ?? '', /^netlink port 4294963200$/);
});

test('whoever takes a rule of source routing away is told, and lbd itself is not', OPTIONS, async (t) => {
  const kernel = new SourceRoutingKernel();
  t.after(() => kernel.close());
  const askers: (number | undefined)[] = [];
  kernel.subscribe((asker) => void askers.push(asker));
  const rule = {
    priority: TABLE_PRIORITY,
    from: prefixOf(X, 24),
    table: FIRST_TABLE + 7,
    suppressPrefixLength: undefined,
  };
  for (const kind of ['add-rule', 'delete-rule', 'add-rule'] as const)
    assert.equal(await kernel.apply({ kind, rule }), undefined);
  ip(`rule del pref ${TABLE_PRIORITY}`);
  const asker = await waitFor(() => askers.find((port) => port !== undefined), {
    describe: 'who removed it',
  });
  assert.match(netlinkProcess(asker) ?? '', /^pid \d+, which has ended$/);
});
