import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Ownership } from '../../../src/iface/io/ownership.ts';
import type { Rtnetlink } from '../../../src/iface/io/rtnetlink.ts';
import { VirtualDriver } from '../../../src/iface/io/virtual-driver.ts';
import { addressKey, linkSubject, type ObservedChanges } from '../../../src/iface/observed.ts';
import type { KernelAddress, KernelRequest } from '../../../src/iface/types.ts';
import type { DesiredVirtual } from '../../../src/iface/virtual-types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { prefix, VirtualKernel } from './virtual-kernel.ts';

type Told = { readonly by?: string; readonly addresses?: number; readonly routes?: number };

/** A driver on a kernel that answers when it is let. */
class Host {
  readonly kernel = new VirtualKernel();
  readonly repairs: Told[] = [];
  readonly driver: VirtualDriver;
  #answer: () => void = () => {};

  constructor(t: TestContext) {
    const directory = mkdtempSync(join(tmpdir(), 'lbd-virtual-driver-'));
    const apply = async (requests: readonly KernelRequest[]) => {
      const outcomes = this.kernel.apply(requests);
      await new Promise<void>((resolve) => (this.#answer = resolve));
      return outcomes;
    };
    this.driver = new VirtualDriver({
      // Only what the driver uses.
      rtnetlink: { observed: () => this.kernel, apply } as unknown as Rtnetlink,
      ownership: new Ownership({
        file: join(directory, 'addresses.json'),
        logger: SILENT_LOGGER,
        kernelTags: true,
      }),
      settings: { interface: 'kube-lb0', type: 'auto', routes: undefined },
      logger: {
        ...SILENT_LOGGER,
        warn: (fields: object, text: string) =>
          void (text === 'virtual.repaired' && this.repairs.push(fields)),
      },
    });
    t.after(() => {
      this.driver.close();
      rmSync(directory, { recursive: true, force: true });
    });
  }

  want(...ips: readonly string[]): void {
    const desired = ips.map(
      (ip): DesiredVirtual => ({
        ip: ip as Ip,
        services: [],
        route: prefix(ip.includes(':') ? '2001:db8::/64' : '203.0.113.0/24'),
        standing: 'here',
        reason: undefined,
      }),
    );
    this.driver.plan(desired, true);
  }

  /** The kernel answers what it was asked last, and the driver looks again. */
  async answered(): Promise<void> {
    this.#answer();
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Until nothing is under way. */
  async settled(): Promise<void> {
    for (let asked = -1; asked !== this.kernel.asked.length; await this.answered())
      asked = this.kernel.asked.length;
  }

  /** Somebody takes an address away. */
  remove(ip: string): KernelAddress {
    const found = [...this.kernel.addresses.values()].find((address) => address.ip === ip);
    assert.ok(found !== undefined, ip);
    this.kernel.addresses.delete(addressKey(found));
    return found;
  }

  told(changes: Partial<ObservedChanges>): void {
    const nothing = { present: [], gone: [] };
    this.driver.kernelChanged({ links: nothing, addresses: nothing, routesChanged: false, ...changes });
  }
}

/** Such as the kernel makes up. */
const PORT = 0xffff_f001;
const OTHER_PORT = 0xffff_f002;

test('what somebody does while a batch is under way is put right after it, and named', async (t) => {
  const host = new Host(t);
  host.want('203.0.113.1', '203.0.113.2');
  await host.settled();
  host.want('203.0.113.1', '203.0.113.2', '203.0.113.3');
  const gone = host.remove('203.0.113.2');
  const addresses = { present: [], gone: [gone] };
  host.told({ addresses, askedBy: new Map([[addressKey(gone), PORT]]) });
  assert.equal(host.repairs.length, 0, 'not before the batch is answered');
  await host.settled();
  assert.deepEqual(
    host.repairs.map(({ by, addresses: count }) => [by, count]),
    [[`netlink port ${PORT}`, 1]],
  );
  assert.equal(host.kernel.addresses.size, 3);

  host.told({ addresses: { present: [], gone: [host.remove('203.0.113.1')] } });
  await host.settled();
  assert.equal(host.repairs.at(-1)?.by, undefined, 'another time nobody is named for what he did not do');
});

test('a repair names who changed what it is about', async (t) => {
  const host = new Host(t);
  host.want('203.0.113.1', '2001:db8::1');
  await host.settled();
  const [link] = host.kernel.links.values();
  assert.ok(link !== undefined);
  // One changed the link in a way that is no matter, another took a route away.
  host.kernel.lostRoutes.add('2001:db8::/64');
  const links = { present: [link], gone: [] };
  host.told({
    links,
    routesChanged: true,
    askedBy: new Map<ReturnType<typeof linkSubject>, number>([
      [linkSubject(link), OTHER_PORT],
      ['routes', PORT],
    ]),
  });
  await host.settled();
  assert.deepEqual(
    host.repairs.map(({ by, routes }) => [by, routes]),
    [[`netlink port ${PORT}`, 1]],
  );
});
