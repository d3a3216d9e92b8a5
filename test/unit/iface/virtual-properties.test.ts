import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IFF_UP } from '../../../src/iface/netlink-constants.ts';
import { hasLbdTag } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, KernelAddress, Link } from '../../../src/iface/types.ts';
import { VirtualAddresses } from '../../../src/iface/virtual-addresses.ts';
import { isVirtualLink } from '../../../src/iface/virtual-link.ts';
import type { DesiredVirtual, VirtualSettings } from '../../../src/iface/virtual-types.ts';
import { FAMILY_BITS, familyOf, formatPrefix, type Ip, prefixOf } from '../../../src/lib/ip.ts';
import type { Instant } from '../../../src/lib/time.ts';
import { foreignAddress, VirtualKernel } from './virtual-kernel.ts';

/**
 * Random wishes and random interference from outside: lbd always gets to what is wanted, is then content, and never
 * changes what it did not make.
 */

const IPS = [
  ...['203.0.113.1', '203.0.113.2', '203.0.113.77', '203.0.114.1', '198.51.100.9'],
  ...['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1', '2001:db8:5::9'],
] as Ip[];

const SETTINGS: readonly VirtualSettings[] = [
  { interface: 'kube-lb0', type: 'auto', routes: undefined },
  { interface: 'kube-lb0', type: 'bridge', routes: undefined },
  { interface: 'kube-lb0', type: 'auto', routes: { table: 1000, protocol: 108 } },
  { interface: 'lb1', type: 'dummy', routes: { table: 254, protocol: 200 } },
];

type Action =
  | { readonly kind: 'want'; readonly wanted: readonly DesiredVirtual[] }
  | { readonly kind: 'restart'; readonly settings: VirtualSettings }
  /** Outside changes of what is lbd's. */
  | { readonly kind: 'lose'; readonly pick: number }
  | { readonly kind: 'alter'; readonly pick: number; readonly change: Partial<KernelAddress> }
  | { readonly kind: 'link-down' | 'link-gone' | 'routes-gone' }
  /** Outside things that lbd has to live with. */
  | { readonly kind: 'foreign-address'; readonly text: string }
  | { readonly kind: 'foreign-gone' }
  | { readonly kind: 'refuse'; readonly what: 'add' | 'create-link' | 'delete'; readonly errno: string }
  | { readonly kind: 'relent' };

const wanted: fc.Arbitrary<readonly DesiredVirtual[]> = fc
  .uniqueArray(
    fc.record({
      ip: fc.constantFrom(...IPS),
      aggregate: fc.constantFrom(undefined, 24, 16),
      standing: fc.constantFrom('here' as const, 'here' as const, 'unknown' as const, 'elsewhere' as const),
    }),
    { selector: ({ ip }) => ip },
  )
  .map((chosen) =>
    chosen.map(({ ip, aggregate, standing }) => {
      const bits = FAMILY_BITS[familyOf(ip)];
      const length = aggregate === undefined ? bits : familyOf(ip) === 'v4' ? aggregate : aggregate + 40;
      return { ip, services: ['a/b'], route: prefixOf(ip, length), standing, reason: undefined };
    }),
  );

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 5, arbitrary: wanted.map((list): Action => ({ kind: 'want', wanted: list })) },
  fc.constantFrom(...SETTINGS).map((settings): Action => ({ kind: 'restart', settings })),
  { weight: 3, arbitrary: fc.nat(20).map((pick): Action => ({ kind: 'lose', pick })) },
  fc
    .record({
      pick: fc.nat(20),
      // Not of the tag: whoever is observed to take it off is not believed (`ObservedState`).
      change: fc.constantFrom<Partial<KernelAddress>>(
        { validSeconds: 10, preferredSeconds: 5 },
        { scope: 0 },
      ),
    })
    .map((drawn): Action => ({ kind: 'alter', ...drawn })),
  fc.constantFrom<Action>({ kind: 'link-down' }, { kind: 'link-gone' }, { kind: 'routes-gone' }),
  fc
    .constantFrom('192.0.2.1/32', '192.0.2.1/24', '2001:db8:ffff::1/64')
    .map((text): Action => ({ kind: 'foreign-address', text })),
  fc.constant<Action>({ kind: 'foreign-gone' }),
  fc
    .record({
      what: fc.constantFrom('add' as const, 'create-link' as const, 'delete' as const),
      errno: fc.constantFrom('EPERM', 'ENOBUFS', 'ENOMEM', 'EEXIST', 'EOPNOTSUPP', 'ENODEV', 'EADDRNOTAVAIL'),
    })
    .map((drawn): Action => ({ kind: 'refuse', ...drawn })),
  fc.constant<Action>({ kind: 'relent' }),
);

class World {
  readonly kernel = new VirtualKernel();
  settings: VirtualSettings = SETTINGS[0] as VirtualSettings;
  machine: VirtualAddresses;
  wanted: readonly DesiredVirtual[] = [];
  nowMs = 0;
  /** Somebody else's: NICs, and addresses on them and on lbd's link. */
  readonly strangers: Link;
  #foreign: KernelAddress[] = [];

  constructor() {
    this.machine = this.#machine();
    this.strangers = this.kernel.addLink('eth0', undefined, '02:00:00:00:00:01', { flags: IFF_UP });
    this.kernel.put(foreignAddress(this.strangers.index, '10.0.0.1/24'));
  }

  #machine(): VirtualAddresses {
    return new VirtualAddresses({ settings: this.settings, isOurs: hasLbdTag, kernelTags: true });
  }

  get #own(): IfIndex | undefined {
    return [...this.kernel.links.values()].find(isVirtualLink)?.index;
  }

  do(what: Action): void {
    const own = this.#own;
    switch (what.kind) {
      case 'want':
        this.wanted = what.wanted;
        this.machine.want(what.wanted, true);
        break;
      case 'restart':
        this.settings = what.settings;
        this.machine = this.#machine();
        this.machine.want(this.wanted, true);
        break;
      case 'lose':
      case 'alter': {
        const ours = [...this.kernel.addresses.values()].filter(hasLbdTag);
        const victim = ours[what.pick % Math.max(1, ours.length)];
        if (victim === undefined) break;
        if (what.kind === 'alter') this.kernel.put({ ...victim, ...what.change });
        else this.kernel.apply([{ kind: 'delete', ...victim }]);
        break;
      }
      case 'link-down':
        if (own !== undefined) this.kernel.setFlags(own, 0);
        this.#forgetFlushed();
        break;
      case 'routes-gone':
        if (own !== undefined)
          for (const { destination } of this.kernel.connectedRoutes ?? [])
            this.kernel.lostRoutes.add(formatPrefix(destination));
        break;
      case 'link-gone':
        if (own !== undefined) this.kernel.deleteLink(own);
        this.#forgetFlushed();
        break;
      case 'foreign-address': {
        if (own === undefined) break;
        const address = foreignAddress(own, what.text);
        this.kernel.put(address);
        this.#foreign = [...this.#foreign.filter(({ ip }) => ip !== address.ip), address];
        break;
      }
      case 'foreign-gone':
        for (const { ifIndex, ip, prefixLength } of this.#foreign)
          this.kernel.apply([{ kind: 'delete', ifIndex, ip, prefixLength }]);
        for (const { ip } of this.#foreign)
          for (const [key, address] of this.kernel.addresses)
            if (address.ip === ip) this.kernel.addresses.delete(key);
        this.#foreign = [];
        break;
      case 'refuse':
        this.kernel.errors.set(what.what, what.errno);
        break;
      case 'relent':
        this.kernel.errors.clear();
        break;
      default:
        what satisfies never;
    }
  }

  /** What went with its link, or when that went down, nobody has any more. */
  #forgetFlushed(): void {
    const there = new Set([...this.kernel.addresses.values()].map(({ ip }) => ip));
    this.#foreign = this.#foreign.filter(({ ip }) => there.has(ip));
  }

  /** One look of the driver. */
  turn(): void {
    const requests = this.machine.requests(this.kernel, this.nowMs as Instant);
    this.machine.answered(this.kernel.apply(requests), this.nowMs as Instant);
    this.checkStrangers();
  }

  checkStrangers(): void {
    assert.deepEqual(this.kernel.links.get(this.strangers.index), this.strangers);
    assert.equal(this.kernel.on(this.strangers.index).length, 1);
    for (const { ip } of this.#foreign) {
      const found = [...this.kernel.addresses.values()].find((address) => address.ip === ip);
      assert.ok(found !== undefined, `${ip}, which somebody else put there, is still there`);
      assert.equal(found.protocol, undefined);
    }
  }

  /** Without further interference, and with a kernel that does what it is asked. */
  converge(): void {
    this.do({ kind: 'relent' });
    this.do({ kind: 'foreign-gone' });
    for (let round = 0; round < 20; round++) {
      this.nowMs += 31_000;
      this.turn();
      this.turn();
    }
    assert.deepEqual(this.machine.requests(this.kernel, this.nowMs as Instant), [], 'it is content');
    this.#checkWanted();
  }

  #checkWanted(): void {
    const link = this.kernel.linkOf(this.settings.interface);
    const own = [...this.kernel.links.values()].filter(isVirtualLink);
    const isOwn = link !== undefined && isVirtualLink(link);
    assert.ok(own.length <= 1 && own.every(({ name }) => name === this.settings.interface));
    const here = this.wanted.filter(({ standing }) => standing === 'here');
    if (here.length > 0) assert.ok(isOwn && (link.flags & IFF_UP) !== 0);
    if (!isOwn) return;
    const shown = this.kernel.on(link.index);
    for (const { ip, route } of here) {
      const copies = shown.filter((address) => address.ip === ip);
      const length = this.settings.routes === undefined ? route.length : FAMILY_BITS[familyOf(ip)];
      assert.deepEqual(
        copies.map(({ prefixLength, validSeconds, protocol }) => [prefixLength, validSeconds, protocol]),
        [[length, Infinity, 108]],
        ip,
      );
    }
    const may = new Set(this.wanted.filter(({ standing }) => standing !== 'elsewhere').map(({ ip }) => ip));
    for (const { ip } of shown) assert.ok(may.has(ip), `${ip} is not wanted here`);
    const routes = this.settings.routes === undefined ? this.kernel.connected(link.index) : this.#ownRoutes();
    for (const { route } of here) assert.ok(routes.includes(formatPrefix(route)), formatPrefix(route));
    if (this.wanted.every(({ standing }) => standing !== 'unknown'))
      assert.deepEqual(routes, [...new Set(here.map(({ route }) => formatPrefix(route)))].sort());
  }

  #ownRoutes(): readonly string[] {
    return this.kernel.ownRoutes.map(({ destination }) => formatPrefix(destination)).sort();
  }
}

test('property: whatever is wanted and whoever interferes, the kernel gets to what is wanted and strangers are left alone', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(action, fc.nat(2), fc.nat(40_000)), { maxLength: 40 }), (story) => {
      const world = new World();
      for (const [what, turns, pauseMs] of story) {
        world.do(what);
        for (let turn = 0; turn < turns; turn++) world.turn();
        world.nowMs += pauseMs;
      }
      world.converge();
    }),
    { numRuns: 2_000 },
  );
});

test('property: what stays wanted is never absent because of lbd', () => {
  fc.assert(
    fc.property(fc.array(wanted, { minLength: 2, maxLength: 20 }), (wishes) => {
      const world = new World();
      let before: readonly DesiredVirtual[] = [];
      for (const wish of wishes) {
        world.do({ kind: 'want', wanted: wish });
        const stays = wish.filter(({ ip, standing, route }) => {
          const was = before.find((other) => other.ip === ip);
          const isKept = was?.standing === 'here' && standing === 'here';
          return isKept && (familyOf(ip) === 'v4' || was.route.length === route.length);
        });
        const requests = world.machine.requests(world.kernel, world.nowMs as Instant);
        for (const request of requests) {
          world.machine.answered(world.kernel.apply([request]), world.nowMs as Instant);
          const there = new Set([...world.kernel.addresses.values()].map(({ ip }) => ip));
          for (const { ip } of stays) assert.ok(there.has(ip), `${ip} after ${JSON.stringify(request)}`);
        }
        world.nowMs += 2_000;
        while (world.machine.requests(world.kernel, world.nowMs as Instant).length > 0) world.turn();
        before = wish;
      }
    }),
    { numRuns: 500 },
  );
});
