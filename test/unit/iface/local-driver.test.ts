import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Entry, LocalState, MemberName } from '../../../src/election/types.ts';
import { decodeArp } from '../../../src/iface/arp-codec.ts';
import { LocalDriver, type NamedReport } from '../../../src/iface/io/local-driver.ts';
import { Ownership } from '../../../src/iface/io/ownership.ts';
import type { RequestOutcome, Rtnetlink } from '../../../src/iface/io/rtnetlink.ts';
import type { Wire } from '../../../src/iface/io/wire.ts';
import { type AddressKey, addressKey, type Observed } from '../../../src/iface/observed.ts';
import type { AddressRequest, KernelAddress, Link, Mac } from '../../../src/iface/types.ts';
import type { WireClaim } from '../../../src/iface/wire-claims.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { NEVER } from '../../../src/lib/time.ts';
import { defaultRoute, ETH0, kernelAddress, link } from '../../support/fake-host.ts';
import { waitFor } from '../../support/wait.ts';

const X = '192.0.2.10' as Ip;
const Y = '192.0.2.11' as Ip;

/** A kernel that keeps no tag, behind the real driver, clock and record; the wire takes everything and is silent. */
class OldKernel {
  readonly directory = mkdtempSync(join(tmpdir(), 'lbd-driver-'));
  readonly addresses = new Map<AddressKey, KernelAddress>();
  readonly asked: string[] = [];
  readonly reports: NamedReport[] = [];
  /** What the kernel answers to an add, by address. */
  readonly errors = new Map<Ip, string>();
  readonly changes: (readonly [Ip, LocalState])[] = [];
  readonly claims: WireClaim[] = [];
  readonly frames: Uint8Array[] = [];
  beforeStep: () => void = () => {};
  /** While set, the kernel is busy. */
  busy: Promise<void> | undefined;
  driver: LocalDriver;
  links: readonly Link[] = [link(ETH0, 'eth0')];

  constructor(t: TestContext) {
    this.put(kernelAddress(ETH0, '192.0.2.2' as Ip, 24, undefined, Number.POSITIVE_INFINITY));
    this.driver = this.#open();
    t.after(() => {
      this.driver.close();
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  #open(): LocalDriver {
    const observed = (): Observed => ({
      links: new Map(this.links.map((each) => [each.index, each])),
      addresses: this.addresses,
      routes: [defaultRoute(ETH0, '192.0.2.1' as Ip)],
      ownRoutes: [],
      connectedRoutes: [],
      hostRoutes: new Set(),
      v6Count: 0,
    });
    const apply = async (requests: readonly AddressRequest[]) => {
      const outcomes = requests.map((request) => this.#apply(request));
      await this.busy;
      return outcomes;
    };
    const send = (_: number, frames: readonly Uint8Array[]) => {
      this.frames.push(...frames);
      return { sent: frames.length, unsent: [] };
    };
    const wire = { watch() {}, unwatch() {}, send };
    return new LocalDriver({
      // Only what the driver uses of both.
      rtnetlink: { observed, apply } as unknown as Rtnetlink,
      wire: wire as unknown as Wire,
      ownership: new Ownership({ file: this.record, logger: SILENT_LOGGER, kernelTags: false }),
      settings: { prefix: 'host', lifetimeMs: 30_000 },
      rules: { interfaces: [] },
      logger: SILENT_LOGGER,
      onReport: (report) => void this.reports.push(report),
      onChange: () => {},
      onLocalChange: (changes) => void this.changes.push(...changes),
      onClaim: (_, claim) => void this.claims.push(claim),
      beforeStep: () => this.beforeStep(),
    });
  }

  /** A new process in place of the old one: it knows what the record and the kernel say. */
  restart(): void {
    this.driver.close();
    this.driver = this.#open();
    this.driver.start();
  }

  get record(): string {
    return join(this.directory, 'addresses.json');
  }

  grant(entry: Entry, ...ips: readonly Ip[]): void {
    this.driver.plan(
      ips.map((ip) => ({ ip, services: ['default/a'], entry })),
      [],
    );
  }

  want(...ips: readonly Ip[]): void {
    this.driver.plan(
      ips.map((ip) => ({ ip, services: ['default/a'] })),
      [],
    );
  }

  put(address: KernelAddress): void {
    this.addresses.set(addressKey(address), address);
  }

  has(ip: Ip): boolean {
    return [...this.addresses.values()].some((address) => address.ip === ip);
  }

  state(ip: Ip): string | undefined {
    return this.driver.statuses().find((status) => status.ip === ip)?.state;
  }

  reason(ip: Ip): string {
    return this.driver.statuses().find((status) => status.ip === ip)?.reason ?? '';
  }

  until(ip: Ip, state: string | undefined): Promise<boolean> {
    return waitFor(() => this.state(ip) === state, { describe: `${ip} to be ${state}` });
  }

  #apply(request: AddressRequest): RequestOutcome {
    this.asked.push(`${request.kind} ${request.ip}`);
    const errno = request.kind === 'add' ? this.errors.get(request.ip) : undefined;
    if (errno !== undefined) return { ok: false, request, errno, message: errno };
    const key = addressKey(request);
    const before = this.addresses.get(key);
    const changes = { links: { present: [], gone: [] }, routesChanged: false };
    if (request.kind === 'delete') {
      if (before === undefined) return { ok: false, request, errno: 'EADDRNOTAVAIL', message: 'not there' };
      this.addresses.delete(key);
      setImmediate(() => {
        if (!this.addresses.has(key)) {
          this.driver.kernelChanged({ ...changes, addresses: { present: [], gone: [before] } });
        }
      });
      return { ok: true, request };
    }
    const { ifIndex, ip, prefixLength, validSeconds } = request;
    const address = kernelAddress(ifIndex, ip, prefixLength, undefined, validSeconds);
    this.addresses.set(key, address);
    setImmediate(() =>
      this.driver.kernelChanged({ ...changes, addresses: { present: [address], gone: [] } }),
    );
    return { ok: true, request };
  }
}

test('on a kernel without the tag an address is added, known as ours, and removed', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.want(X);
  await kernel.until(X, 'held');
  // The kernel's own notification of it has come: it is not taken for somebody else's.
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(kernel.state(X), 'held');
  kernel.want();
  await waitFor(() => !kernel.has(X), { describe: `${X} to go` });
  assert.deepEqual(kernel.asked, [`add ${X}`, `delete ${X}`]);
});

test('an address that was taken away before the kernel had answered for it is not believed to be there', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  const busy = Promise.withResolvers<void>();
  kernel.busy = busy.promise;
  kernel.want(X);
  await waitFor(() => kernel.has(X), { describe: `${X} to be added` });
  const gone = [...kernel.addresses.values()].filter(({ ip }) => ip === X);
  for (const address of gone) kernel.addresses.delete(addressKey(address));
  const changes = { links: { present: [], gone: [] }, routesChanged: false };
  kernel.driver.kernelChanged({ ...changes, addresses: { present: [], gone } });
  kernel.busy = undefined;
  busy.resolve();
  await waitFor(() => kernel.has(X) && kernel.state(X) === 'held', { describe: `${X} to be there again` });
  assert.deepEqual(kernel.asked, [`add ${X}`, `add ${X}`]);
});

test('an address that cannot be recorded is not added, and why is shown', async (t) => {
  const kernel = new OldKernel(t);
  mkdirSync(`${kernel.record}.new`);
  kernel.driver.start();
  kernel.want(X);
  await kernel.until(X, 'failed');
  assert.match(kernel.reason(X), /^cannot record lbd's addresses in ".*", which this kernel/);
  assert.deepEqual(kernel.asked, []);
  assert.equal(kernel.has(X), false);
  rmSync(`${kernel.record}.new`, { recursive: true });
  await kernel.until(X, 'held');
});

test('while nothing can be recorded what is there is still removed', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.want(X);
  await kernel.until(X, 'held');
  kernel.driver.plan([{ ip: X, services: [] }], [Y]);
  await waitFor(() => kernel.driver.verdict(Y).kind === 'usable', { describe: `${Y} to be probed` });
  mkdirSync(`${kernel.record}.new`);
  // Both in one batch: Y needs no probe any more.
  kernel.want(Y);
  await kernel.until(Y, 'failed');
  await waitFor(() => !kernel.has(X), { describe: `${X} to go` });
  assert.equal(kernel.has(Y), false);
});

test('an address given back and taken again at once stays ours', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.want(X);
  await kernel.until(X, 'held');
  for (let round = 0; round < 5; round++) {
    kernel.want();
    kernel.want(X);
    await kernel.until(X, 'held');
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(kernel.state(X), 'held', `round ${round}`);
  }
  kernel.want();
  await waitFor(() => !kernel.has(X), { describe: `${X} to go` });
});

test('an address that somebody else put there first is not ours because we tried: it is never removed', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.errors.set(X, 'EEXIST');
  kernel.want(X);
  await kernel.until(X, 'foreign');
  const theirs = kernelAddress(ETH0, X, 32, undefined, Number.POSITIVE_INFINITY);
  kernel.put(theirs);
  const changes = { links: { present: [], gone: [] }, routesChanged: false };
  kernel.driver.kernelChanged({ ...changes, addresses: { present: [theirs], gone: [] } });
  assert.equal(kernel.state(X), 'foreign');
  kernel.want();
  await kernel.driver.removeAll();
  assert.ok(kernel.has(X));
  assert.deepEqual(kernel.asked, [`add ${X}`]);
});

test('a restart adopts what is recorded and there, and nothing else', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.want(X);
  await kernel.until(X, 'held');
  kernel.put(kernelAddress(ETH0, Y, 32, undefined, 20));
  kernel.restart();
  assert.deepEqual([kernel.state(X), kernel.state(Y)], ['held', undefined]);
  kernel.want();
  await waitFor(() => !kernel.has(X), { describe: `${X} to go` });
  assert.ok(kernel.has(Y));
});

test('what expired while lbd was away and was put back by somebody else is not ours', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.want(X);
  await kernel.until(X, 'held');
  const expired = [...kernel.addresses].filter(([, address]) => address.ip === X);
  kernel.driver.close();
  for (const [key] of expired) kernel.addresses.delete(key);
  kernel.restart();
  for (const [, address] of expired) kernel.put(address);
  kernel.restart();
  kernel.want();
  await kernel.driver.removeAll();
  assert.ok(kernel.has(X));
});

const HAND_OVER: Entry = { kind: 'hand-over', from: 'node-a' as MemberName, until: NEVER };
const OTHERS = '02:00:00:00:00:99' as Mac;

/** The kernel does not answer until the returned function is called. */
function hold(kernel: OldKernel): () => void {
  let release = () => {};
  kernel.busy = new Promise((resolve) => {
    release = resolve;
  });
  return () => {
    kernel.busy = undefined;
    release();
  };
}

test('what an address has come to is told in the turn in which the kernel says so', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.grant(HAND_OVER, X);
  assert.deepEqual(kernel.changes, [[X, 'taking']]);
  await kernel.until(X, 'held');
  assert.deepEqual(kernel.changes.at(-1), [X, 'held']);
  assert.equal(kernel.driver.state(X), 'held');
  kernel.driver.withdraw([X]);
  assert.deepEqual(kernel.changes.at(-1), [X, 'absent']);
  await waitFor(() => !kernel.has(X), { describe: `${X} to go` });
});

test('a removal overtakes what waits to be added, and what was withdrawn is not added any more', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.grant(HAND_OVER, X);
  await kernel.until(X, 'held');
  const release = hold(kernel);
  const ips = Array.from({ length: 200 }, (_, index) => `192.0.2.${20 + index}` as Ip);
  kernel.grant(HAND_OVER, X, ...ips);
  const withdrawn = ips.at(-1) ?? X;
  kernel.driver.withdraw([X, withdrawn]);
  release();
  await kernel.until(ips.at(-2) ?? X, 'held');
  const asked = (line: string) => kernel.asked.indexOf(line);
  assert.ok(asked(`delete ${X}`) <= 1 + 64, `removed after ${asked(`delete ${X}`)} requests`);
  assert.equal(asked(`add ${withdrawn}`), -1);
  assert.equal(kernel.state(withdrawn), undefined);
});

test('what waits to be renewed is not, once that is forbidden', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.grant(HAND_OVER, X);
  await kernel.until(X, 'held');
  const release = hold(kernel);
  kernel.grant(HAND_OVER, X, Y);
  // Two requests for a renewal: the first of these waits behind the addition.
  kernel.driver.allowRenewals(false);
  kernel.driver.allowRenewals(true);
  kernel.driver.allowRenewals(false);
  release();
  await kernel.until(Y, 'held');
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(kernel.asked, [`add ${X}`, `add ${Y}`]);
  kernel.driver.allowRenewals(true);
  await waitFor(() => kernel.asked.includes(`replace ${X}`), { describe: 'a renewal' });
});

test('the election has its say before anything is decided here', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  kernel.beforeStep = () => kernel.driver.allowRenewals(false);
  kernel.grant(HAND_OVER, X);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(kernel.has(X), false);
  kernel.beforeStep = () => {};
  kernel.driver.allowRenewals(true);
  await kernel.until(X, 'held');
});

test('every claim is passed on, also of addresses that concern nobody here', (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  const claim: WireClaim = { ip: '192.0.2.1' as Ip, mac: OTHERS, kind: 'has' };
  kernel.driver.claimHeard(ETH0, claim);
  assert.deepEqual(kernel.claims, [claim]);
});

test('askReference() asks everybody, from the host’s own address', (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  const [gateway] = kernel.driver.gateways(ETH0);
  assert.equal(gateway, '192.0.2.1');
  const far = '198.51.100.1' as Ip;
  assert.equal(kernel.driver.askReference(ETH0, [gateway, X, far]), 2);
  const asked = kernel.frames.map((frame) => {
    const decoded = decodeArp(frame);
    assert.ok(decoded.ok);
    const { senderIp, targetIp, ethernetDestination } = decoded.value;
    return [senderIp, targetIp, ethernetDestination];
  });
  assert.deepEqual(asked, [
    ['192.0.2.2', '192.0.2.1', 'ff:ff:ff:ff:ff:ff'],
    ['192.0.2.2', X, 'ff:ff:ff:ff:ff:ff'],
  ]);
});

test('what is to be added does not wait for the renewals of hundreds', async (t) => {
  const kernel = new OldKernel(t);
  kernel.driver.start();
  const many = Array.from({ length: 200 }, (_, at) => `192.0.2.${at + 20}` as Ip);
  kernel.grant(HAND_OVER, ...many);
  await waitFor(() => many.every((ip) => kernel.state(ip) === 'held'), { describe: 'all to be held' });
  kernel.asked.length = 0;
  // Renews all, in batches, of which the first goes at once.
  kernel.driver.reconfigure({ prefix: 'host', lifetimeMs: 60_000 }, { interfaces: [] });
  kernel.grant(HAND_OVER, ...many, X);
  await kernel.until(X, 'held');
  await waitFor(() => kernel.asked.length === many.length + 1, { describe: 'all to be renewed' });
  const before = kernel.asked.indexOf(`add ${X}`);
  assert.ok(before < many.length / 2, `${before} renewals went first`);
});
