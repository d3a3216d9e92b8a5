import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeMessage } from '../../../src/election/codec.ts';
import { PACKET_OVERHEAD_BYTES } from '../../../src/election/io/sealer.ts';
import { MAX_PACKET_BYTES } from '../../../src/election/message.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after } from '../../../src/lib/time.ts';
import { address, Cluster, Host, SEGMENT, SETTINGS, wantedOf } from './ownership-cluster.ts';

const IPS = Array.from({ length: 40 }, (_, index) => address(index));

/** A cluster that has been up for a while, with every address owned. */
function settled(hosts: number, ips: readonly Ip[] = IPS, seed = 1): Cluster {
  const cluster = new Cluster({ hosts, seed });
  cluster.want(wantedOf(ips));
  cluster.run(SETTINGS.settleMs + 1_000);
  cluster.checkAgreement(ips);
  return cluster;
}

test('a cold start claims nothing before the join has settled, also for a host alone', () => {
  const cluster = new Cluster({ hosts: 1 });
  cluster.want(wantedOf(IPS));
  cluster.run(SETTINGS.settleMs - 1);
  assert.equal(cluster.host(0).ownership.grants().size, 0);
  cluster.run(1);
  assert.equal(cluster.host(0).ownership.grants().size, IPS.length);
  cluster.run(300);
  assert.equal(cluster.host(0).held.size, IPS.length);
});

test('free addresses have one owner each after the cold start, all over the hosts', () => {
  const cluster = settled(5);
  assert.equal(cluster.longestDoubleMs, 0);
  for (const host of cluster.hosts) assert.ok(host.held.size > 0, `${host.name} has none`);
  assert.deepEqual(new Set(cluster.takes.values()), new Set([1]));
});

test('a host that joins moves nothing', () => {
  const cluster = settled(4);
  const before = cluster.owners(IPS);
  const joiner = new Host(cluster, 4);
  cluster.hosts.push(joiner);
  for (const host of cluster.hosts) {
    cluster.introduce(host, joiner);
    cluster.introduce(joiner, host);
  }
  cluster.want(wantedOf(IPS), [joiner]);
  cluster.exchange(joiner, cluster.host(0));
  cluster.run(10_000);
  assert.deepEqual(cluster.owners(IPS), before);
  cluster.checkAgreement(IPS);
});

test('a death moves only the addresses of the dead, each to its heir, once', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const cluster = settled(5, IPS, seed);
    const before = cluster.owners(IPS);
    const victim = cluster.host(seed % 5);
    cluster.kill(victim);
    cluster.run(400);
    const owners = cluster.owners(IPS);
    for (const ip of IPS) {
      const moved = before.get(ip) === victim.name;
      if (moved) assert.notEqual(owners.get(ip), '', `seed ${seed}: ${ip} is served`);
      else assert.equal(owners.get(ip), before.get(ip), `seed ${seed}: ${ip} stays`);
      assert.equal(cluster.takes.get(ip), moved ? 2 : 1);
    }
    cluster.run(1_000);
    cluster.checkAgreement(IPS);
    assert.equal(cluster.longestDoubleMs, 0);
  }
});

test('a take-over names the predecessor as the wire knows it, and waits for the floor', () => {
  const cluster = settled(3);
  const victim = cluster.host(1);
  const ips = [...victim.held];
  const diedAt = cluster.now;
  cluster.kill(victim, 100, 0);
  cluster.run(101);
  const heirs = cluster.hosts.filter((host) => host !== victim);
  const granted = heirs.flatMap((host) => ips.flatMap((ip) => host.grant(ip) ?? []));
  assert.equal(granted.length, ips.length);
  for (const { entry } of granted) {
    assert.deepEqual(entry, {
      kind: 'take-over',
      predecessor: {
        name: victim.name,
        mac: victim.meta.segments[0]?.mac,
        ip: victim.meta.segments[0]?.ip,
        notBefore: after(diedAt, SETTINGS.takeoverFloorMs),
        leaseEndsAt: after(diedAt, 10_000),
      },
    });
  }
});

test('a take-over ends without a trace when the owner refutes before the address is held', () => {
  const cluster = settled(3);
  const victim = cluster.host(1);
  const before = cluster.owners(IPS);
  const silence = {
    why: 'silent',
    lastHeardAt: cluster.now,
    leaseEndsAt: after(cluster.now, 10_000),
  } as const;
  cluster.tellAll(victim, { state: 'suspect' }, silence);
  assert.ok(cluster.hosts.some((host) => host !== victim && host.taking.size > 0));
  cluster.run(100);
  cluster.tellAll(victim, { state: 'alive', incarnation: 1 });
  cluster.run(1_000);
  assert.deepEqual(cluster.owners(IPS), before);
  cluster.checkAgreement(IPS);
});

test('suspicion without a verdict moves nothing', () => {
  const cluster = settled(3);
  const victim = cluster.host(1);
  cluster.tellAll(victim, { state: 'suspect' });
  cluster.run(1_000);
  assert.ok(cluster.hosts.every((host) => host.taking.size === 0));
  cluster.tellAll(victim, { state: 'alive' });
  cluster.checkAgreement(IPS);
});

test('a claim of a higher epoch ends the grant in the same step', () => {
  const cluster = settled(3);
  const owner = cluster.hosts.find((host) => host.held.size > 0) ?? cluster.host(0);
  const [ip] = owner.held;
  assert.ok(ip !== undefined);
  const epoch = (owner.ownership.claims().get(ip)?.epoch ?? 0) + 1;
  const other = cluster.host((owner.index + 1) % 3);
  owner.ownership.claimsHeard([{ ip, owner: other.name, epoch }], other.name, cluster.now);
  assert.equal(owner.grant(ip), undefined);
  assert.ok(owner.out.some((effect) => effect.kind === 'grants-changed'));
  assert.ok(owner.out.some((effect) => effect.kind === 'report' && effect.report.kind === 'superseded'));
});

test('one owner is left of concurrent claims, whatever order they are heard in', () => {
  for (let seed = 1; seed <= 30; seed++) {
    const cluster = new Cluster({ hosts: 4, seed, gossipMs: 400 });
    // Nobody knows of anybody: all are heirs of everything.
    for (const host of cluster.hosts) {
      host.members.clear();
      for (const other of cluster.hosts) host.ownership.membersChanged([other.name], cluster.now);
    }
    cluster.want(wantedOf(IPS));
    cluster.run(SETTINGS.settleMs + 100);
    for (const host of cluster.hosts) for (const other of cluster.hosts) cluster.introduce(other, host);
    cluster.run(3_000);
    cluster.checkAgreement(IPS);
    assert.ok(cluster.longestDoubleMs <= 0, `seed ${seed}: two owners for ${cluster.longestDoubleMs} ms`);
  }
});

test('two halves that each took everything end with one owner per address', () => {
  for (let seed = 1; seed <= 10; seed++) {
    const cluster = settled(6, IPS, seed);
    const half = (index: number): number => Math.floor(index / 3);
    cluster.blocked = (from, to) => half(from.index) !== half(to.index);
    const dead = { state: 'dead' } as const;
    for (const to of cluster.hosts) {
      for (const about of cluster.hosts)
        if (half(to.index) !== half(about.index)) cluster.tell(to, about, dead);
    }
    cluster.run(30_000);
    cluster.blocked = undefined;
    for (const to of cluster.hosts) for (const about of cluster.hosts) cluster.introduce(about, to);
    cluster.exchange(cluster.host(0), cluster.host(5));
    cluster.run(1_000);
    cluster.checkAgreement(IPS);
  }
});

test('isolation ends the grants of that segment, and the return brings the own addresses back first', () => {
  const cluster = settled(3);
  const host = cluster.host(0);
  const own = new Set(host.held);
  const epochs = new Map([...own].map((ip) => [ip, host.ownership.claims().get(ip)?.epoch]));
  cluster.do(host, () => host.ownership.isolated(SEGMENT, cluster.now));
  assert.equal(host.ownership.grants().size, 0);
  cluster.run(5_000);
  cluster.do(host, () => host.ownership.returned(SEGMENT, Number.POSITIVE_INFINITY, cluster.now));
  assert.deepEqual(new Set(host.ownership.grants().keys()), own);
  for (const grant of host.ownership.grants().values()) {
    assert.equal(grant.entry.kind, 'return');
    assert.equal(grant.epoch, epochs.get(grant.ip));
  }
  assert.ok(host.effects.some((effect) => effect.kind === 'exchange'));
  cluster.run(200);
  cluster.checkAgreement(IPS);
});

test('after isolation others keep what they took, and nothing of others is taken before the settling ends', () => {
  const cluster = settled(3);
  const [host, dead] = [cluster.host(0), cluster.host(1)];
  cluster.do(host, () => host.ownership.isolated(SEGMENT, cluster.now));
  assert.equal(host.held.size, 0);
  const silence = {
    why: 'silent',
    lastHeardAt: cluster.now,
    leaseEndsAt: after(cluster.now, 10_000),
  } as const;
  const [third] = [cluster.host(2)];
  cluster.tell(dead, host, { state: 'suspect' }, silence);
  cluster.tell(third, host, { state: 'suspect' }, silence);
  cluster.blocked = (from, to) => from === host || to === host;
  cluster.run(1_000);
  for (const ip of IPS) assert.equal(cluster.serving(ip).length, 1);
  // While it is away, another host dies as well.
  cluster.tell(host, dead, { state: 'dead' });
  cluster.kill(dead);
  cluster.blocked = undefined;
  cluster.tell(third, host, { state: 'alive' });
  const returnedAt = cluster.now;
  cluster.do(host, () => host.ownership.returned(SEGMENT, Number.POSITIVE_INFINITY, cluster.now));
  cluster.run(SETTINGS.returnSettleMs - 1);
  assert.ok([...host.ownership.grants().values()].every(({ entry }) => entry.kind !== 'take-over'));
  cluster.run(10_000);
  cluster.checkAgreement(IPS);
  assert.ok(cluster.now > returnedAt);
});

/** All ports of a switch go and come back, one after the other, in a random order. */
function rebootSwitch(cluster: Cluster, downMs: number, overMs: number): void {
  for (const host of cluster.hosts) cluster.unplug(host);
  cluster.run(150);
  for (const host of cluster.hosts) cluster.do(host, () => host.ownership.isolated(SEGMENT, cluster.now));
  // Nobody judges while isolated; SWIM finds everybody dead in the end.
  cluster.run(6_000);
  for (const host of cluster.hosts) cluster.tellAll(host, { state: 'dead' });
  cluster.run(downMs);
  for (const host of cluster.hosts) {
    cluster.later(overMs * cluster.random(), () => {
      if (!host.lives) return;
      const there = cluster.hosts.filter((other) => other !== host && !cluster.unplugged.has(other));
      cluster.plug(host);
      cluster.do(host, () => host.ownership.returned(SEGMENT, Number.POSITIVE_INFINITY, cluster.now));
      cluster.later(50, () => {
        for (const other of there) {
          cluster.introduce(host, other);
          cluster.introduce(other, host);
        }
      });
    });
  }
}

test('after a switch rebooted, hosts that return over 5 s in any order take back their own and nothing else', () => {
  for (const hosts of [2, 3, 10]) {
    for (let seed = 1; seed <= 20; seed++) {
      const cluster = new Cluster({ hosts, seed });
      cluster.want(wantedOf(IPS));
      cluster.run(3_000);
      const before = cluster.owners(IPS);
      rebootSwitch(cluster, 24_000, 5_000);
      cluster.run(20_000);
      assert.deepEqual(cluster.owners(IPS), before, `${hosts} hosts, seed ${seed}`);
      cluster.checkAgreement(IPS);
      for (const ip of IPS) assert.equal(cluster.hosts[0]?.ownership.claims().get(ip)?.epoch, 1);
    }
  }
});

test('a host that does not come back from a common isolation is replaced after the bounded wait', () => {
  const cluster = settled(3);
  const gone = cluster.host(2);
  cluster.later(1_000, () => {
    gone.lives = false;
  });
  rebootSwitch(cluster, 10_000, 1_000);
  cluster.run(9_500);
  assert.ok(
    IPS.some((ip) => cluster.serving(ip).length === 0),
    'the others wait for it',
  );
  cluster.run(4_000);
  for (const ip of IPS) assert.equal(cluster.serving(ip).filter((name) => name !== gone.name).length, 1);
});

test('an address whose heir knows nothing of it is taken by the next, after a pause', () => {
  const cluster = settled(3);
  const ip = address(1_000);
  const [, , ignorant] = cluster.hosts;
  assert.ok(ignorant !== undefined);
  const rank = (index: number) => {
    const { eligibility, items } = cluster.host(index).ownership.inspect();
    const place = items.get(ip)?.place;
    return place && eligibility.rankOf(cluster.host(index).name, place);
  };
  cluster.want(wantedOf([...IPS, ip]), cluster.hosts.slice(0, 2));
  const isHeir = rank(0) !== 0 && rank(1) !== 0;
  cluster.run(500);
  assert.equal(cluster.serving(ip).length, isHeir ? 0 : 1);
  cluster.run(10_000);
  assert.equal(cluster.serving(ip).length, 1);
});

test('a kernel that refuses an address lets the next host have it', () => {
  const cluster = new Cluster({ hosts: 3 });
  cluster.refuses = (host) => host.index === 0;
  cluster.want(wantedOf(IPS));
  cluster.run(12_000);
  cluster.checkAgreement(IPS);
  for (const ip of IPS) assert.equal(cluster.serving(ip).length, 1);
  assert.equal(cluster.host(0).held.size, 0);
});

test('a restart finds its addresses in the kernel, and keeps them from the first moment on', () => {
  const cluster = settled(3);
  const host = cluster.host(0);
  const own = [...host.held];
  const claims = host.ownership.persistentClaims();
  host.ownership = Host.machine(cluster, host, claims);
  cluster.do(host, () => {
    host.ownership.wantedChanged(wantedOf(IPS), cluster.now);
    host.ownership.localsChanged(
      own.map((ip) => [ip, 'held'] as const),
      cluster.now,
    );
  });
  assert.deepEqual(new Set(host.ownership.grants().keys()), new Set(own));
  cluster.run(5_000);
  cluster.checkAgreement(IPS);
  for (const ip of own) assert.equal(cluster.takes.get(ip), 1);
});

test('an owner that says that it lost the subnet is replaced, and its claim is superseded', () => {
  const cluster = settled(3);
  const host = cluster.host(0);
  const own = [...host.held];
  cluster.setMeta(host, { segments: [] });
  assert.equal(host.held.size, 0);
  const [heir] = cluster.hosts.filter((other) => other.taking.size > 0);
  assert.ok(heir !== undefined);
  for (const [, { entry }] of heir.taking) {
    assert.equal(entry.kind, 'take-over');
    if (entry.kind === 'take-over') assert.equal(entry.predecessor.leaseEndsAt, after(cluster.now, 10_000));
  }
  cluster.run(1_000);
  for (const ip of own) assert.equal(cluster.serving(ip).length, 1);
  cluster.checkAgreement(IPS);
});

test('what is wanted no more is released by its owner, with a fresh view only', () => {
  const cluster = settled(3);
  const [ip, ...rest] = IPS;
  assert.ok(ip !== undefined);
  cluster.want(wantedOf(rest, { fresh: false }));
  cluster.run(500);
  assert.deepEqual(cluster.serving(ip), []);
  assert.notEqual(cluster.host(0).ownership.claims().get(ip)?.owner, undefined);
  cluster.want(wantedOf(rest));
  cluster.run(500);
  assert.equal(cluster.host(0).ownership.claims().get(ip)?.owner, undefined);
  cluster.want(wantedOf(IPS));
  cluster.run(1_000);
  cluster.checkAgreement(IPS);
  assert.equal(cluster.serving(ip).length, 1);
});

test('a host that was paused takes nothing until a neighbour has confirmed its claims, and keeps what it holds', () => {
  const cluster = settled(3);
  const [host, dead] = [cluster.host(0), cluster.host(1)];
  const own = [...host.held];
  cluster.do(host, () => host.ownership.doubtsChanged(new Map([[SEGMENT, 'paused']]), cluster.now));
  cluster.kill(dead);
  cluster.run(1_000);
  assert.deepEqual([...host.held], own);
  assert.ok([...host.ownership.grants().values()].every(({ entry }) => entry.kind !== 'take-over'));
  const unserved = IPS.filter((ip) => cluster.serving(ip).length === 0);
  assert.ok(unserved.length > 0, 'it is the heir of some');
  cluster.do(host, () => host.ownership.doubtsChanged(new Map(), cluster.now));
  cluster.run(500);
  for (const ip of unserved) assert.deepEqual(cluster.serving(ip), [host.name]);
  cluster.checkAgreement(IPS);
});

test('a member that claims what it no longer has is told the newer claim at once', () => {
  const cluster = settled(3);
  const [ip] = IPS;
  assert.ok(ip !== undefined);
  const [host, former] = [cluster.host(0), cluster.host(1)];
  const newer = { ip, owner: host.name, epoch: 9 };
  const old = { ip, owner: former.name, epoch: 8 };
  host.ownership.claimsHeard([newer], undefined, cluster.now);
  host.out.length = 0;
  host.ownership.claimsHeard([old], former.name, cluster.now);
  host.ownership.advance(host.ownership.deadline());
  const told = host.out.flatMap((effect) => (effect.kind === 'send' ? [effect] : []));
  assert.deepEqual(told, [
    {
      kind: 'send',
      to: former.meta.endpoint,
      segment: undefined,
      message: { kind: 'gossip', from: host.name, updates: [{ kind: 'claim', ...newer }] },
    },
  ]);
  // Somebody else who passes on old news is not corrected: gossip does that.
  host.out.length = 0;
  host.ownership.claimsHeard([old], cluster.host(2).name, cluster.now);
  host.ownership.advance(after(cluster.now, 10));
  assert.deepEqual(host.out, []);
});

test('a thousand addresses taken over from a host are told to it in packets that fit', () => {
  const ips = Array.from({ length: 1_000 }, (_, index) => address(index));
  const cluster = new Cluster({ hosts: 2 });
  const [host, former] = [cluster.host(0), cluster.host(1)];
  cluster.setMeta(host, { drained: true });
  cluster.want(wantedOf(ips));
  cluster.run(3_000);
  cluster.setMeta(host, { drained: false });
  assert.equal(former.held.size, 1_000);
  cluster.kill(former);
  cluster.run(500);
  assert.equal(host.held.size, 1_000);
  const packets = host.effects.flatMap((effect) =>
    effect.kind === 'send' && effect.message.kind === 'gossip' ? [effect.message] : [],
  );
  let claims = 0;
  for (const packet of packets) {
    claims += packet.updates.length;
    assert.ok(encodeMessage(packet).length <= MAX_PACKET_BYTES - PACKET_OVERHEAD_BYTES);
  }
  assert.equal(claims, 1_000);
  assert.ok(packets.length <= 60, `${packets.length} packets`);
});
