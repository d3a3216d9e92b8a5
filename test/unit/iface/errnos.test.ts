import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressStatuses } from '../../../src/iface/local-status.ts';
import type { Program } from '../../../src/iface/local-types.ts';
import { hasLbdTag } from '../../../src/iface/nic-selection.ts';
import type { KernelRequest } from '../../../src/iface/types.ts';
import { VirtualAddresses } from '../../../src/iface/virtual-addresses.ts';
import { virtualMac } from '../../../src/iface/virtual-link.ts';
import type { DesiredVirtual, VirtualReport, VirtualSettings } from '../../../src/iface/virtual-types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';
import { FakeHost } from '../../support/fake-host.ts';
import { prefix, VirtualKernel } from './virtual-kernel.ts';

/**
 * Every operation on the kernel, failing with every errno that it can plausibly fail with: nothing crashes, nothing
 * spins, status says the kernel's words, and when the fault is over all is as it should be.
 */

const VIP = '192.0.2.10';
const OTHER = '192.0.2.11';
/** Longer than any pause between two attempts. */
const RECOVERY_MS = 31_000;
/** For how long the fault lasts. */
const FAULT_MS = 60_000;

/** What rtnetlink answers to addresses (net/ipv4/devinet.c, net/ipv6/addrconf.c, net/netlink/af_netlink.c). */
const ERRNOS = [
  'EPERM', // without CAP_NET_ADMIN
  'EACCES', // v6 with disable_ipv6
  'EEXIST',
  'ENODEV', // the NIC went in the meantime
  'ENOBUFS', // no memory for the answer, or for the address
  'ENOMEM',
  'EADDRNOTAVAIL', // it is not there
  'EOPNOTSUPP', // an attribute that this kernel does not know
  'EINVAL',
  'EIO', // the answer was lost
  'ETIMEDOUT',
];

/** Attempts within FAULT_MS with pauses of 1, 2, 4, 8, 16, 30 s. */
const ATTEMPTS_MAX = 8;

function refuse(host: FakeHost, errno: string): void {
  host.refusals.set(VIP as Ip, { errno, message: `add ${VIP}/32 on eth0: ${errno}` });
}

function asked(host: FakeHost, op: Program['op']): number {
  return host.programs.flatMap(({ requests }) => requests).filter((each) => each.ip === VIP && each.op === op)
    .length;
}

function reason(host: FakeHost): string {
  return addressStatuses(host.machine, host.now).find(({ ip }) => ip === VIP)?.reason ?? '';
}

describe('a local address', () => {
  for (const errno of ERRNOS) {
    test(`that the kernel refuses with ${errno} is shown, asked for less and less, and held once it is granted`, () => {
      const host = new FakeHost().start();
      refuse(host, errno);
      host.want(VIP, OTHER).advance(FAULT_MS);
      assert.equal(host.status(OTHER), 'held', 'others do not suffer');
      assert.equal(host.holds(VIP), false);
      const attempts = asked(host, 'add');
      // Somebody else's address in its place may go at any time, and is looked for every second.
      const most = errno === 'EEXIST' ? FAULT_MS / 1_000 : ATTEMPTS_MAX;
      assert.ok(attempts >= 2 && attempts <= most, `${attempts} attempts`);
      const expected = errno === 'EEXIST' ? /already on this NIC/ : new RegExp(errno);
      assert.match(reason(host), expected);
      const told = host.reports.filter((each) => 'ip' in each && each.ip === VIP);
      assert.ok(told.length <= attempts + 1, `${told.length} reports`);
      host.refusals.clear();
      host.advance(RECOVERY_MS);
      assert.equal(host.status(VIP), 'held');
      assert.ok(host.holds(VIP));
      assert.equal(reason(host), '');
    });

    test(`whose renewals fail with ${errno} says so, is asked for a few times, and goes on or is taken anew`, () => {
      const host = new FakeHost().start().want(VIP, OTHER).advance(500);
      host.programs.length = 0;
      refuse(host, errno);
      host.advance(12_000);
      assert.equal(host.status(VIP), 'held');
      if (errno !== 'EEXIST') assert.match(reason(host), new RegExp(errno));
      assert.ok(asked(host, 'renew') <= 10, `${asked(host, 'renew')} renewals`);
      host.advance(FAULT_MS);
      assert.equal(host.holds(VIP), false, 'the kernel let it go');
      assert.equal(host.status(OTHER), 'held');
      const all = host.programs.flatMap(({ requests }) => requests).filter(({ ip }) => ip === VIP).length;
      assert.ok(all <= (errno === 'EEXIST' ? 80 : 30), `${all} requests in ${FAULT_MS} ms`);
      host.refusals.clear();
      host.advance(RECOVERY_MS);
      assert.equal(host.status(VIP), 'held');
      assert.ok(host.holds(VIP));
    });

    test(`that cannot be put back with ${errno} is put back when that is over`, () => {
      const host = new FakeHost().start().want(VIP, OTHER).advance(500);
      host.programs.length = 0;
      refuse(host, errno);
      host.removeByHand(VIP);
      host.advance(FAULT_MS);
      assert.equal(host.holds(VIP), false);
      const all = host.programs.flatMap(({ requests }) => requests).filter(({ ip }) => ip === VIP).length;
      assert.ok(all <= (errno === 'EEXIST' ? 80 : 40), `${all} requests`);
      host.refusals.clear();
      host.advance(RECOVERY_MS);
      assert.ok(host.holds(VIP));
      assert.equal(host.status(VIP), 'held');
    });

    test(`that cannot be removed for ${errno} is told, not asked for in a loop, and no obstacle later`, () => {
      const host = new FakeHost().start().want(VIP, OTHER).advance(5_000);
      host.programs.length = 0;
      refuse(host, errno);
      host.want(OTHER).advance(FAULT_MS);
      assert.ok(asked(host, 'remove') <= ATTEMPTS_MAX, `${asked(host, 'remove')} removals`);
      assert.equal(host.holds(VIP), false, 'its lifetime ended');
      const isNews = errno !== 'EADDRNOTAVAIL' && errno !== 'ENODEV';
      assert.equal(
        host.reports.some(({ kind }) => kind === 'remove-failed'),
        isNews,
      );
      host.refusals.clear();
      host.want(VIP, OTHER).advance(RECOVERY_MS);
      assert.equal(host.status(VIP), 'held');
    });
  }

  test('that is on the NIC with another tag and other flags is somebody else’s, until he takes it off', () => {
    const host = new FakeHost().start();
    host.putHostAddress(2 as never, VIP as Ip, 32);
    host.observe();
    host.want(VIP).advance(FAULT_MS);
    assert.equal(host.holds(VIP), false);
    assert.match(reason(host), new RegExp(`${VIP}`));
    assert.equal(asked(host, 'add') + asked(host, 'renew') + asked(host, 'remove'), 0);
    host.removeByHand(VIP);
    host.advance(RECOVERY_MS);
    assert.ok(host.holds(VIP));
  });
});

/** The machine of virtual addresses as its driver runs it: asked again after each answer, and at its deadline. */
class VirtualHost {
  readonly kernel = new VirtualKernel();
  readonly #machine: VirtualAddresses;
  #now: Instant = instant(1_000);

  constructor({ routes }: Pick<VirtualSettings, 'routes'>) {
    const settings: VirtualSettings = { interface: 'kube-lb0', type: 'dummy', routes };
    this.#machine = new VirtualAddresses({ settings, isOurs: hasLbdTag, kernelTags: true });
  }

  want(...wanted: readonly DesiredVirtual[]): void {
    this.#machine.want(wanted, true);
  }

  run(ms: number): void {
    const until = this.#now + ms;
    for (let rounds = 0; rounds < 1_000; rounds++) {
      const requests = this.#machine.requests(this.kernel, this.#now);
      if (requests.length > 0) {
        this.#machine.answered(this.kernel.apply(requests), this.#now);
        continue;
      }
      const next = this.#machine.deadline();
      if (next > until) {
        this.#now = instant(until);
        return;
      }
      this.#now = instant(Math.max(this.#now, next));
    }
    assert.fail(`it spins at ${this.#now}`);
  }

  /**
   * During FAULT_MS the kernel was asked so for each of `targets`, and less and less often. What it said `isGone` is believed
   * to be: its notification would come at once, and here none does.
   */
  assertAskedSeldom(kind: KernelRequest['kind'], isGone: boolean, targets = 1): void {
    const count = this.kernel.asked.filter((request) => request.kind === kind).length;
    const most = isGone ? 4 * (FAULT_MS / 1_000) : ATTEMPTS_MAX;
    assert.ok(count >= 1 && count <= most * targets, `${count} requests`);
  }

  addresses(): readonly string[] {
    const link = this.kernel.linkOf('kube-lb0');
    if (link === undefined) return [];
    return this.kernel.on(link.index).map(({ ip, prefixLength }) => `${ip}/${prefixLength}`);
  }

  reports(): readonly VirtualReport[] {
    return this.#machine.takeReports();
  }

  state(ip: Ip): string {
    const status = this.#machine.statuses(this.kernel, this.#now).find((each) => each.ip === ip);
    return status?.reason === undefined ? (status?.state ?? 'absent') : `${status.state}: ${status.reason}`;
  }
}

const A = {
  ip: '203.0.113.1' as Ip,
  services: ['default/web'],
  route: prefix('203.0.113.0/24'),
  standing: 'here',
  reason: undefined,
} as const;
const B = { ...A, ip: '203.0.113.2' as Ip };

/** What each request may fail with, and whether it can be told at all. */
const VIRTUAL: readonly (readonly [KernelRequest['kind'], readonly string[]])[] = [
  ['create-link', ['EPERM', 'EEXIST', 'ENOMEM', 'ENOBUFS', 'EINVAL', 'EIO']],
  ['configure-link', ['EPERM', 'ENODEV', 'EOPNOTSUPP', 'EAFNOSUPPORT', 'EINVAL', 'ENOBUFS', 'EIO']],
  ['raise-link', ['EPERM', 'ENODEV', 'ENOBUFS', 'EIO']],
  ['add', ['EPERM', 'EEXIST', 'ENODEV', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL', 'EOPNOTSUPP', 'EACCES', 'EIO']],
  ['add-route', ['EPERM', 'EEXIST', 'ENODEV', 'ENETDOWN', 'ENOBUFS', 'ENOMEM', 'EIO']],
];

describe('a virtual address', () => {
  for (const [kind, errnos] of VIRTUAL) {
    for (const errno of errnos) {
      test(`with ${errno} for ${kind}: asked for less and less, told once, and there when that is over`, () => {
        const routes = kind === 'add-route' ? { table: 100, protocol: 108 } : undefined;
        const host = new VirtualHost({ routes });
        host.kernel.errors.set(kind, errno);
        host.want(A, B);
        host.run(FAULT_MS);
        host.assertAskedSeldom(kind, errno === 'ENODEV', kind === 'add' ? 2 : 1);
        const reports: readonly VirtualReport[] = host.reports();
        assert.ok(reports.length <= 12, JSON.stringify(reports));
        if (kind === 'add' && errno !== 'ENODEV') {
          assert.match(host.state(A.ip), new RegExp(`^failed: .*${errno}`));
        }
        host.kernel.errors.clear();
        host.run(RECOVERY_MS);
        assert.deepEqual(
          host.addresses().toSorted(),
          routes === undefined ? ['203.0.113.1/24', '203.0.113.2/24'] : ['203.0.113.1/32', '203.0.113.2/32'],
        );
        if (routes !== undefined) assert.equal(host.kernel.ownRoutes.length, 1);
        assert.equal(host.state(A.ip), 'held');
      });
    }
  }

  for (const errno of ['EPERM', 'EADDRNOTAVAIL', 'ENODEV', 'ENOBUFS', 'ENOMEM', 'EIO']) {
    test(`that cannot be removed for ${errno} is asked for less and less, and goes when that is over`, () => {
      const host = new VirtualHost({ routes: undefined });
      host.want(A, B);
      host.run(5_000);
      host.kernel.asked.length = 0;
      host.kernel.errors.set('delete', errno);
      host.want(A);
      host.run(FAULT_MS);
      const count = host.kernel.asked.length;
      const most = errno === 'EADDRNOTAVAIL' || errno === 'ENODEV' ? 4 * (FAULT_MS / 1_000) : ATTEMPTS_MAX;
      assert.ok(count >= 1 && count <= most, `${count} requests`);
      host.kernel.errors.clear();
      host.run(RECOVERY_MS);
      assert.deepEqual(host.addresses(), ['203.0.113.1/24']);
    });
  }

  for (const errno of ['EPERM', 'ESRCH', 'ENOBUFS', 'ENOMEM', 'EIO']) {
    test(`whose route cannot be removed for ${errno} is asked for less and less, and it goes when that is over`, () => {
      const host = new VirtualHost({ routes: { table: 100, protocol: 108 } });
      const other = { ...B, ip: '198.51.100.1' as Ip, route: prefix('198.51.100.0/24') };
      host.want(A, other);
      host.run(5_000);
      assert.equal(host.kernel.ownRoutes.length, 2);
      host.kernel.asked.length = 0;
      host.kernel.errors.set('delete-route', errno);
      host.want(A);
      host.run(FAULT_MS);
      host.assertAskedSeldom('delete-route', errno === 'ESRCH');
      host.kernel.errors.clear();
      host.run(RECOVERY_MS);
      assert.deepEqual(
        host.kernel.ownRoutes.map(({ destination }) => destination),
        [A.route],
      );
      assert.equal(host.state(A.ip), 'held');
    });
  }

  for (const errno of ['EPERM', 'ENODEV', 'EBUSY', 'ENOBUFS', 'ENOMEM', 'EIO']) {
    test(`is held though lbd's link of an earlier name cannot be removed for ${errno}, which goes when that is over`, () => {
      const host = new VirtualHost({ routes: undefined });
      host.kernel.addLink('lb-old', 'dummy', virtualMac(undefined));
      host.kernel.errors.set('delete-link', errno);
      host.want(A);
      host.run(FAULT_MS);
      host.assertAskedSeldom('delete-link', errno === 'ENODEV');
      assert.equal(host.state(A.ip), 'held');
      host.kernel.errors.clear();
      host.run(RECOVERY_MS);
      assert.equal(host.kernel.linkOf('lb-old'), undefined);
      assert.deepEqual(host.addresses(), ['203.0.113.1/24']);
    });
  }
});
