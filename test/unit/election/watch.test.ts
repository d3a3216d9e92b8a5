import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROFILES } from '../../../src/election/settings.ts';
import type { MemberName } from '../../../src/election/types.ts';
import { DATA, type Host, type Logged, Network, type Path } from './watch-network.ts';

const SEEDS = Array.from({ length: 25 }, (_, seed) => seed * 7_919 + 1);

function settled(options: ConstructorParameters<typeof Network>[0]): Network {
  const network = new Network(options);
  network.run(1_000 + network.random() * 100);
  assert.deepEqual(network.events, [], 'something happened on a healthy network');
  return network;
}

function kinds(events: readonly Logged[]): readonly string[] {
  return events.map(({ kind, host }) => `${host} ${kind}`);
}

function neighboursOf(host: Host): readonly MemberName[] {
  return [...host.watch.neighbours(DATA)].sort();
}

/** Cuts the cable of some hosts on the data segment. */
function cut(network: Network, ...hosts: readonly Host[]): void {
  const names = new Set(hosts.map(({ name }) => name));
  network.passes = ({ from, to, segment }) => segment !== DATA || !(names.has(from) || names.has(to));
  network.referencePasses = (name, segment) => segment !== DATA || !names.has(name);
}

function mend(network: Network): void {
  network.passes = () => true;
  network.referencePasses = () => true;
}

test('Watch sends one heartbeat each way per edge and heartbeat interval, and nothing happens, whatever the jitter', () => {
  for (const hosts of [1, 2, 3, 10]) {
    const network = new Network({ hosts, jitterMs: 30, seed: hosts });
    network.run(60_000);
    assert.deepEqual(network.events, []);
    const edges = hosts === 1 ? 0 : hosts === 2 ? 1 : hosts;
    const perEdge = network.sent / 60 / Math.max(1, edges);
    assert.ok(hosts === 1 ? network.sent === 0 : perEdge > 39 && perEdge < 43, `${perEdge} packets a second`);
  }
});

test('Watch knows the round trip to each neighbour', () => {
  const network = settled({ hosts: 4 });
  network.run(10_000);
  for (const { watch } of network.hosts) {
    for (const { rttMs, connected } of watch.peers()) {
      assert.ok(rttMs !== undefined && rttMs >= 0.2 && rttMs <= 1.1, `${rttMs}`);
      assert.equal(connected, true);
    }
  }
});

test('Watch judges a dead host 150 to 210 ms after its last heartbeat, and both its neighbours do', () => {
  for (const hosts of [3, 10]) {
    for (const seed of SEEDS) {
      const network = settled({ hosts, seed, jitterMs: 2 });
      const victim = network.host(seed % hosts);
      const watchers = neighboursOf(victim);
      network.kill(victim);
      const diedAt = network.now;
      network.run(3_000);
      const verdicts = network.of('verdict');
      assert.deepEqual(verdicts.map(({ host }) => host).sort(), watchers);
      for (const { at, name, silence, incarnation } of verdicts) {
        assert.equal(name, victim.name);
        assert.equal(incarnation, 1);
        assert.equal(silence.why, 'silent');
        assert.ok(silence.lastHeardAt <= diedAt + 1 && silence.lastHeardAt > diedAt - 55);
        assert.equal(silence.leaseEndsAt, silence.lastHeardAt + 3_000);
        assert.ok(
          at - silence.lastHeardAt >= 150 && at - silence.lastHeardAt <= 210,
          `${at - silence.lastHeardAt}`,
        );
      }
      assert.equal(network.of('isolated').length, 0);
    }
  }
});

test('Watch of two hosts judges the other only while a reference answers', () => {
  for (const reference of [true, false]) {
    const network = settled({ hosts: 2, reference });
    network.kill(network.host(1));
    network.run(1_000);
    assert.deepEqual(kinds(network.events), [reference ? 'host-0 verdict' : 'host-0 isolated']);
  }
});

test('Watch judges two adjacent hosts that die at once', () => {
  for (const seed of SEEDS) {
    const network = settled({ hosts: 8, seed });
    const first = network.host(seed % 8);
    const second = network.hosts.find(({ name }) => name === first.watch.neighbours(DATA)[0]);
    assert.ok(second);
    network.kill(first);
    network.kill(second);
    network.run(500);
    const judged = new Set(network.of('verdict').map(({ name }) => name));
    assert.deepEqual([...judged].sort(), [first.name, second.name].sort());
  }
});

test('Watch leaves a mute host under the verdict of its neighbours, and that host itself judges nobody', () => {
  const network = settled({ hosts: 5, reference: true });
  const mute = network.host(2);
  const watchers = neighboursOf(mute);
  network.passes = ({ from }) => from !== mute.name;
  network.run(5_000);
  assert.deepEqual(
    kinds(network.events).toSorted(),
    [...watchers.map((name) => `${name} verdict`), `${mute.name} unconfirmed`].toSorted(),
  );
});

test('Watch of a deaf host is isolated, judges nobody, and says that it let go', () => {
  const network = settled({ hosts: 5, reference: true });
  const deaf = network.host(2);
  const watchers = neighboursOf(deaf);
  network.passes = ({ to }) => to !== deaf.name;
  network.referencePasses = (name) => name !== deaf.name;
  network.run(2_000);
  assert.deepEqual(
    network.of('isolated').map(({ host }) => host),
    [deaf.name],
  );
  const verdicts = network.of('verdict');
  assert.deepEqual(verdicts.map(({ host, silence }) => `${host} ${silence.why}`).sort(), [
    `${watchers[0]} isolated`,
    `${watchers[1]} isolated`,
  ]);
  mend(network);
  network.run(2_000);
  assert.deepEqual(
    network
      .of('revived')
      .map(({ host }) => host)
      .sort(),
    watchers,
  );
  assert.equal(deaf.watch.isConfirmed(DATA), true);
});

test('Watch judges nobody when two hosts cannot reach each other and others can reach both', () => {
  for (const oneWay of [true, false]) {
    const network = settled({ hosts: 6, seed: 3 });
    const [one, other] = [network.host(1).name, network.host(1).watch.neighbours(DATA)[0]];
    network.passes = ({ from, to }) =>
      !((from === one && to === other) || (!oneWay && from === other && to === one));
    network.run(30_000);
    assert.deepEqual(network.events, []);
  }
});

test('Watch rides out 30 % of all packets lost for 60 s', () => {
  for (const hosts of [2, 3, 10]) {
    const network = new Network({ hosts, loss: 0.3, seed: hosts, jitterMs: 5 });
    network.run(60_000);
    const happened = network.events.filter(({ kind }) => kind !== 'unconfirmed' && kind !== 'confirmed');
    assert.deepEqual(happened, []);
    for (const { watch } of network.hosts) assert.equal(watch.mayRenew(DATA), true);
  }
});

test('Watch after a pause that its clock shows judges nobody and is confirmed in a round trip', () => {
  for (const seed of SEEDS) {
    const network = settled({ hosts: 3 + (seed % 4), seed });
    const sleeper = network.host(0);
    const pausedMs = 60 + network.random() * 440;
    network.pause(sleeper);
    network.run(pausedMs);
    const wokeAt = network.now;
    network.resume(sleeper, pausedMs, false);
    assert.equal(sleeper.watch.mayRenew(DATA), pausedMs < 100 ? sleeper.watch.mayRenew(DATA) : false);
    network.run(1_000);
    const own = network.events.filter(({ host, kind }) => host === sleeper.name && kind !== 'confirmed');
    assert.ok(own.every(({ kind }) => kind === 'unconfirmed'));
    if (pausedMs > 100) assert.ok(own.length > 0, `paused for ${pausedMs}`);
    for (const { at, host } of network.of('confirmed'))
      if (host === sleeper.name) assert.ok(at - wokeAt < 5, `${at - wokeAt}`);
    assert.equal(sleeper.watch.mayRenew(DATA), true);
    for (const { host, name } of network.of('verdict')) {
      assert.ok(host !== sleeper.name && name === sleeper.name);
      assert.ok(network.of('revived').some((revived) => revived.host === host));
    }
    if (pausedMs < 150) assert.deepEqual(network.of('verdict'), []);
  }
});

test('Watch after a pause that its clock hides learns of it from the first answer', () => {
  for (const pausedMs of [300, 5_000]) {
    const network = settled({ hosts: 5 });
    const sleeper = network.host(3);
    network.pause(sleeper);
    network.run(pausedMs);
    const wokeAt = network.now;
    network.resume(sleeper, pausedMs, true);
    network.run(1_000);
    const own = network.events.filter(({ host }) => host === sleeper.name);
    const doubt = own.find((event) => event.kind === 'unconfirmed');
    assert.ok(doubt?.kind === 'unconfirmed');
    assert.ok(doubt.at - wokeAt <= 52, `${doubt.at - wokeAt}`);
    assert.ok(Math.abs(doubt.forMs - pausedMs) <= 52, `${doubt.forMs}`);
    assert.ok(own.every(({ kind }) => kind === 'unconfirmed' || kind === 'confirmed'));
    assert.equal(own.at(-1)?.kind, 'confirmed');
    assert.ok(network.reports.some(({ kind, host }) => kind === 'paused' && host === sleeper.name));
  }
});

test('Watch after a pause in which its addresses were taken exchanges states before it is confirmed', () => {
  for (const hidden of [false, true]) {
    const network = settled({ hosts: 5 });
    const sleeper = network.host(3);
    network.pause(sleeper);
    network.run(2_000);
    network.supersede(sleeper);
    const wokeAt = network.now;
    network.resume(sleeper, 2_000, hidden);
    network.run(500);
    const confirmed = network.of('confirmed').find(({ host }) => host === sleeper.name);
    assert.ok(confirmed);
    assert.ok(confirmed.at - wokeAt < (hidden ? 80 : 30), `${confirmed.at - wokeAt}`);
    assert.equal(sleeper.records.get(sleeper.name), network.host(0).records.get(sleeper.name));
    assert.equal(sleeper.watch.mayRenew(DATA), true);
  }
});

test('Watch of a waker that nobody answers is isolated within 200 ms', () => {
  const network = settled({ hosts: 5, reference: true });
  const sleeper = network.host(3);
  network.pause(sleeper);
  cut(network, sleeper);
  network.run(5_000);
  const wokeAt = network.now;
  network.resume(sleeper, 5_000, false);
  assert.equal(sleeper.watch.mayRenew(DATA), false);
  network.run(500);
  const isolated = network.of('isolated').find(({ host }) => host === sleeper.name);
  assert.ok(isolated && isolated.at - wokeAt <= 200, `${isolated?.at}`);
  assert.equal(network.of('verdict').filter(({ host }) => host === sleeper.name).length, 0);
});

test('Watch is isolated 150 ms after the last packet heard, never later, and returns with the first', () => {
  for (const reference of [true, false]) {
    for (const seed of SEEDS) {
      const network = settled({ hosts: 2 + (seed % 9), seed, reference });
      const victim = network.host(0);
      const heard = Math.max(...victim.watch.peers().map(({ lastHeardAt }) => lastHeardAt));
      cut(network, victim);
      const cutAt = network.now;
      network.run(2_000);
      const isolated = network.of('isolated').find(({ host }) => host === victim.name);
      assert.ok(isolated && isolated.at - heard > 149.999, `${isolated?.at} ${heard}`);
      assert.ok(isolated.at - cutAt <= 151, `${isolated.at - cutAt}`);
      assert.equal(victim.watch.isIsolated(DATA), true);
      assert.equal(victim.watch.mayRenew(DATA), false);
      assert.equal(network.of('verdict').filter(({ host }) => host === victim.name).length, 0);
      mend(network);
      const mendedAt = network.now;
      network.run(1_000);
      const own = network.events.filter(({ host, at }) => host === victim.name && at > mendedAt);
      assert.deepEqual(
        own.map(({ kind }) => kind),
        ['returned', 'unconfirmed', 'confirmed'],
      );
      assert.ok((own[0]?.at ?? 0) - mendedAt <= 52, 'returned');
      assert.ok((own.at(-1)?.at ?? 0) - mendedAt <= 55, 'confirmed');
      assert.equal(victim.watch.mayRenew(DATA), true);
    }
  }
});

test('Watch judges a dead host after an isolation that was shorter than a verdict takes, and not after a longer one', () => {
  for (const [pausedMs, judges] of [
    [165, true],
    [260, false],
  ] as const) {
    const network = settled({ hosts: 3 });
    const [dead, sleeper, waiting] = [network.host(0), network.host(1), network.host(2)];
    network.kill(dead);
    network.pause(sleeper);
    network.run(pausedMs);
    network.resume(sleeper, pausedMs, false);
    const wokeAt = network.now;
    network.run(400);
    assert.ok(network.of('isolated').some(({ host }) => host === waiting.name));
    const verdict = network.of('verdict').find(({ host }) => host === waiting.name);
    assert.equal(verdict !== undefined, judges, `after ${pausedMs} ms`);
    if (verdict !== undefined) assert.ok(verdict.at - wokeAt <= 215, `${verdict.at - wokeAt} ms`);
  }
});

test('Watch that holds while isolated says neither that it let go nor that it may not renew', () => {
  const network = settled({ hosts: 5, settings: { isolation: 'hold' } });
  const deaf = network.host(2);
  network.passes = ({ to }) => to !== deaf.name;
  network.run(2_000);
  assert.equal(deaf.watch.isIsolated(DATA), true);
  assert.equal(deaf.watch.mayRenew(DATA), true);
  assert.deepEqual(network.of('verdict'), []);
  deaf.watch.setReleases(true);
  network.run(500);
  assert.equal(deaf.watch.mayRenew(DATA), false);
  assert.equal(network.of('verdict').length, 2);
});

test('Watch is not isolated while the reference answers and all peers are gone', () => {
  const network = settled({ hosts: 3, reference: true });
  const last = network.host(0);
  for (const host of network.hosts) if (host !== last) network.kill(host);
  network.run(500);
  for (const host of network.hosts) if (host !== last) network.tell(host, 'dead');
  network.run(10_000);
  assert.deepEqual(network.of('isolated'), []);
  assert.equal(network.of('verdict').length, 2);
  assert.equal(last.watch.mayRenew(DATA), true);
  network.pause(last);
  network.run(700);
  network.resume(last, 700, false);
  assert.equal(last.watch.mayRenew(DATA), false);
  network.run(300);
  assert.equal(last.watch.mayRenew(DATA), true);
  network.reference = false;
  network.run(1_000);
  assert.deepEqual(
    network.of('isolated').map(({ host }) => host),
    [last.name],
  );
});

test('Watch of a host whose peers all left is not isolated', () => {
  const network = settled({ hosts: 3 });
  const last = network.host(0);
  for (const host of network.hosts) {
    if (host === last) continue;
    network.kill(host);
    network.tell(host, 'left');
  }
  network.run(5_000);
  assert.deepEqual(network.events, []);
  assert.equal(last.watch.mayRenew(DATA), true);
});

test('Watch judges nobody when a switch goes away under all, nor when its ports come back one by one', () => {
  for (const seed of SEEDS) {
    const network = settled({ hosts: 7, seed, reference: true, jitterMs: 3 });
    let up: readonly Host[] = [];
    network.passes = ({ from, to }) =>
      up.some(({ name }) => name === from) && up.some(({ name }) => name === to);
    network.referencePasses = (name) => up.some((host) => host.name === name);
    network.run(3_000);
    assert.deepEqual(
      network.events.map(({ kind }) => kind),
      Array.from({ length: 7 }, () => 'isolated'),
    );
    for (const host of network.hosts) {
      up = [...up, host];
      network.run(network.random() * 1_000);
    }
    network.run(1_000);
    assert.deepEqual(network.of('verdict'), []);
    for (const { watch } of network.hosts) assert.equal(watch.mayRenew(DATA), true);
  }
});

test('Watch finds no fault when UDP is lost between hosts and TCP is not, says so, and once only', () => {
  const network = settled({ hosts: 4 });
  const lost = network.host(1);
  const udpLost = ({ from, to, tcp }: Path) => !tcp && (from === lost.name || to === lost.name);
  network.passes = (path) => !udpLost(path);
  network.run(20_000);
  assert.deepEqual(network.of('verdict'), []);
  assert.deepEqual(network.of('isolated'), []);
  const watchers = neighboursOf(lost);
  const told = network.reports.filter(({ kind }) => kind === 'udp-lost');
  assert.deepEqual(told.map(({ host }) => host).sort(), [lost.name, lost.name, ...watchers].sort());
  assert.ok(lost.watch.peers().every(({ udpLost }) => udpLost));
  mend(network);
  network.run(10_000);
  assert.ok(lost.watch.peers().every(({ udpLost }) => !udpLost));
  const before = network.sent;
  network.run(10_000);
  assert.ok(network.sent - before < 10 * 42 * 4, 'it stays excited');
});

test('Watch keeps the promises of each profile: nothing at its latency and loss, a verdict and isolation in time', () => {
  for (const [profile, latencyMs, loss] of [
    ['fast', [0.05, 0.2], 0.01],
    ['lan', [0.1, 2], 0.05],
    ['wan', [20, 80], 0.05],
  ] as const) {
    const settings = PROFILES[profile];
    const judgeMs = settings.heartbeatMs * settings.missedHeartbeats + settings.inquiryMs;
    const network = new Network({ hosts: 6, latencyMs, loss, settings, jitterMs: 2 });
    network.run(600_000);
    assert.deepEqual(network.of('verdict'), []);
    assert.deepEqual(network.of('isolated'), []);
    const victim = network.host(2);
    const cutAt = network.now;
    cut(network, victim);
    network.run(judgeMs * 3);
    for (const { host, at, silence } of network.of('verdict')) {
      assert.ok(
        host !== victim.name && Math.abs(at - silence.lastHeardAt - judgeMs) <= settings.inquiryEveryMs,
      );
    }
    assert.equal(network.of('verdict').length, 2);
    const [isolated] = network.of('isolated');
    assert.equal(isolated?.host, victim.name);
    assert.ok((isolated?.at ?? 0) <= cutAt + latencyMs[1] + settings.isolationMs + 3, profile);
    mend(network);
    network.run(3_000);
    assert.equal(victim.watch.mayRenew(DATA), true);
  }
});
