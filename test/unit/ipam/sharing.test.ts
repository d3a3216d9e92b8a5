import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Service } from '../../../src/kube/types.ts';
import { allocationOf, pool, run, type ServiceChange, service, summary } from './fixtures.ts';

const POOLS = [pool('web', ['192.0.2.0/29']), pool('more', ['198.51.100.0/30'])];

function sharing(name: string, key: string, port: number, change: ServiceChange = {}): Service {
  const annotations = { 'lbd.io/sharing-key': key, ...change.annotations };
  return service(name, { createdAt: port, ports: [{ protocol: 'TCP', port }], ...change, annotations });
}

describe('allocate() on shared addresses', () => {
  it('allocate() puts Services of one key with different ports on one address', () => {
    const services = [sharing('a', 'k', 80), sharing('b', 'k', 443), sharing('c', 'other', 8080)];
    assert.deepEqual(summary(run(POOLS, services)), {
      a: 'assign 192.0.2.0',
      b: 'assign 192.0.2.0',
      c: 'assign 192.0.2.1',
    });
  });

  it('allocate() gives a new Service the address that its key has already, even of a later pool', () => {
    const services = [sharing('a', 'k', 80, { status: ['198.51.100.3'] }), sharing('b', 'k', 443)];
    assert.deepEqual(summary(run(POOLS, services)), { a: 'settled 198.51.100.3', b: 'assign 198.51.100.3' });
  });

  it('allocate() gives a Service whose ports clash an address of its own, which the next one joins', () => {
    const services = [
      sharing('a', 'k', 80, { createdAt: 1 }),
      sharing('b', 'k', 80, { createdAt: 2 }),
      sharing('c', 'k', 80, { createdAt: 3, ports: [{ protocol: 'UDP', port: 80 }] }),
    ];
    assert.deepEqual(summary(run(POOLS, services)), {
      a: 'assign 192.0.2.0',
      b: 'assign 192.0.2.1',
      c: 'assign 192.0.2.0',
    });
  });

  it('allocate() shares an address asked for by name only when both say the same key', () => {
    const holder = sharing('holder', 'k', 80, { status: ['192.0.2.3'] });
    const wants = { loadBalancerIp: '192.0.2.3' };
    const table: readonly (readonly [Service, string])[] = [
      [sharing('x', 'k', 443, wants), 'assign 192.0.2.3'],
      [sharing('x', 'l', 443, wants), 'refused address-taken'],
      [service('x', wants), 'refused address-taken'],
      [sharing('x', 'k', 80, wants), 'refused address-conflict'],
      [sharing('x', ' ', 443, wants), 'refused address-taken'],
    ];
    for (const [newcomer, expected] of table) {
      assert.equal(
        summary(run(POOLS, [holder, newcomer]))['x'],
        expected,
        JSON.stringify(newcomer.annotations),
      );
    }
    const unkeyed = service('holder', { status: ['192.0.2.3'] });
    assert.equal(summary(run(POOLS, [unkeyed, sharing('x', 'k', 443, wants)]))['x'], 'refused address-taken');
  });

  it('allocate() names the port and the Service when ports clash', () => {
    const holder = sharing('holder', 'k', 80, { status: ['192.0.2.3'] });
    const refused = allocationOf(
      run(POOLS, [holder, sharing('x', 'k', 80, { loadBalancerIp: '192.0.2.3' })]),
      'x',
    );
    assert(refused.kind === 'refused');
    assert.match(refused.reason, /key "k".*TCP\/80.*default\/holder/);
  });

  it('allocate() leaves Services together that stand on one address and say so', () => {
    const services = [
      sharing('a', 'k', 80, { status: ['192.0.2.3'] }),
      sharing('b', 'k', 443, { status: ['192.0.2.3'] }),
    ];
    assert.deepEqual(summary(run(POOLS, services)), { a: 'settled 192.0.2.3', b: 'settled 192.0.2.3' });
  });

  it('allocate() parts them when the younger changes its key or takes a port of the older', () => {
    const older = sharing('a', 'k', 80, { createdAt: 1, status: ['192.0.2.3'] });
    const changed = [
      sharing('b', 'l', 443, { createdAt: 2, status: ['192.0.2.3'] }),
      sharing('b', 'k', 80, { createdAt: 2, status: ['192.0.2.3'] }),
      service('b', { createdAt: 2, status: ['192.0.2.3'] }),
    ];
    for (const younger of changed) {
      const expected = { a: 'settled 192.0.2.3', b: 'assign 192.0.2.0' };
      assert.deepEqual(summary(run(POOLS, [older, younger])), expected);
      assert.deepEqual(summary(run(POOLS, [younger, older])), expected);
    }
  });

  it('allocate() offers a contested address under the key of the Service that keeps it', () => {
    const services = [
      service('loser', { createdAt: 2, status: ['192.0.2.3'] }),
      sharing('keeper', 'k', 80, { createdAt: 1, status: ['192.0.2.3'] }),
      sharing('new', 'k', 443),
    ];
    assert.equal(summary(run(POOLS, services))['new'], 'assign 192.0.2.3');
  });

  it('allocate() probes a shared address once for all that will have it', () => {
    const result = run(POOLS, [sharing('a', 'k', 80), sharing('b', 'k', 443)], {
      verdict: () => ({ kind: 'unknown' }),
    });
    assert.deepEqual(summary(result), { a: 'probing 192.0.2.0', b: 'probing 192.0.2.0' });
    assert.deepEqual(result.probeAhead, ['192.0.2.0']);
  });

  it('allocate() stays fast when thousands of Services of one key all clash', () => {
    const services = Array.from({ length: 3_000 }, (_, index) =>
      sharing(`s${index}`, 'k', 80, { createdAt: index }),
    );
    const result = run([pool('big', ['10.0.0.0/8'])], services);
    const addresses = result.allocations.flatMap((each) => ('addresses' in each ? each.addresses : []));
    assert.equal(new Set(addresses).size, 3_000);
  });
});
