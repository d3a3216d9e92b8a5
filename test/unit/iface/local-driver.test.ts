import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LocalDriver, type NamedReport } from '../../../src/iface/io/local-driver.ts';
import { Ownership } from '../../../src/iface/io/ownership.ts';
import type { RequestOutcome, Rtnetlink } from '../../../src/iface/io/rtnetlink.ts';
import type { Wire } from '../../../src/iface/io/wire.ts';
import { type AddressKey, addressKey, type Observed } from '../../../src/iface/observed.ts';
import type { AddressRequest, KernelAddress, Link } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
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
    });
    const apply = (requests: readonly AddressRequest[]) =>
      Promise.resolve(requests.map((request) => this.#apply(request)));
    const wire = { watch() {}, unwatch() {}, send: () => ({ sent: 1, dropped: 0 }) };
    return new LocalDriver({
      // Only what the driver uses of both.
      rtnetlink: { observed, apply } as unknown as Rtnetlink,
      wire: wire as unknown as Wire,
      ownership: new Ownership({ file: this.record, logger: SILENT_LOGGER, kernelTags: false }),
      settings: { prefix: 'host', lifetimeMs: 30_000 },
      patterns: [],
      logger: SILENT_LOGGER,
      onReport: (report) => void this.reports.push(report),
      onChange: () => {},
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
