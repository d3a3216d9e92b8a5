import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deadlines } from '../../../src/election/deadlines.ts';
import { Pace } from '../../../src/election/pace.ts';
import { RELAY_LIMIT, Relays } from '../../../src/election/relays.ts';
import { Seeds } from '../../../src/election/seeds.ts';
import type { Endpoint } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { after, instant, NEVER } from '../../../src/lib/time.ts';

test('takeDue() gives keys in the order of their instants, as a plain map would', () => {
  const random = seededRandom(5);
  const deadlines = new Deadlines<number>();
  const model = new Map<number, number>();
  for (let step = 0; step < 20_000; step++) {
    const key = Math.floor(random() * 60);
    const dice = random();
    if (dice < 0.6) {
      const at = Math.floor(random() * 1e9);
      deadlines.set(key, instant(at));
      model.set(key, at);
    } else if (dice < 0.8) {
      deadlines.delete(key);
      model.delete(key);
    } else if (dice < 0.81) {
      deadlines.shift(10);
      for (const [other, at] of model) model.set(other, at + 10);
    } else {
      const first = Math.min(...model.values(), Number.POSITIVE_INFINITY);
      const taken = deadlines.takeDue(instant(first));
      assert.equal(taken === undefined ? Number.POSITIVE_INFINITY : model.get(taken), first);
      if (taken !== undefined) model.delete(taken);
    }
    assert.equal(deadlines.size, model.size);
    assert.equal(deadlines.first(), Math.min(...model.values(), Number.POSITIVE_INFINITY));
  }
});

test('takeDue() gives nothing before its time', () => {
  const deadlines = new Deadlines<string>();
  assert.equal(deadlines.first(), NEVER);
  deadlines.set('a', instant(10));
  assert.equal(deadlines.takeDue(instant(9)), undefined);
  assert.equal(deadlines.takeDue(instant(10)), 'a');
  assert.equal(deadlines.takeDue(instant(10)), undefined);
});

test('Pace lets a key pass once per pause, and all keys so often a second', () => {
  const pace = new Pace<string>(100, 3);
  const at = (key: string, ms: number) => pace.allows(key, instant(ms));
  assert.deepEqual(
    [at('a', 0), at('a', 99), at('b', 99), at('a', 100), at('c', 101)],
    [true, false, true, true, false],
  );
  assert.equal(at('c', 1_000), true);
});

test('Relays keep to their limit and say so', () => {
  const relays = new Relays();
  const requester = { to: { ip: '10.0.0.1' as Ip, port: 7946 }, seq: 1 };
  for (let seq = 0; seq < RELAY_LIMIT; seq++) assert.equal(relays.add(seq, requester, instant(100)), true);
  assert.equal(relays.add(RELAY_LIMIT, requester, instant(100)), false);
  assert.equal(relays.deadline(), 100);
  let nacks = 0;
  while (relays.takeOverdue(instant(100), 500) !== undefined) nacks += 1;
  assert.equal(nacks, RELAY_LIMIT);
  assert.equal(relays.deadline(), NEVER);
  assert.equal(relays.acked(3)?.seq, 1, 'a late answer is still passed on');
  assert.equal(relays.takeOverdue(instant(700), 500), undefined);
  assert.equal(relays.acked(4), undefined, 'but not for ever');
});

test('Seeds are asked a few at a time, with pauses that grow while this host is alone', () => {
  const seeds = new Seeds(seededRandom(6));
  const endpoints: Endpoint[] = [1, 2, 3, 4, 5, 6].map((n) => ({ ip: `10.0.0.${n}` as Ip, port: 7946 }));
  assert.equal(seeds.deadline(), NEVER);
  seeds.replace(endpoints, instant(0));
  const asked = new Set<Endpoint>();
  const pauses: number[] = [];
  for (let now = seeds.deadline(), count = 0; count < 30; count++) {
    const chosen = seeds.take(now, true, ({ ip }) => ip === '10.0.0.6');
    assert.equal(new Set(chosen).size, 3);
    for (const endpoint of chosen) asked.add(endpoint);
    pauses.push(seeds.deadline() - now);
    assert.deepEqual(
      seeds.take(after(now, 1), true, () => false),
      [],
    );
    now = seeds.deadline();
  }
  assert.equal(asked.size, 5, 'all but the one that is a member');
  assert.ok((pauses[0] ?? 0) < 1_500 && Math.max(...pauses) <= 12_000);
  assert.equal(seeds.take(seeds.deadline(), false, () => false).length, 1);
});
