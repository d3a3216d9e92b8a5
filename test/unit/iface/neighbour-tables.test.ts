import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { NeighbourTables } from '../../../src/iface/io/neighbour-tables.ts';
import { instant } from '../../../src/lib/time.ts';

const NAMES = 'entries  allocs   lookups  table_fulls';

/** A /proc in which two processors have refused so many entries. */
function write(root: string, file: string, refused: readonly [number, number]): void {
  const rows = refused.map((count) => `00000005 00000010 000000a0 ${count.toString(16).padStart(8, '0')}`);
  mkdirSync(join(root, 'net/stat'), { recursive: true });
  writeFileSync(join(root, 'net/stat', file), `${[NAMES, ...rows].join('\n')}\n`);
}

test('problems() tells of a table that refused neighbours, for a minute after the last one', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'lbd-neighbours-'));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'sys/net/ipv4/neigh/default'), { recursive: true });
  writeFileSync(join(root, 'sys/net/ipv4/neigh/default/gc_thresh3'), '1024\n');
  const logged: unknown[] = [];
  const note = (fields: object, event: string) => logged.push([event, fields]);
  const logger = { debug: note, info: note, warn: note, error: note };
  let now = 0;
  // Of an earlier time, and of no interest.
  write(root, 'arp_cache', [7, 9]);
  const tables = new NeighbourTables({ logger, now: () => instant(now), root });
  t.after(() => tables.close());
  const look = (atMs: number) => {
    now = atMs;
    tables.look();
    return tables.problems();
  };
  assert.deepEqual(look(10), []);
  write(root, 'arp_cache', [17, 10]);
  assert.deepEqual(look(1_000), [
    "the kernel's table of IPv4 neighbours is full: it refused 11 of them, which this host neither answers nor reaches; " +
      'raise net.ipv4.neigh.default.gc_thresh3 (now 1024)',
  ]);
  write(root, 'arp_cache', [18, 10]);
  assert.match(look(30_000)[0] ?? '', /it refused 12 of them/);
  assert.equal(look(89_000).length, 1);
  assert.deepEqual(look(90_000), []);
  assert.deepEqual(logged, [['neighbours.full', { family: 'IPv4', refused: 11 }]], 'once');

  write(root, 'ndisc_cache', [0, 0]);
  assert.deepEqual(look(91_000), []);
  write(root, 'ndisc_cache', [1, 0]);
  write(root, 'arp_cache', [20, 10]);
  const both = look(92_000);
  assert.match(both[0] ?? '', /IPv4 neighbours is full: it refused 2 of them/);
  assert.match(both[1] ?? '', /IPv6 neighbours .*ipv6.*gc_thresh3 \(now unknown\)/);
});

test('problems() is empty where the kernel shows no such table, as in a network namespace', (t) => {
  const logger = { debug() {}, info() {}, warn() {}, error() {} };
  const tables = new NeighbourTables({ logger, now: () => instant(0), root: '/nonexistent' });
  t.after(() => tables.close());
  assert.deepEqual(tables.problems(), []);
});
