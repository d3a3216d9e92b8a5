import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AGED_MS, Ageing, LOOK_EVERY_MS } from '../../../src/election/ageing.ts';
import { Holdings } from '../../../src/election/holdings.ts';
import type { MemberName } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after, instant } from '../../../src/lib/time.ts';
import { address } from './ownership-cluster.ts';

const [A, B, C] = ['a', 'b', 'c'] as readonly string[] as readonly [MemberName, MemberName, MemberName];
const T0 = instant(1_000);

/** The table of one host, of which the test says what is wanted and who is there. */
class Host {
  readonly wanted = new Set<Ip>();
  readonly gone = new Set<MemberName>();
  readonly holdings: Holdings;
  readonly ageing: Ageing;
  isFresh = true;

  constructor(name: MemberName) {
    const isWanted = (ip: Ip): boolean => this.wanted.has(ip);
    this.holdings = new Holdings(name, [], () => {}, isWanted);
    this.ageing = new Ageing({
      holdings: this.holdings,
      isWanted: () => (this.isFresh ? isWanted : undefined),
      isGone: (owner) => this.gone.has(owner),
    });
  }

  get claims() {
    return this.holdings.claims;
  }

  learn(ip: Ip, owner: MemberName | undefined, epoch: number, at = T0): this {
    this.holdings.learn({ ip, owner, epoch }, at);
    return this;
  }

  /** Lives through `ms` of nothing else. */
  live(ms: number): void {
    for (let now = T0; now <= T0 + ms; now = after(now, LOOK_EVERY_MS)) {
      this.ageing.wake(now);
      this.ageing.advance(now);
    }
  }

  /** Hears the whole table of another, as in a push/pull. */
  hear(other: Host): this {
    for (const claim of other.claims.list()) this.holdings.learn(claim, after(T0, 2 * AGED_MS));
    return this;
  }
}

test('a claim of one that is gone on what no Service has is released after a day, and forgotten after another', () => {
  const host = new Host(A).learn(address(0), B, 4).learn(address(1), undefined, 9);
  host.gone.add(B);
  host.live(AGED_MS + 2 * LOOK_EVERY_MS);
  assert.deepEqual(host.claims.get(address(0)), { ip: address(0), owner: undefined, epoch: 5 });
  host.live(2 * AGED_MS + 4 * LOOK_EVERY_MS);
  assert.equal(host.claims.get(address(0)), undefined);
  assert.equal(host.claims.size, 1, 'the highest release stays');
});

test('what is wanted, what its owner may still have, and what is not known for sure stays', () => {
  const host = new Host(A).learn(address(0), B, 4).learn(address(1), C, 4).learn(address(2), undefined, 1);
  host.learn(address(9), undefined, 9);
  host.gone.add(B);
  host.wanted.add(address(0)).add(address(2));
  host.live(3 * AGED_MS);
  assert.equal(host.claims.size, 4);
  host.wanted.clear();
  host.isFresh = false;
  host.live(6 * AGED_MS);
  assert.equal(host.claims.size, 4);
});

test('nothing brings an old claim back over a new one: neither who forgot it, nor who never knew it, nor who held it', () => {
  const ip = address(0);
  const forgot = new Host(A).learn(ip, undefined, 7).learn(address(1), undefined, 8);
  forgot.live(2 * AGED_MS);
  assert.equal(forgot.claims.get(ip), undefined);
  const joined = new Host(C).hear(forgot);
  const later = after(T0, 3 * AGED_MS);
  for (const host of [forgot, joined]) {
    host.wanted.add(ip);
    const claim = host.holdings.claim(ip, later);
    assert.ok(claim.epoch > 7, `epoch ${claim.epoch}`);
    // It was away for days, and its state file still says that it owns the address.
    assert.equal(host.claims.merge({ ip, owner: B, epoch: 6 }, later), 'older');
    assert.equal(host.claims.get(ip)?.owner, claim.owner);
  }
});

test('hosts that forgot learn nothing of it again from those that did not yet', () => {
  const [early, late] = [new Host(A), new Host(B)];
  for (const host of [early, late]) host.learn(address(0), undefined, 7).learn(address(1), undefined, 8);
  early.live(2 * AGED_MS);
  assert.equal(early.claims.size, 1);
  early.hear(late);
  assert.equal(early.claims.size, 1);
  assert.equal(early.claims.digest(), late.claims.digest(), 'nor do they take their tables for different');
});
