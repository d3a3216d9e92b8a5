import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Farewell } from '../../../src/election/message.ts';
import type { SegmentKey } from '../../../src/election/types.ts';
import { DATA, type Host, Network, STORAGE } from './watch-network.ts';

const SEEDS = Array.from({ length: 25 }, (_, seed) => seed * 104_729 + 1);

function settled(options: ConstructorParameters<typeof Network>[0]): Network {
  const network = new Network(options);
  network.run(1_000 + network.random() * 100);
  assert.deepEqual(network.events, [], 'something happened on a healthy network');
  return network;
}

function farewell(network: Network, host: Host, why: Farewell['why'], leaseLeftMs: number | undefined): void {
  const { name: from, incarnation } = host;
  for (const other of network.hosts) {
    if (other === host) continue;
    other.watch.farewell({ kind: 'farewell', from, incarnation, why, leaseLeftMs }, network.clock(other));
  }
}

/** Every neighbour of every host has it as a neighbour. */
function assertMutual(network: Network, hosts: readonly Host[]): void {
  for (const host of hosts) {
    for (const name of host.watch.neighbours(DATA)) {
      const other = network.hosts.find((candidate) => candidate.name === name);
      assert.ok(other?.watch.neighbours(DATA).includes(host.name), `${host.name} watches ${name}`);
    }
  }
}

test('Watch judges a process that ended within 25 ms of the end of its connection', () => {
  for (const how of ['fin', 'rst'] as const) {
    for (const seed of SEEDS) {
      const network = settled({ hosts: 5, seed });
      const victim = network.host(seed % 5);
      const watchers = [...victim.watch.neighbours(DATA)].sort();
      network.killProcess(victim, how);
      const endedAt = network.now;
      network.run(2_000);
      const verdicts = network.of('verdict');
      assert.deepEqual(verdicts.map(({ host }) => host).sort(), watchers);
      for (const { at, silence } of verdicts) {
        assert.equal(silence.why, 'process-gone');
        assert.ok(at - endedAt <= 25, `${at - endedAt}`);
      }
    }
  }
});

test('Watch judges nobody when only a watch connection ends, and opens another', () => {
  for (const seed of SEEDS) {
    const network = settled({ hosts: 4, seed, loss: 0 });
    const [host, name] = [network.host(1), network.host(1).watch.neighbours(DATA)[0]];
    const peer = network.hosts.find((other) => other.name === name);
    assert.ok(peer);
    network.cutConnection(host, peer, seed % 2 === 0 ? 'fin' : 'rst');
    network.run(3_000);
    assert.deepEqual(network.events, []);
    assert.ok(host.watch.peers().every(({ connected }) => connected));
  }
});

test('Watch of a paused host judges a process that ended meanwhile only after it is confirmed', () => {
  const network = settled({ hosts: 5 });
  const sleeper = network.host(1);
  const victim = network.hosts.find(({ name }) => name === sleeper.watch.neighbours(DATA)[0]);
  assert.ok(victim);
  network.pause(sleeper);
  network.run(100);
  network.killProcess(victim);
  network.run(200);
  network.resume(sleeper, 300, false);
  assert.deepEqual(
    network.of('verdict').filter(({ host }) => host === sleeper.name),
    [],
  );
  network.run(100);
  const [verdict] = network.of('verdict').filter(({ host }) => host === sleeper.name);
  const confirmed = network.of('confirmed').find(({ host }) => host === sleeper.name);
  assert.ok(verdict && confirmed && verdict.at >= confirmed.at);
});

test('Watch lets a host restart that said so, with the same incarnation', () => {
  const network = settled({ hosts: 5 });
  const host = network.host(2);
  farewell(network, host, 'restarting', 3_000);
  network.killProcess(host);
  network.run(280);
  network.restart(host);
  network.run(2_000);
  assert.deepEqual(
    network.events.filter(({ kind }) => kind !== 'unconfirmed' && kind !== 'confirmed'),
    [],
  );
  assert.equal(host.watch.mayRenew(DATA), true);
  network.kill(host);
  network.run(300);
  assert.equal(network.of('verdict').length, 2);
});

test('Watch judges a host that said that it restarts and does not, so that the wire is watched', () => {
  const network = settled({ hosts: 5 });
  const host = network.host(2);
  farewell(network, host, 'restarting', 3_000);
  const saidAt = network.now;
  network.killProcess(host);
  network.run(4_000);
  const verdicts = network.of('verdict');
  assert.equal(verdicts.length, 2);
  for (const { at, silence } of verdicts) {
    assert.equal(silence.why, 'restarting');
    assert.equal(silence.leaseEndsAt, saidAt + 3_000);
    assert.ok(at - saidAt > 300 && at - saidAt < 700, `${at - saidAt}`);
  }
});

test('Watch judges nobody that said that it leaves', () => {
  const network = settled({ hosts: 5 });
  const host = network.host(2);
  farewell(network, host, 'leaving', undefined);
  network.killProcess(host);
  network.run(1_000);
  network.tell(host, 'left');
  network.run(5_000);
  assert.deepEqual(network.events, []);
});

test('Watch takes a host back that is restarted after the verdict, with the same incarnation or a higher one', () => {
  for (const incarnation of [1, 2]) {
    const network = settled({ hosts: 5 });
    const host = network.host(2);
    network.kill(host);
    network.run(400);
    assert.equal(network.of('verdict').length, 2);
    network.restart(host, incarnation);
    network.run(1_000);
    const revived = network.of('revived');
    assert.deepEqual(
      revived.map((event) => event.incarnation),
      [incarnation, incarnation],
    );
    assert.equal(network.of('verdict').length, 2);
    for (const other of network.hosts) assert.equal(other.watch.silence(host.name, DATA), undefined);
  }
});

test('Watch goes unnoticed through a restart faster than its detection', () => {
  const network = settled({ hosts: 5 });
  const host = network.host(2);
  network.kill(host);
  network.run(60);
  network.restart(host);
  network.run(2_000);
  assert.deepEqual(network.of('verdict'), []);
});

test('Watch vouches for a neighbour that is suspected and heard', () => {
  const network = settled({ hosts: 5 });
  const host = network.host(2);
  network.tell(host, 'suspect');
  network.run(1_000);
  const vouched = network.of('vouched');
  assert.deepEqual([...new Set(vouched.map(({ name }) => name))], [host.name]);
  assert.deepEqual(new Set(vouched.map((event) => event.host)), new Set(host.watch.neighbours(DATA)));
  assert.ok(vouched.length >= 12 && vouched.length <= 22, `${vouched.length}`);
  network.tell(host, 'alive');
  network.run(1_000);
  assert.equal(network.of('vouched').length, vouched.length);
});

test('Watch is mutual on a ring of 1 to 12, of two neighbours each', () => {
  for (let hosts = 1; hosts <= 12; hosts++) {
    const network = settled({ hosts });
    assertMutual(network, network.hosts);
    for (const { watch } of network.hosts)
      assert.equal(watch.neighbours(DATA).length, Math.min(2, hosts - 1));
  }
});

test('Watch follows members that join and leave, and connects only to neighbours', () => {
  for (const seed of SEEDS) {
    const network = settled({ hosts: 8, seed });
    const gone = network.hosts.filter((_, index) => index % 3 === seed % 3);
    for (const host of gone) {
      network.kill(host);
      network.tell(host, 'left');
      network.run(10);
    }
    const rest = network.hosts.filter((host) => !gone.includes(host));
    network.run(2_000);
    assertMutual(network, rest);
    for (const host of gone) {
      network.restart(host, 2);
      network.tell(host, 'alive');
      network.run(20);
    }
    network.run(2_000);
    assertMutual(network, network.hosts);
    assert.deepEqual(network.of('verdict'), []);
    for (const { watch, connections } of network.hosts) {
      assert.equal(connections.size, 2);
      assert.ok(watch.peers().every(({ armed, connected }) => armed && connected));
    }
  }
});

test('Watch closes around a dead host: whoever was next to it watches whoever was beyond', () => {
  const network = settled({ hosts: 6 });
  const victim = network.host(4);
  const [left, right] = victim.watch
    .neighbours(DATA)
    .map((name) => network.hosts.find((host) => host.name === name));
  assert.ok(left && right);
  network.kill(victim);
  network.run(300);
  assert.ok(left.watch.neighbours(DATA).includes(right.name));
  assert.ok(right.watch.neighbours(DATA).includes(left.name));
  network.run(500);
  network.kill(right);
  network.run(300);
  assert.notEqual(left.watch.silence(right.name, DATA), undefined);
  network.tell(victim, 'dead');
  network.tell(right, 'dead');
  network.run(300);
  assert.equal(left.watch.neighbours(DATA).length, 2);
});

test('Watch judges a host on the segment whose NIC died, and not on its other one', () => {
  for (const dead of [DATA, STORAGE]) {
    const alive: SegmentKey = dead === DATA ? STORAGE : DATA;
    const network = settled({ hosts: 5, segments: [DATA, STORAGE], reference: true });
    const host = network.host(2);
    network.passes = ({ from, to, segment }) => segment !== dead || (from !== host.name && to !== host.name);
    network.referencePasses = (name, segment) => segment !== dead || name !== host.name;
    network.run(3_000);
    assert.equal(host.watch.isIsolated(dead), true);
    assert.equal(host.watch.mayRenew(dead), false);
    assert.equal(host.watch.mayRenew(alive), true);
    const verdicts = network.of('verdict');
    assert.equal(verdicts.length, 2);
    assert.ok(verdicts.every(({ segment, name }) => segment === dead && name === host.name));
    network.passes = () => true;
    network.referencePasses = () => true;
    network.run(1_000);
    assert.equal(host.watch.mayRenew(dead), true);
    assert.equal(network.of('revived').length, 2);
  }
});

test('Watch believes no heartbeat that came over another segment than its own', () => {
  const network = settled({ hosts: 2, segments: [DATA, STORAGE] });
  const [one, other] = [network.host(0), network.host(1)];
  const before = one.watch.peers().find(({ segment }) => segment === DATA)?.lastHeardAt;
  const beat = {
    kind: 'heartbeat',
    from: other.name,
    incarnation: 1,
    segment: DATA,
    seq: 1e9,
    ackSeq: 0,
    gapMs: 0,
    urgent: true,
    isolated: false,
    claimsMatch: true,
    ownDigest: 0,
    tableDigest: 0,
    leaseLeftMs: 0,
  } as const;
  const from = network.member(other, 'alive').meta.endpoint;
  one.watch.heartbeat(beat, from, STORAGE, undefined, network.clock(one));
  one.watch.heartbeat(beat, from, undefined, undefined, network.clock(one));
  assert.equal(one.watch.peers().find(({ segment }) => segment === DATA)?.lastHeardAt, before);
  assert.equal(one.out.length, 0);
});

test('Watch lets go of what it watches on a segment that the host no longer has', () => {
  const network = settled({ hosts: 3, segments: [DATA, STORAGE] });
  const host = network.host(0);
  const own = network.member(host, 'alive').meta.segments.slice(1);
  host.watch.segmentsChanged(own, host.members, network.clock(host));
  assert.deepEqual(
    host.out.map((effect) => effect.kind),
    ['watch-close', 'watch-close'],
  );
  assert.deepEqual(host.watch.neighbours(DATA), []);
  assert.equal(host.watch.mayRenew(DATA), false);
  assert.equal(host.watch.mayRenew(STORAGE), true);
  host.watch.segmentsChanged([], host.members, network.clock(host));
  assert.equal(host.watch.deadline(), Number.POSITIVE_INFINITY);
});
