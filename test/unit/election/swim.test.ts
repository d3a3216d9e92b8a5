import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeMessage, encodeMessage } from '../../../src/election/codec.ts';
import { PACKET_OVERHEAD_BYTES } from '../../../src/election/io/sealer.ts';
import { MAX_PACKET_BYTES } from '../../../src/election/message.ts';
import { SwimNetwork } from './swim-network.ts';

/** Real members on a virtual network; what each scenario took is printed, because the figures are promises. */

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

test('ten hosts that know one seed know each other within a second', (t) => {
  const network = new SwimNetwork(1);
  for (let index = 0; index < 10; index++) network.add(`host-${index}`);
  const [seed] = network.hosts;
  assert.ok(seed !== undefined);
  for (const host of network.hosts) network.act(host, () => host.swim.seeds([seed.endpoint], network.now));
  const tookMs = network.runUntil(() => network.converged(), 1_000, 5);
  t.diagnostic(`${tookMs} ms, ${network.exchanges} exchanges, ${network.packets} packets`);
  assert.ok(tookMs <= 1_000);
});

test('seeds are tried until somebody is there, and the one that was alone is found', () => {
  const network = new SwimNetwork(2);
  const early = network.add('early');
  const late = network.add('late');
  late.up = false;
  network.act(early, () => early.swim.seeds([early.endpoint, late.endpoint], network.now));
  network.run(120_000);
  assert.equal(early.swim.othersHere, 0);
  late.up = true;
  const tookMs = network.runUntil(() => network.converged(), 20_000, 10);
  assert.ok(tookMs <= 13_000, `${tookMs}`);
});

test('two clusters that never met become one through a seed that one has of the other', () => {
  const network = new SwimNetwork(3);
  const hosts = Array.from({ length: 6 }, (_, index) => network.add(`host-${index}`));
  const [a, , , b] = hosts;
  assert.ok(a !== undefined && b !== undefined);
  network.passes = (from, to) => hosts.indexOf(from) < 3 === hosts.indexOf(to) < 3;
  for (const host of hosts) network.act(host, () => host.swim.seeds([a.endpoint, b.endpoint], network.now));
  network.run(30_000);
  assert.equal(a.swim.othersHere, 2);
  network.passes = () => true;
  const tookMs = network.runUntil(() => network.converged(), 30_000, 50);
  assert.ok(tookMs <= 16_000, `${tookMs}`);
});

test('a host that is gone is dead everywhere, by probes alone, within ten seconds', (t) => {
  for (const seed of [4, 5, 6]) {
    const network = new SwimNetwork(seed);
    const victim = network.joined(10)[4];
    assert.ok(victim !== undefined);
    network.run(3_000);
    victim.up = false;
    const tookMs = network.runUntil(() => network.allHold(victim, 'dead'), 10_000, 10);
    t.diagnostic(`${tookMs} ms`);
    assert.ok(tookMs <= 10_000);
    assert.equal(network.reported('died'), 9);
  }
});

test('the one that is left of two declares the other dead', () => {
  const network = new SwimNetwork(7);
  const [one, other] = network.joined(2);
  assert.ok(one !== undefined && other !== undefined);
  network.run(3_000);
  other.up = false;
  const tookMs = network.runUntil(() => network.allHold(other, 'dead', [one]), 10_000, 10);
  assert.ok(tookMs <= 5_000, `${tookMs}`);
});

test('1,000 members agree on a death that two watchers judged within 3.0 s', (t) => {
  const network = new SwimNetwork(8);
  network.keepReports = false;
  const before = cpuSeconds();
  const hosts = network.joined(1_000);
  const [victim] = hosts;
  assert.ok(victim !== undefined);
  assert.ok(network.converged(hosts.slice(0, 10)));
  network.run(4_000);
  const diedAt = network.now;
  victim.up = false;
  network.run(210);
  for (const watcher of [hosts[300], hosts[700]]) {
    assert.ok(watcher !== undefined);
    const silence = network.silence(diedAt);
    const { swim, name } = watcher;
    network.act(watcher, () => swim.judge(victim.name, victim.swim.incarnation, silence, name, network.now));
  }
  const tookMs = 210 + network.runUntil(() => network.allHold(victim, 'dead'), 5_000, 10);
  const heap = Math.round(process.memoryUsage().heapUsed / 1e6);
  t.diagnostic(`agreed after ${tookMs} ms, ${(cpuSeconds() - before).toFixed(1)} s of CPU, heap ${heap} MB`);
  assert.ok(tookMs <= 3_000, `${tookMs}`);
});

test('a wrong verdict is refuted before anybody is dead', () => {
  const network = new SwimNetwork(9);
  const hosts = network.joined(20);
  const [judge, victim] = hosts;
  assert.ok(judge !== undefined && victim !== undefined);
  network.run(3_000);
  const silence = network.silence(network.now);
  network.act(judge, () => judge.swim.judge(victim.name, 1, silence, judge.name, network.now));
  assert.equal(judge.swim.member(victim.name)?.state, 'suspect');
  const tookMs = network.runUntil(() => network.allHold(victim, 'alive'), 1_000, 5);
  assert.ok(tookMs <= 300, `${tookMs}`);
  network.run(10_000);
  assert.equal(network.reported('died'), 0);
  assert.equal(victim.swim.incarnation, 2);
  assert.ok(hosts.every((host) => host.swim.member(victim.name)?.incarnation === 2));
  assert.equal(judge.swim.silence(victim.name), undefined);
});

test('two halves that were cut for 60 s are one again by themselves within 10 s', (t) => {
  for (const seed of [10, 11, 12]) {
    const network = new SwimNetwork(seed);
    const hosts = network.joined(10);
    network.run(3_000);
    network.passes = (from, to) => hosts.indexOf(from) < 5 === hosts.indexOf(to) < 5;
    network.run(60_000);
    const [one] = hosts;
    const far = hosts[7];
    assert.ok(one !== undefined && far !== undefined);
    assert.equal(one.swim.member(far.name)?.state, 'dead');
    network.passes = () => true;
    const tookMs = network.runUntil(() => network.converged(), 10_000, 10);
    t.diagnostic(`${tookMs} ms`);
    assert.ok(tookMs <= 10_000);
  }
});

test('when all were cut from all and come back one by one, everybody is found again', (t) => {
  const network = new SwimNetwork(13);
  const hosts = network.joined(50);
  network.run(3_000);
  network.passes = () => false;
  network.run(30_000);
  const back = new Set<unknown>();
  network.passes = (from, to) => back.has(from) && back.has(to);
  for (const host of hosts) {
    back.add(host);
    network.run(100);
  }
  const tookMs = network.runUntil(() => network.converged(), 10_000, 10);
  t.diagnostic(`${tookMs} ms after the last`);
  assert.ok(tookMs <= 5_000);
});

test('5 % loss for half an hour among 50 hosts kills nobody', (t) => {
  const network = new SwimNetwork(14);
  network.joined(50);
  network.loss = 0.05;
  network.run(1_800_000);
  t.diagnostic(`${network.packets} packets, ${network.reported('suspected')} suspicions`);
  assert.equal(network.reported('died'), 0);
});

test('5 % loss without any TCP: suspicions are all refuted', (t) => {
  const network = new SwimNetwork(15);
  network.joined(50);
  network.loss = 0.05;
  network.tcpPasses = () => false;
  network.run(600_000);
  t.diagnostic(`${network.reported('suspected')} suspicions, ${network.reported('refuted')} refuted`);
  assert.ok(network.reported('suspected') > 0, 'the fallback over TCP is not what saved them');
  assert.equal(network.reported('died'), 0);
});

test('two hosts that cannot hear each other stay alive through the others', () => {
  const network = new SwimNetwork(16);
  const [, a, b] = network.joined(5);
  network.passes = (from, to) => !((from === a && to === b) || (from === b && to === a));
  network.run(300_000);
  assert.equal(network.reported('suspected'), 0);
});

test('a deaf host harms nobody but itself', () => {
  for (const count of [3, 10, 50]) {
    const network = new SwimNetwork(17);
    const hosts = network.joined(count);
    const deaf = hosts[1];
    assert.ok(deaf !== undefined);
    network.run(3_000);
    network.passes = (_, to) => to !== deaf;
    network.run(60_000);
    assert.ok(network.allHold(deaf, 'dead'));
    const wronged = hosts
      .filter((host) => host !== deaf)
      .flatMap((host) => host.reports)
      .filter((report) => report.kind === 'died' && report.member.name !== deaf.name);
    assert.deepEqual(wronged, []);
    network.passes = () => true;
    assert.ok(network.runUntil(() => network.converged(), 10_000, 10) <= 3_000);
  }
});

test('a host that did not run for a while suspects nobody for it', () => {
  for (const pauseMs of [300, 1_000, 2_000, 10_000]) {
    const network = new SwimNetwork(18);
    const hosts = network.joined(10);
    const sleeper = hosts[3];
    assert.ok(sleeper !== undefined);
    network.run(3_000);
    network.pause(sleeper, pauseMs);
    network.run(pauseMs + 20_000);
    assert.deepEqual(
      sleeper.reports.filter((report) => report.kind === 'suspected' || report.kind === 'died'),
      [],
    );
    assert.ok(network.converged(), `after ${pauseMs} ms`);
  }
});

test('a host that leaves is gone at once and suspected by nobody', (t) => {
  const network = new SwimNetwork(19);
  const leaver = network.joined(50)[7];
  assert.ok(leaver !== undefined);
  network.run(3_000);
  network.act(leaver, () => leaver.swim.leave(network.now));
  const tookMs = network.runUntil(() => network.allHold(leaver, 'left'), 1_000, 5);
  t.diagnostic(`${tookMs} ms`);
  assert.ok(tookMs <= 500);
  leaver.up = false;
  network.run(10_000);
  assert.equal(network.reported('suspected'), 0);
  assert.equal(network.reported('left'), 49);
});

test('a host that forgot its incarnation is told and comes back', (t) => {
  const network = new SwimNetwork(20);
  const hosts = network.joined(10);
  const [seed, victim] = hosts;
  assert.ok(seed !== undefined && victim !== undefined);
  for (let life = 0; life < 3; life++) {
    network.run(3_000);
    victim.up = false;
    network.run(15_000);
    assert.ok(network.allHold(victim, 'dead'));
    network.restart(victim, 1);
    network.act(victim, () => victim.swim.seeds([seed.endpoint], network.now));
    const tookMs = network.runUntil(() => network.converged(), 5_000, 5);
    t.diagnostic(`${tookMs} ms`);
    assert.ok(tookMs <= 1_000);
  }
});

test('two hosts of one name are reported and do not outbid each other all the time', () => {
  const network = new SwimNetwork(21);
  const hosts = network.joined(5);
  const [seed, original] = hosts;
  assert.ok(seed !== undefined && original !== undefined);
  network.run(3_000);
  const twin = network.add(original.name, { ip: '10.9.9.9' });
  network.act(twin, () => twin.swim.seeds([seed.endpoint], network.now));
  network.run(60_000);
  for (const host of hosts) {
    const conflicts = host.reports.filter((report) => report.kind === 'name-conflict');
    assert.ok(conflicts.length <= 2, `${host.name}: ${conflicts.length} reports in a minute`);
  }
  assert.ok(original.reports.some((report) => report.kind === 'name-conflict' && report.name === twin.name));
  assert.ok(original.swim.incarnation < 50);
});

test('metadata that changed is known everywhere', () => {
  const network = new SwimNetwork(22);
  const hosts = network.joined(30);
  const changed = hosts[2];
  assert.ok(changed !== undefined);
  network.run(2_000);
  network.act(changed, () => changed.swim.setMeta({ ...changed.swim.self.meta, drained: true }, network.now));
  const known = () => hosts.every((host) => host.swim.member(changed.name)?.meta.drained === true);
  assert.ok(network.runUntil(known, 2_000, 10) <= 1_000);
});

test('every packet of a cluster in trouble fits the wire, with the longest names, and survives the codec', (t) => {
  const network = new SwimNetwork(23);
  for (let index = 0; index < 40; index++) {
    network.add(`${index}-`.padEnd(63, 'n'), { ip: `2001:db8:1111:2222:3333:4444:5555:${index + 1}` });
  }
  let longest = 0;
  network.wire = (message) => {
    const bytes = encodeMessage(message);
    longest = Math.max(longest, bytes.length);
    const decoded = decodeMessage(bytes);
    assert.ok(decoded.ok);
    return decoded.value;
  };
  const { hosts } = network;
  const [seed] = hosts;
  assert.ok(seed !== undefined);
  network.loss = 0.2;
  for (const host of hosts) network.act(host, () => host.swim.seeds([seed.endpoint], network.now));
  network.run(5_000);
  network.passes = (from, to) => hosts.indexOf(from) < 20 === hosts.indexOf(to) < 20;
  network.run(30_000);
  network.passes = () => true;
  network.loss = 0;
  assert.ok(network.runUntil(() => network.converged(), 10_000, 10) <= 10_000);
  t.diagnostic(`the longest message had ${longest} bytes`);
  assert.ok(longest <= MAX_PACKET_BYTES - PACKET_OVERHEAD_BYTES, `${longest}`);
});
