import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Company } from '../../../src/election/company.ts';
import type { Member, MemberMeta, MemberName, MemberState } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { instant } from '../../../src/lib/time.ts';

const META: MemberMeta = {
  endpoint: { ip: '10.0.0.1' as Ip, port: 7946 },
  node: '',
  version: '0.1.0',
  segments: [],
  drained: false,
  weight: 100,
  configDigest: '00000000',
  lifetimeMs: 30_000,
};

class Table {
  readonly company: Company;
  readonly #members = new Map<MemberName, Member>();

  constructor(isolation: 'release' | 'hold' | 'auto', count: number) {
    this.company = new Company(isolation, count);
  }

  set(states: Readonly<Record<string, MemberState>>): boolean {
    const names = Object.keys(states) as MemberName[];
    for (const name of names) {
      const state = states[name] ?? 'alive';
      this.#members.set(name, { name, incarnation: 1, state, meta: META, since: instant(0) });
    }
    return this.company.membersChanged(this.#members, names);
  }
}

const FIVE = { h0: 'alive', h1: 'alive', h2: 'alive', h3: 'alive', h4: 'suspect' } as const;

test('Company grows with the members that are seen alive at a time, and outlives a restart', () => {
  const table = new Table('auto', 1);
  assert.equal(table.company.releases, false);
  assert.equal(table.set({ h0: 'alive', h1: 'dead', h2: 'dead' }), false);
  assert.equal(table.set({ h1: 'alive' }), true);
  assert.equal(table.company.releases, false);
  assert.equal(table.set(FIVE), true);
  assert.equal(table.company.count, 5);
  const restarted = new Table('auto', table.company.count);
  assert.equal(restarted.set({ h0: 'alive' }), false);
  assert.equal(restarted.company.hadCompany, true);
});

test('Company does not forget the dead when somebody leaves: they may only be cut off', () => {
  const table = new Table('auto', 1);
  table.set(FIVE);
  assert.equal(table.set({ h3: 'dead', h4: 'dead' }), false);
  assert.equal(table.set({ h2: 'left' }), true);
  assert.equal(table.company.count, 4);
  assert.equal(table.company.releases, true);
});

test('Company shrinks to two when others leave, and stays there', () => {
  const table = new Table('auto', 1);
  table.set({ h0: 'alive', h1: 'alive', h2: 'alive' });
  assert.equal(table.set({ h2: 'left' }), true);
  assert.equal(table.company.count, 2);
  assert.equal(table.company.releases, false);
  assert.equal(table.company.hadCompany, false);
  assert.equal(table.set({ h1: 'dead' }), false);
  assert.equal(table.company.count, 2);
});

test('Company counts who replaced a dead machine once: the most at a time is what it goes by', () => {
  const table = new Table('auto', 3);
  table.set({ h0: 'alive', h1: 'alive', h2: 'alive', old1: 'dead', old2: 'dead' });
  assert.equal(table.company.count, 3);
  assert.equal(table.set({ h2: 'left' }), false);
  assert.equal(table.company.count, 3);
});

test('Company releases or holds as it is told, whatever the count', () => {
  assert.equal(new Table('release', 1).company.releases, true);
  assert.equal(new Table('release', 2).company.hadCompany, false);
  assert.equal(new Table('hold', 9).company.releases, false);
  assert.equal(new Table('hold', 9).company.hadCompany, false);
});
