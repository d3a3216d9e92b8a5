import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Beats } from '../../../src/election/beats.ts';
import type { Effect } from '../../../src/election/effects.ts';
import { PROFILES } from '../../../src/election/settings.ts';
import type { Endpoint, MemberName } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';
import { DATA, Network, STORAGE } from './watch-network.ts';

const PEER = 'peer' as MemberName;
const TO: Endpoint = { ip: '10.0.0.2' as Ip, port: 7946 };
const NOW: Instant = instant(1_000);

function sentRoutine(beat: { gapMs?: number; urgent?: boolean; isolated?: boolean }): boolean {
  const out: Effect[] = [];
  const beats = new Beats({
    name: 'self' as MemberName,
    settings: PROFILES.lan,
    random: () => 0.5,
    out,
    digests: { own: () => 1, table: () => 2, of: () => 3 },
    leaseLeftMs: () => 1_000,
    incarnation: () => 1,
  });
  const { gapMs = 50, urgent = false, isolated = false } = beat;
  beats.send(TO, DATA, beats.make(DATA, PEER, 5, gapMs, 3, urgent, isolated, NOW));
  const [effect] = out;
  assert.ok(effect?.kind === 'send');
  return effect.routine === true;
}

test('Beats.send says of a heartbeat that it is routine, unless the receiver is to do something at it', () => {
  assert.equal(sentRoutine({}), true);
  assert.equal(sentRoutine({ gapMs: 150 }), true);
  assert.equal(sentRoutine({ gapMs: 151 }), false, 'the receiver may have been paused');
  assert.equal(sentRoutine({ urgent: true }), false, 'it is to be answered at once');
  assert.equal(sentRoutine({ isolated: true }), false, 'the sender let go of its addresses');
});

test('Watch.isCalm once all neighbours are heard on every segment, and not while one is asked for', () => {
  const network = new Network({ hosts: 4, segments: [DATA, STORAGE], seed: 3 });
  const isCalm = (): readonly boolean[] => network.hosts.map(({ watch }) => watch.isCalm);
  assert.deepEqual(isCalm(), [false, false, false, false]);
  network.run(1_000);
  assert.deepEqual(isCalm(), [true, true, true, true]);
  const cut = network.host(0).name;
  network.passes = ({ from, to, segment }) => segment !== STORAGE || (from !== cut && to !== cut);
  network.run(60);
  assert.deepEqual(isCalm(), [true, true, true, true], 'so long nobody misses a heartbeat');
  network.run(90);
  const watchers = [cut, ...network.host(0).watch.neighbours(STORAGE)];
  for (const { name, watch } of network.hosts) assert.equal(watch.isCalm, !watchers.includes(name), name);
  network.passes = () => true;
  network.run(3_000);
  assert.deepEqual(isCalm(), [true, true, true, true]);
});

test('Watch.isCalm not while this host asks whether its claims still stand', () => {
  const network = new Network({ hosts: 3, seed: 5 });
  network.run(1_000);
  const host = network.host(1);
  network.passes = () => false;
  assert.ok(host.watch.isCalm && host.watch.doubt(DATA, network.clock(host)));
  assert.equal(host.watch.isCalm, false);
});

test('Watch goes back to UDP alone some seconds after it is heard again', () => {
  const network = new Network({ hosts: 3, seed: 7 });
  let overTcp = 0;
  network.run(2_000);
  network.passes = ({ tcp }) => tcp;
  network.run(1_000);
  assert.deepEqual(network.of('verdict'), []);
  network.passes = ({ tcp }) => {
    if (tcp) overTcp += 1;
    return true;
  };
  network.run(500);
  assert.ok(overTcp > 0, 'while UDP was blocked, heartbeats went over TCP');
  network.run(6_000);
  overTcp = 0;
  network.run(7_000);
  assert.equal(overTcp, 0);
});
