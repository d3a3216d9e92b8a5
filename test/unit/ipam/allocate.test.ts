import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PROBE_AHEAD_LIMIT } from '../../../src/ipam/allocate.ts';
import { BLOCKED_LISTED, BLOCKED_TRIES } from '../../../src/ipam/candidates.ts';
import type { Verdict } from '../../../src/ipam/types.ts';
import type { Service } from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import {
  allocationOf,
  applied,
  brief,
  ip,
  pool,
  run,
  type ServiceChange,
  service,
  summary,
} from './fixtures.ts';

const WEB = pool('web', ['192.0.2.0/29']);
const SPARE = pool('spare', ['198.51.100.0/30'], false);
const DUAL = pool('dual', ['203.0.113.0/30', '2001:db8::/126']);
const POOLS = [WEB, SPARE];

const blockedOnly =
  (...addresses: readonly string[]) =>
  (address: Ip): Verdict =>
    addresses.includes(address)
      ? { kind: 'blocked', reason: '02:00:00:00:00:01 answers for it' }
      : { kind: 'usable' };

describe('allocate() on new Services', () => {
  it('allocate() gives the lowest free address by number, whatever the order of the ranges', () => {
    const scattered = [pool('a', ['192.0.2.16-192.0.2.17', '192.0.2.9/32'])];
    const services = ['a', 'b', 'c'].map((name, index) => service(name, { createdAt: index }));
    assert.deepEqual(summary(run(scattered, services)), {
      a: 'assign 192.0.2.9',
      b: 'assign 192.0.2.16',
      c: 'assign 192.0.2.17',
    });
  });

  it('allocate() serves the older Service first, then the lower uid, whatever the input order', () => {
    const services = [
      service('late', { createdAt: 9 }),
      service('b', { createdAt: 1, uid: 'b' }),
      service('a', { createdAt: 1, uid: 'a' }),
    ];
    const expected = { a: 'assign 192.0.2.0', b: 'assign 192.0.2.1', late: 'assign 192.0.2.2' };
    assert.deepEqual(summary(run(POOLS, services)), expected);
    assert.deepEqual(summary(run(POOLS, services.toReversed())), expected);
  });

  it('allocate() goes to the next pool in configuration order when the first is full', () => {
    const pools = [pool('one', ['192.0.2.9/32']), SPARE, pool('two', ['198.51.100.9/32'])];
    const services = ['a', 'b', 'c'].map((name, index) => service(name, { createdAt: index }));
    const result = run(pools, services);
    assert.deepEqual(summary(result), {
      a: 'assign 192.0.2.9',
      b: 'assign 198.51.100.9',
      c: 'refused pool-exhausted',
    });
    const refused = allocationOf(result, 'c');
    assert(refused.kind === 'refused');
    assert.match(
      refused.reason,
      /pool "one" \(192\.0\.2\.9\/32, 1 address\).*pool "two" \(198\.51\.100\.9\/32/,
    );
  });

  it('allocate() passes over used, blocked and unusable addresses', () => {
    const services = [service('old', { status: ['192.0.2.0'] }), service('new')];
    assert.equal(
      brief(allocationOf(run(POOLS, services, { verdict: blockedOnly('192.0.2.1') }), 'new')),
      'assign 192.0.2.2',
    );
    const multicast = [pool('a', ['223.255.255.255-224.0.0.3'])];
    assert.deepEqual(summary(run(multicast, [service('a'), service('b')])), {
      a: 'assign 223.255.255.255',
      b: 'refused pool-exhausted',
    });
  });

  it('allocate() only lets Services of the configured class in', () => {
    const services = [service('none'), service('lbd', { loadBalancerClass: 'lbd.io/lbd' })];
    assert.deepEqual(summary(run(POOLS, services)), { none: 'assign 192.0.2.0' });
    assert.deepEqual(summary(run(POOLS, services, { loadBalancerClass: 'lbd.io/lbd' })), {
      lbd: 'assign 192.0.2.0',
    });
  });

  it('allocate() gives nothing to a Service that is being deleted, and keeps what it has', () => {
    const services = [
      service('bare', { deleting: true }),
      service('served', { deleting: true, status: ['192.0.2.3'], annotations: { 'lbd.io/pool': 'spare' } }),
    ];
    assert.deepEqual(summary(run(POOLS, services)), { served: 'settled 192.0.2.3' });
  });

  it('allocate() says that there is no pool', () => {
    assert.deepEqual(summary(run([], [service('a')])), { a: 'refused no-pool' });
    const refused = allocationOf(run([SPARE], [service('a')]), 'a');
    assert(refused.kind === 'refused' && refused.code === 'no-pool');
    assert.match(refused.reason, /auto_assign = false.*"spare"/);
  });
});

describe('allocate() on what a Service asks for', () => {
  type Case = readonly [string, ServiceChange, string, RegExp?];
  const taken = service('taken', { status: ['192.0.2.5'] });
  const cases: readonly Case[] = [
    ['pool', { annotations: { 'lbd.io/pool': 'spare' } }, 'assign 198.51.100.0'],
    [
      'unknown pool',
      { annotations: { 'lbd.io/pool': 'nope' } },
      'refused unknown-pool',
      /"nope".*"web", "spare"/,
    ],
    ['address by annotation', { annotations: { 'lbd.io/addresses': ' 192.0.2.4 ' } }, 'assign 192.0.2.4'],
    ['address by field', { loadBalancerIp: '192.0.2.4' }, 'assign 192.0.2.4'],
    ['address of a named-only pool', { loadBalancerIp: '198.51.100.2' }, 'assign 198.51.100.2'],
    [
      'annotation before field',
      { loadBalancerIp: '192.0.2.4', annotations: { 'lbd.io/addresses': '192.0.2.3' } },
      'assign 192.0.2.3',
    ],
    [
      'blank annotations',
      { annotations: { 'lbd.io/addresses': ' ', 'lbd.io/pool': '' } },
      'assign 192.0.2.0',
    ],
    ['taken address', { loadBalancerIp: '192.0.2.5' }, 'refused address-taken', /default\/taken/],
    ['blocked address', { loadBalancerIp: '192.0.2.6' }, 'refused address-taken', /02:00:00:00:00:01/],
    ['address in no pool', { loadBalancerIp: '10.0.0.1' }, 'refused address-not-in-pool', /"web", "spare"/],
    [
      'address of another pool than named',
      { loadBalancerIp: '192.0.2.4', annotations: { 'lbd.io/pool': 'spare' } },
      'refused address-not-in-pool',
      /pool "web".*names "spare"/,
    ],
    ['loopback', { loadBalancerIp: '127.0.0.1' }, 'refused address-unusable', /loopback/],
    ['multicast', { loadBalancerIp: '224.0.0.1' }, 'refused address-unusable', /multicast/],
    ['rubbish', { loadBalancerIp: 'www.example.org' }, 'refused address-invalid', /"www.example.org"/],
    [
      'a megabyte of rubbish',
      { annotations: { 'lbd.io/addresses': 'x'.repeat(1 << 20) } },
      'refused address-invalid',
      /^.{1,200}$/,
    ],
    ['octal', { loadBalancerIp: '192.0.2.010' }, 'refused address-invalid'],
    [
      'two of one family',
      { annotations: { 'lbd.io/addresses': '192.0.2.1,192.0.2.2' } },
      'refused address-invalid',
      /at most one address per family/,
    ],
    ['the wrong family', { loadBalancerIp: '2001:db8::1' }, 'refused family-unavailable', /v4 only/],
  ];
  for (const [name, change, expected, reason] of cases) {
    it(`allocate() answers ${expected.split(' ').slice(0, 2).join(' ')} when asked for: ${name}`, () => {
      const result = run(POOLS, [taken, service('a', change)], { verdict: blockedOnly('192.0.2.6') });
      const allocation = allocationOf(result, 'a');
      assert.equal(brief(allocation), expected);
      if (reason !== undefined) assert.match(allocation.kind === 'refused' ? allocation.reason : '', reason);
    });
  }

  it('allocate() lets a Service that names an address choose before an older one that does not', () => {
    const services = [
      service('any', { createdAt: 0 }),
      service('exact', { createdAt: 5, loadBalancerIp: '192.0.2.0' }),
    ];
    assert.deepEqual(summary(run(POOLS, services)), { exact: 'assign 192.0.2.0', any: 'assign 192.0.2.1' });
  });

  it('allocate() is not fooled by annotations that are named like members of every object', () => {
    const result = run(POOLS, [service('a', { annotations: Object.create({ 'lbd.io/pool': 'nope' }) })]);
    assert.equal(brief(allocationOf(result, 'a')), 'assign 192.0.2.0');
  });

  it('allocate() moves a Service whose requested address or pool changed, and keeps it when that is not to be had', () => {
    const table: readonly (readonly [ServiceChange, string])[] = [
      [{ loadBalancerIp: '192.0.2.4' }, 'assign 192.0.2.4'],
      [{ annotations: { 'lbd.io/pool': 'spare' } }, 'assign 198.51.100.0'],
      [{ annotations: { 'lbd.io/pool': 'web' } }, 'settled 192.0.2.1'],
      [{ annotations: { 'lbd.io/pool': 'nope' } }, 'settled 192.0.2.1 !unknown-pool'],
      [{ loadBalancerIp: '192.0.2.5' }, 'settled 192.0.2.1 !address-taken'],
      [{ loadBalancerIp: '10.9.9.9' }, 'settled 192.0.2.1 !address-not-in-pool'],
      [{ loadBalancerIp: 'rubbish' }, 'settled 192.0.2.1 !address-invalid'],
    ];
    for (const [change, expected] of table) {
      const result = run(POOLS, [taken, service('a', { ...change, status: ['192.0.2.1'] })]);
      assert.equal(brief(allocationOf(result, 'a')), expected, JSON.stringify(change));
    }
  });

  it('allocate() keeps a moving Service at its old address until the new one has been probed', () => {
    const moving = service('a', { status: ['192.0.2.1'], loadBalancerIp: '192.0.2.4' });
    const allocation = allocationOf(run(POOLS, [moving], { verdict: () => ({ kind: 'unknown' }) }), 'a');
    assert(allocation.kind === 'probing');
    assert.deepEqual(
      [allocation.addresses, allocation.standing, allocation.asking],
      [[ip('192.0.2.4')], [ip('192.0.2.1')], [ip('192.0.2.4')]],
    );
  });

  it('allocate() gives neither address of a move to others while the write is under way', () => {
    const asked: readonly ServiceChange[] = [
      { loadBalancerIp: '198.51.100.0' },
      { annotations: { 'lbd.io/pool': 'spare' } },
    ];
    for (const change of asked) {
      const inFlight = service('a', { ...change, status: ['198.51.100.0', '192.0.2.0'] });
      const others = [service('b'), service('c', { annotations: { 'lbd.io/pool': 'spare' } })];
      assert.deepEqual(summary(run(POOLS, [inFlight, ...others])), {
        a: 'assign 198.51.100.0',
        b: 'assign 192.0.2.1',
        c: 'assign 198.51.100.1',
      });
    }
  });
});

describe('allocate() on what status says', () => {
  it('allocate() keeps an address whose pool is gone, named or not', () => {
    const orphan = service('a', { status: ['10.1.1.1'] });
    const named = service('b', { status: ['10.1.1.2'], annotations: { 'lbd.io/pool': 'web' } });
    const result = run(POOLS, [orphan, named]);
    assert.deepEqual(summary(result), { a: 'settled 10.1.1.1', b: 'settled 10.1.1.2' });
    const settled = allocationOf(result, 'a');
    assert(settled.kind === 'settled');
    assert.deepEqual(settled.foreign, ['10.1.1.1']);
    assert.match(settled.explain, /in no pool any more/);
    assert.deepEqual(summary(run([], [orphan])), { a: 'settled 10.1.1.1' });
  });

  it('allocate() does not ask the verdict on an address that stands', () => {
    const verdict = (address: Ip): Verdict => {
      assert.notEqual(address, '192.0.2.1');
      return { kind: 'unknown' };
    };
    const result = run(POOLS, [service('a', { status: ['192.0.2.1'] })], { verdict, probeAheadCount: 8 });
    assert.deepEqual(summary(result), { a: 'settled 192.0.2.1' });
  });

  it('allocate() replaces what no Service can have, and keeps host names alongside', () => {
    const rubbish = [
      '',
      'x',
      '127.0.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '::1',
      'fe80::1',
      '192.0.2.1/32',
      '0.0.0.0',
    ];
    for (const text of rubbish) {
      assert.equal(
        brief(allocationOf(run(POOLS, [service('a', { status: [text] })]), 'a')),
        'assign 192.0.2.0',
        text,
      );
      const beside = run(POOLS, [service('a', { status: ['192.0.2.3', text] })]);
      assert.equal(brief(allocationOf(beside, 'a')), 'assign 192.0.2.3', text);
    }
    const named = { ip: undefined, hostname: 'a.example', ipMode: undefined };
    assert.equal(
      brief(allocationOf(run(POOLS, [service('a', { ingress: [named] })]), 'a')),
      'assign 192.0.2.0',
    );
    const both = service('a', { ingress: [named, { ip: '192.0.2.3', hostname: undefined, ipMode: 'VIP' }] });
    const settled = allocationOf(run(POOLS, [both]), 'a');
    assert(settled.kind === 'settled');
    assert.deepEqual(settled.foreign, ['a.example']);
  });

  it('allocate() asks for an empty status when it has nothing to put in the place of rubbish', () => {
    const refused = allocationOf(run([], [service('a', { status: ['127.0.0.1'] })]), 'a');
    assert(refused.kind === 'refused');
    assert.deepEqual(refused.stale, ['127.0.0.1']);
  });

  it('allocate() bounds what it reads of one status', () => {
    const status = Array.from({ length: 10_000 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
    const allocation = allocationOf(run([pool('a', ['10.0.0.0/8'])], [service('a', { status })]), 'a');
    assert(allocation.kind === 'assign');
    assert.deepEqual(allocation.addresses, status.slice(0, 16));
  });

  it('allocate() reads any spelling of an address as the same address', () => {
    const upper = service('a', { status: ['2001:DB8:0::1'], ipFamilies: ['IPv6'] });
    assert.deepEqual(summary(run([DUAL], [upper])), { a: 'settled 2001:db8::1' });
  });

  it('allocate() leaves a contested address to the older Service and moves the younger one', () => {
    const services = [
      service('young', { createdAt: 2, status: ['192.0.2.1'] }),
      service('old', { createdAt: 1, status: ['192.0.2.1'] }),
      service('middle', { createdAt: 1, uid: 'uid-p', status: ['192.0.2.1'] }),
    ];
    const expected = { old: 'settled 192.0.2.1', middle: 'assign 192.0.2.0', young: 'assign 192.0.2.2' };
    assert.deepEqual(summary(run(POOLS, services)), expected);
    assert.deepEqual(summary(run(POOLS, services.toReversed())), expected);
  });

  it('allocate() empties the status of the younger Service when nothing is left for it', () => {
    const services = [1, 2].map((at) => service(`s${at}`, { createdAt: at, status: ['192.0.2.9'] }));
    const result = run([pool('one', ['192.0.2.9/32'])], services);
    assert.deepEqual(summary(result), { s1: 'settled 192.0.2.9', s2: 'refused pool-exhausted' });
    const refused = allocationOf(result, 's2');
    assert(refused.kind === 'refused');
    assert.deepEqual(refused.stale, ['192.0.2.9']);
  });
});

describe('allocate() on Services that are not ours', () => {
  it('allocate() releases what a Service holds that is no LoadBalancer any more, and nothing of other networks', () => {
    const services = [
      service('gone', { type: 'ClusterIP', status: ['10.1.1.1', '192.0.2.0'] }),
      service('elsewhere', { type: 'ClusterIP', status: ['10.1.1.2'] }),
      service('new'),
    ];
    assert.deepEqual(summary(run(POOLS, services)), { gone: 'release 192.0.2.0', new: 'assign 192.0.2.1' });
    const after = applied(services, run(POOLS, services));
    assert.equal(summary(run(POOLS, after))['gone'], undefined);
  });

  it('allocate() never touches a Service of another class, but counts its addresses as taken', () => {
    const other = service('other', { loadBalancerClass: 'metallb', status: ['192.0.2.0'] });
    const result = run(POOLS, [other, service('new'), service('exact', { loadBalancerIp: '192.0.2.0' })]);
    assert.deepEqual(summary(result), { new: 'assign 192.0.2.1', exact: 'refused address-taken' });
    const refused = allocationOf(result, 'exact');
    assert.match(refused.kind === 'refused' ? refused.reason : '', /default\/other.*"metallb"/);
    assert.equal(result.usage[0]?.allocated, 2);
  });

  it('allocate() leaves an address with ours when a Service of another class claims it too, and says so', () => {
    const other = service('other', { createdAt: -1, loadBalancerClass: 'metallb', status: ['192.0.2.0'] });
    const result = run(POOLS, [other, service('ours', { status: ['192.0.2.0'] })]);
    assert.deepEqual(summary(result), { ours: 'settled 192.0.2.0 !address-conflict' });
  });
});

describe('allocate() on families', () => {
  const both: Pick<Service, 'ipFamilies'> = { ipFamilies: ['IPv6', 'IPv4'] };
  type Case = readonly [string, ServiceChange, readonly ReturnType<typeof pool>[], string];
  const v4 = pool('v4', ['192.0.2.0/30']);
  const v6 = pool('v6', ['2001:db8:6::/126']);
  const cases: readonly Case[] = [
    ['the first family alone', { ...both, ipFamilyPolicy: 'SingleStack' }, [DUAL], 'assign 2001:db8::'],
    [
      'both of one pool',
      { ...both, ipFamilyPolicy: 'RequireDualStack' },
      [v4, v6, DUAL],
      'assign 2001:db8:: 203.0.113.0',
    ],
    [
      'two pools of one family',
      { ...both, ipFamilyPolicy: 'RequireDualStack' },
      [v4, v6],
      'refused family-unavailable',
    ],
    ['what the pool has', { ...both, ipFamilyPolicy: 'PreferDualStack' }, [v4, DUAL], 'assign 192.0.2.0'],
    [
      'what the cluster has',
      { ipFamilies: ['IPv4'], ipFamilyPolicy: 'PreferDualStack' },
      [DUAL],
      'assign 203.0.113.0',
    ],
    ['a family of no pool', { ipFamilies: ['IPv6'] }, [v4], 'refused family-unavailable'],
    ['no family at all', { ipFamilies: [] }, [v6, DUAL], 'assign 203.0.113.0'],
    [
      'the one asked for and the other of its pool',
      { ...both, ipFamilyPolicy: 'RequireDualStack', loadBalancerIp: '203.0.113.2' },
      [v6, DUAL],
      'assign 2001:db8:: 203.0.113.2',
    ],
    [
      'single to dual',
      { ...both, ipFamilyPolicy: 'RequireDualStack', status: ['203.0.113.3'] },
      [v6, DUAL],
      'assign 2001:db8:: 203.0.113.3',
    ],
    [
      'single to dual in a pool of one family',
      { ...both, ipFamilyPolicy: 'RequireDualStack', status: ['192.0.2.3'] },
      [v4, v6, DUAL],
      'settled 192.0.2.3 !family-unavailable',
    ],
    [
      'prefer, one had',
      { ...both, ipFamilyPolicy: 'PreferDualStack', status: ['192.0.2.3'] },
      [v4, v6],
      'settled 192.0.2.3',
    ],
    [
      'dual to single',
      { ipFamilies: ['IPv4'], status: ['2001:db8::', '203.0.113.3'] },
      [DUAL],
      'assign 203.0.113.3',
    ],
  ];
  for (const [name, change, pools, expected] of cases) {
    it(`allocate() gives ${expected} for ${name}`, () => {
      assert.equal(brief(allocationOf(run(pools, [service('a', change)]), 'a')), expected);
    });
  }

  it('allocate() takes neither family when a Service needs both and one is exhausted', () => {
    const narrow = [pool('narrow', ['192.0.2.0/30', '2001:db8::/128'])];
    const dual = { ...both, ipFamilyPolicy: 'RequireDualStack' } as const;
    const services = [service('has', { createdAt: 1, ...dual }), service('no', { createdAt: 2, ...dual })];
    const result = run(narrow, services);
    assert.deepEqual(summary(result), { has: 'assign 2001:db8:: 192.0.2.0', no: 'refused pool-exhausted' });
    assert.equal(result.usage[0]?.allocated, 2);
    const refused = allocationOf(result, 'no');
    assert.match(refused.kind === 'refused' ? refused.reason : '', /has no free v6 address/);
  });
});

describe('allocate() on the wire', () => {
  it('allocate() puts an address that was not asked about in probing, and first of what to probe', () => {
    const verdict = (address: Ip): Verdict => ({ kind: address === '192.0.2.1' ? 'unknown' : 'usable' });
    const services = [service('a', { createdAt: 1 }), service('b', { createdAt: 2 })];
    const result = run([WEB], services, { verdict, probeAheadCount: 2 });
    assert.deepEqual(summary(result), { a: 'assign 192.0.2.0', b: 'probing 192.0.2.1' });
    assert.deepEqual(result.probeAhead, ['192.0.2.1', '192.0.2.2', '192.0.2.3']);
  });

  it('allocate() has the next addresses of each pool and family probed, and blocked ones again', () => {
    const result = run([WEB, SPARE, DUAL], [service('a', { status: ['192.0.2.0'] })], {
      probeAheadCount: 2,
      verdict: blockedOnly('192.0.2.1', '198.51.100.3'),
    });
    assert.deepEqual(result.probeAhead, [
      ...['192.0.2.2', '192.0.2.3', '198.51.100.0', '198.51.100.1', '203.0.113.0', '203.0.113.1'],
      ...['2001:db8::', '2001:db8::1', '192.0.2.1'],
    ]);
    assert.deepEqual(result.usage[0]?.blocked, [
      { ip: '192.0.2.1', reason: '02:00:00:00:00:01 answers for it' },
    ]);
  });

  it('allocate() bounds what it wants probed', () => {
    const result = run([pool('big', ['10.0.0.0/8', '2001:db8::/32'])], [], { probeAheadCount: 10_000 });
    assert.equal(result.probeAhead.length, PROBE_AHEAD_LIMIT);
    assert.equal(new Set(result.probeAhead).size, PROBE_AHEAD_LIMIT);
  });

  it('allocate() gives up on a giant pool whose addresses are all blocked, and says so', () => {
    let asked = 0;
    const verdict = (): Verdict => {
      asked += 1;
      return { kind: 'blocked', reason: 'the fabric answers for all' };
    };
    const services = Array.from({ length: 100 }, (_, index) => service(`s${index}`));
    const result = run([pool('big', ['10.0.0.0/8'])], services, { verdict, probeAheadCount: 16 });
    assert.equal(asked, BLOCKED_TRIES);
    assert.equal(result.usage[0]?.blocked.length, BLOCKED_LISTED);
    const refused = allocationOf(result, 's1');
    assert(refused.kind === 'refused' && refused.code === 'pool-exhausted');
    assert.match(refused.reason, /4096 lowest others blocked, such as 10\.0\.0\.0: the fabric answers/);
  });
});

describe('allocate() at size', () => {
  it('allocate() counts a giant v6 pool exactly and never enumerates it', () => {
    const giant = [pool('giant', ['2001:db8::/32', 'fd00::-fd00::ffff:ffff:ffff:ffff'])];
    const top = service('top', { status: ['2001:db8:ffff:ffff:ffff:ffff:ffff:ffff'], ipFamilies: ['IPv6'] });
    const services = [top, service('a', { ipFamilies: ['IPv6'] })];
    const result = run(giant, services, { probeAheadCount: 4 });
    assert.deepEqual(summary(result), {
      top: 'settled 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff',
      a: 'assign 2001:db8::',
    });
    assert.equal(result.usage[0]?.size, (2n ** 96n + 2n ** 64n).toString());
    assert.equal(result.usage[0]?.allocated, 2);
  });

  it('allocate() serves 3,000 new Services of one pool in whatever order they stand in status later', () => {
    const pools = [pool('a', ['10.0.0.0/8'])];
    const services = Array.from({ length: 3_000 }, (_, index) => service(`s${index}`, { createdAt: index }));
    const after = applied(services, run(pools, services));
    for (const order of [after, after.toReversed()]) {
      const result = run(pools, [...order, service('next')], { probeAheadCount: 1 });
      assert.equal(brief(allocationOf(result, 'next')), 'assign 10.0.11.184');
      assert.equal(result.usage[0]?.allocated, 3_001);
      assert.deepEqual(result.probeAhead, ['10.0.11.185']);
    }
  });
});
