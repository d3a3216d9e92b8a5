import { LocalDriver } from '../src/iface/io/local-driver.ts';
import { Ownership } from '../src/iface/io/ownership.ts';
import { Rtnetlink } from '../src/iface/io/rtnetlink.ts';
import { VirtualDriver } from '../src/iface/io/virtual-driver.ts';
import { Wire } from '../src/iface/io/wire.ts';
import type { AddressRequest, DesiredAddress, IfIndex } from '../src/iface/types.ts';
import { claimOf } from '../src/iface/wire-claims.ts';
import { FAMILY_BITS, type Ip, ipFromNumber, ipToNumber } from '../src/lib/ip.ts';
import { SILENT_LOGGER } from '../src/lib/logger.ts';
import { median } from './harness.ts';

/**
 * `network-host.ts COMMAND FAMILY LOCAL VIRTUAL [ROUNDS]`: the network layer of lbd as the daemon runs it, inside a lab host, with
 * so many addresses. Prints one JSON document. What it adds stays, so that the next command is a restart.
 *
 *   program   adds all from nothing, after the wire was asked for the local ones as it is for what Services may get
 *             next; the times in milliseconds
 *   restart   takes over what an earlier process left: milliseconds from its first look at the kernel
 *   renew     what a renewal of all costs, in milliseconds of a core, over ROUNDS
 *   repair    how long one that is deleted stays away, over ROUNDS
 */
const [command, familyName, localCount, virtualCount, rounds = '1'] = process.argv.slice(2);
const family = familyName === 'v6' ? 'v6' : 'v4';
const FIRST = {
  v4: { local: '10.77.64.0', virtual: '198.18.0.0' },
  v6: { local: 'fd00:77::1:0', virtual: 'fd00:78::' },
};
const ROUNDS = Number(rounds);
const LIFETIME_MS = 30_000;
/** What is added from nothing is there for all commands that follow. */
const ADDED_LIFETIME_MS = 600_000;
/** Announcements of what was adopted have gone by then. */
const QUIET_MS = 500;
const IDLE_CPU_MS = 5;

const local = addresses(FIRST[family].local, Number(localCount));
const virtual = addresses(FIRST[family].virtual, Number(virtualCount));
/** Addresses that the kernel told of, since it was last emptied. */
const told = new Set<Ip>();
let onTold: () => void = () => {};

const rtnetlink = new Rtnetlink({
  logger: SILENT_LOGGER,
  onChange: (changes) => {
    localDriver.kernelChanged(changes);
    virtualDriver.kernelChanged(changes);
    for (const { ip } of changes.addresses.present) told.add(ip);
    onTold();
  },
});
const wire = new Wire({
  logger: SILENT_LOGGER,
  onFrame: (ifIndex, message, at) => localDriver.claimHeard(ifIndex, claimOf(message), at),
});
const ownership = new Ownership({ file: '/run/lab-addresses.json', logger: SILENT_LOGGER });
const lifetimeMs = command === 'program' ? ADDED_LIFETIME_MS : LIFETIME_MS;
const settings = { prefix: 'host', lifetimeMs } as const;
/** Local addresses that are held since `program` began. */
let heldLocal = 0;
const localDriver = new LocalDriver({
  rtnetlink,
  wire,
  ownership,
  settings,
  rules: { interfaces: [] },
  logger: SILENT_LOGGER,
  onReport: ({ report }) => {
    if (report.kind === 'held') heldLocal += 1;
    onTold();
  },
  onChange: () => onTold(),
});
const virtualDriver = new VirtualDriver({
  rtnetlink,
  ownership,
  settings: { interface: 'kube-lb0', type: 'auto', routes: undefined },
  logger: SILENT_LOGGER,
});

const startedMs = performance.now();
await rtnetlink.start();
if (command === 'program') print(await program());
else if (command === 'restart') print(await restart());
else if (command === 'renew') print(await renew());
else if (command === 'repair') print(await repair());
else throw new Error(`no command "${command}"`);
process.exit(0);

/** Both kinds, one after the other, until the kernel has answered the last. */
async function program(): Promise<unknown> {
  localDriver.start();
  localDriver.plan([], local);
  await until(() => localDriver.verdict(local.at(-1) as Ip).kind === 'usable');
  await until(() => local.every((ip) => localDriver.verdict(ip).kind === 'usable'));
  const started = performance.now();
  localDriver.plan(desiredLocal(), []);
  await until(() => heldLocal === local.length);
  const localMs = performance.now() - started;
  planVirtual();
  await until(() => heldVirtual() === virtual.length);
  const totalMs = performance.now() - started;
  return { localMs, virtualMs: totalMs - localMs, totalMs };
}

async function restart(): Promise<unknown> {
  takeOver();
  const heldMs = performance.now() - startedMs;
  const held = localDriver.statuses().filter(({ state }) => state === 'held').length + heldVirtual();
  // Long enough that a write which follows from it is made.
  await sleep(QUIET_MS);
  return { heldMs, held };
}

async function renew(): Promise<unknown> {
  takeOver();
  await quiet();
  const cpuMs: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    told.clear();
    const before = process.cpuUsage();
    localDriver.reconfigure(settings, { interfaces: [] });
    await until(() => told.size >= local.length);
    const { user, system } = process.cpuUsage(before);
    // The first one compiles the code.
    if (round > 0) cpuMs.push((user + system) / 1000);
    await quiet();
  }
  return { cpuMs: median(cpuMs), lifetimeMs: localDriver.lifetimeMs() };
}

async function repair(): Promise<unknown> {
  takeOver();
  await quiet();
  const backMs: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const ip = local[Math.floor((local.length * round) / (ROUNDS + 1))] as Ip;
    const started = performance.now();
    const deletion = { kind: 'delete', ifIndex: nicIndex('eth0'), ip, prefixLength: FAMILY_BITS[family] };
    await ask([deletion as AddressRequest]);
    told.clear();
    await until(() => told.has(ip));
    if (round > 0) backMs.push(performance.now() - started);
    await quiet();
  }
  return { backMs: median(backMs) };
}

/** The drivers as the daemon starts them, with a plan that wants all of it. */
function takeOver(): void {
  localDriver.start();
  localDriver.plan(desiredLocal(), []);
  planVirtual();
}

function desiredLocal(): readonly DesiredAddress[] {
  return local.map((ip) => ({ ip, services: ['default/bench'] }));
}

function planVirtual(): void {
  const bits = FAMILY_BITS[family];
  const desired = virtual.map((ip) => ({
    ip,
    services: ['default/bench'],
    route: { network: ip, length: bits },
    standing: 'here' as const,
    reason: undefined,
  }));
  if (desired.length > 0) virtualDriver.plan(desired, true);
}

function heldVirtual(): number {
  return virtualDriver.linkStatus().addresses;
}

async function ask(requests: readonly AddressRequest[]): Promise<void> {
  const failed = (await rtnetlink.apply(requests)).find(({ ok }) => !ok);
  if (failed !== undefined) throw new Error(JSON.stringify(failed));
}

function nicIndex(name: string): IfIndex {
  const link = rtnetlink
    .observed()
    .links.values()
    .find((candidate) => candidate.name === name);
  if (link === undefined) throw new Error(`no NIC ${name}`);
  return link.index;
}

function addresses(first: string, count: number): readonly Ip[] {
  const base = ipToNumber(first as Ip);
  return Array.from({ length: count }, (_, index) => ipFromNumber(family, base + BigInt(index)));
}

/** Looks at each word of the kernel. */
function until(isDone: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    onTold = () => {
      if (!isDone()) return;
      onTold = () => {};
      resolve();
    };
    onTold();
  });
}

/** Resolves when this process does nothing any more. */
async function quiet(): Promise<void> {
  for (;;) {
    const before = process.cpuUsage();
    await sleep(QUIET_MS);
    const { user, system } = process.cpuUsage(before);
    if ((user + system) / 1000 < IDLE_CPU_MS) return;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function print(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
