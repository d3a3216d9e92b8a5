import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WriteOutcome } from '../../../src/daemon/allocator.ts';
import { pool, service } from '../ipam/fixtures.ts';
import { AllocatorBench, written } from './allocator-bench.ts';

const A = service('a', { createdAt: 10 });
/** Older than `A`: it chooses first. */
const OLD = service('old', { createdAt: 5 });
const FAILED: WriteOutcome = { kind: 'failed', message: 'no route to host', retryAfterMs: undefined };

function failed(retryAfterMs?: number): WriteOutcome {
  return { kind: 'failed', message: '429', retryAfterMs };
}

test('a Service is written once, however often the plan is made meanwhile', async () => {
  const bench = new AllocatorBench().put(A).plan().plan().plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10']);
  bench.put(written(A, ['192.0.2.10']));
  await bench.write(0).answer({ kind: 'written' });
  bench.plan().plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10']);
  assert.deepEqual(bench.held(), ['192.0.2.10']);
});

test('an address is held only when the watch shows it, not when it was written', async () => {
  const bench = new AllocatorBench().put(A).plan();
  assert.deepEqual(bench.held(), []);
  await bench.write(0).answer({ kind: 'written' });
  assert.deepEqual(bench.held(), []);
  bench.put(written(A, ['192.0.2.10'])).plan();
  assert.deepEqual(bench.held(), ['192.0.2.10']);
});

test('an older Service that appears during a write does not get its address', () => {
  const bench = new AllocatorBench().put(A).plan().put(OLD).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'old=192.0.2.11']);
});

test('an older Service that appears after a failed write does not get its address, nor when the write is tried again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(FAILED);
  bench.put(OLD).plan();
  t.mock.timers.tick(500);
  // The answer to the first write got lost, but the API server may have taken it.
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'old=192.0.2.11', 'a=192.0.2.10']);
});

test('an older Service that comes in the very turn in which a pause ends does not get the address', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(FAILED);
  bench.put(OLD);
  t.mock.timers.tick(500);
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'a=192.0.2.10', 'old=192.0.2.11']);
});

test('an older Service that appears between a write and the watch does not get its address', async () => {
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer({ kind: 'written' });
  bench.put(OLD).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'old=192.0.2.11']);
});

test('a failed write is tried again after 0.5 s, then twice as long each time up to 30 s', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  for (const [index, pauseMs] of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
    await bench.write(index).answer(FAILED);
    t.mock.timers.tick(pauseMs - 1);
    bench.plan();
    assert.equal(bench.writes.length, index + 1, `${pauseMs} ms`);
    t.mock.timers.tick(1);
    assert.equal(bench.writes.length, index + 2, `${pauseMs} ms`);
  }
  assert.equal(bench.warnings.length, 8);
});

test('Retry-After lengthens the pause, never shortens it, and no server can ask for for ever', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(failed(7_000));
  t.mock.timers.tick(6_999);
  assert.equal(bench.writes.length, 1);
  t.mock.timers.tick(1);
  assert.equal(bench.writes.length, 2);
  await bench.write(1).answer(failed(1));
  t.mock.timers.tick(999);
  assert.equal(bench.writes.length, 2);
  t.mock.timers.tick(1);
  assert.equal(bench.writes.length, 3);
  await bench.write(2).answer(failed(2 ** 40));
  t.mock.timers.tick(299_999);
  assert.equal(bench.writes.length, 3);
  t.mock.timers.tick(1);
  assert.equal(bench.writes.length, 4);
});

test('a pause begins at 0.5 s again after a write that came through', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(FAILED);
  t.mock.timers.tick(500);
  const first = written(A, ['192.0.2.10']);
  bench.put(first);
  await bench.write(1).answer({ kind: 'written' });
  const cleared = { ...first, resourceVersion: '3', ingress: [] };
  bench.put(cleared).plan();
  await bench.write(2).answer(FAILED);
  t.mock.timers.tick(500);
  assert.equal(bench.writes.length, 4);
});

test('a stale write waits for the newer object, then is decided anew', async () => {
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer({ kind: 'stale' });
  bench.plan().plan();
  assert.equal(bench.writes.length, 1);
  const newer = { ...A, resourceVersion: '2', annotations: { 'lbd.io/addresses': '192.0.2.12' } };
  bench.put(newer).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'a=192.0.2.12']);
  assert.equal(bench.write(1).service.resourceVersion, '2');
  assert.equal(bench.events.length, 0);
});

test('a stale write is tried again after 5 s when no newer object comes', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer({ kind: 'stale' });
  t.mock.timers.tick(4_999);
  assert.equal(bench.writes.length, 1);
  t.mock.timers.tick(1);
  assert.equal(bench.writes.length, 2);
});

test('a Service that is gone is not written again while the watch still shows it, and forgotten with it', async () => {
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer({ kind: 'gone' });
  for (let turn = 0; turn < 10; turn++) bench.plan();
  assert.equal(bench.writes.length, 1);
  bench.store.delete(A.key);
  bench.put(OLD).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'old=192.0.2.10']);
});

test('a Service deleted and made again during a write is written when the first write is over, on its own uid', async () => {
  const bench = new AllocatorBench().put(A).plan();
  const again = service('a', { createdAt: 20, uid: 'uid-again', resourceVersion: '7' });
  bench.put(again).plan();
  assert.equal(bench.writes.length, 1);
  await bench.write(0).answer({ kind: 'stale' });
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'a=192.0.2.10']);
  assert.equal(bench.write(1).service.uid, 'uid-again');
  bench.put(written(again, ['192.0.2.10']));
  await bench.write(1).answer({ kind: 'written' });
  assert.deepEqual(
    bench.events.map((event) => event.service.uid),
    ['uid-again'],
  );
});

test('a Service deleted and made again during a pause does not inherit the pause', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(failed(60_000));
  bench.put(service('a', { uid: 'uid-again', resourceVersion: '7' })).plan();
  assert.equal(bench.writes.length, 2);
  t.mock.timers.tick(60_000);
  assert.equal(bench.writes.length, 2);
});

test('a Service deleted during a pause leaves no timer behind, and its address is free', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(FAILED);
  bench.store.delete(A.key);
  bench.put(OLD).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'old=192.0.2.10']);
  const changes = bench.changes;
  t.mock.timers.tick(60_000);
  assert.equal(bench.changes, changes);
});

test('another allocator gave the Service another address during a pause: that one counts', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(failed(60_000));
  bench.put(written(A, ['192.0.2.12'])).plan();
  assert.deepEqual(bench.held(), ['192.0.2.12']);
  t.mock.timers.tick(60_000);
  assert.equal(bench.writes.length, 1);
});

test('a newer version that shows that the failed write was not taken frees its address for the older Service', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(failed(60_000));
  bench.put({ ...A, resourceVersion: '2' }, OLD).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'old=192.0.2.10']);
  t.mock.timers.tick(60_000);
  assert.deepEqual(bench.said()[2], 'a=192.0.2.11');
});

test('a host that loses the Lease forgets what waits and tries nothing again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  await bench.write(0).answer(FAILED);
  bench.mayAllocate = false;
  bench.plan();
  t.mock.timers.tick(600_000);
  assert.equal(bench.writes.length, 1);
  // The next allocator gave the address away.
  bench.mayAllocate = true;
  bench.put(written(OLD, ['192.0.2.10'])).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.10', 'a=192.0.2.11']);
  assert.deepEqual(bench.held(), ['192.0.2.10']);
});

test('a write that fails after the Lease went is not tried again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A).plan();
  bench.mayAllocate = false;
  bench.plan();
  await bench.write(0).answer(FAILED);
  t.mock.timers.tick(600_000);
  assert.equal(bench.writes.length, 1);
});

test('a released address stays taken until the API server has said so', async () => {
  const left = service('a', { type: 'ClusterIP', status: ['192.0.2.10'] });
  const bench = new AllocatorBench().put(left).plan();
  assert.deepEqual(bench.said(), ['a=']);
  bench.put(OLD).plan();
  assert.deepEqual(bench.said(), ['a=', 'old=192.0.2.11']);
  assert.deepEqual(bench.held(), []);
});

test('a changed address: the standing one is kept from others until the new one stands', async () => {
  const asks = { annotations: { 'lbd.io/addresses': '192.0.2.12' }, status: ['192.0.2.10'] };
  const bench = new AllocatorBench().put(service('a', asks)).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.12']);
  bench.put(OLD).plan();
  assert.deepEqual(bench.said(), ['a=192.0.2.12', 'old=192.0.2.11']);
  bench.put(written(service('a', asks), ['192.0.2.12']));
  await bench.write(0).answer({ kind: 'written' });
  assert.deepEqual(bench.held(), ['192.0.2.12']);
});

test('a changed address: the standing one is held on every host until the API server has taken the new one', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const asks = { annotations: { 'lbd.io/addresses': '192.0.2.12' }, status: ['192.0.2.10'] };
  const bench = new AllocatorBench().put(service('a', asks)).plan();
  assert.deepEqual(bench.held(), ['192.0.2.10'], 'decided');
  bench.plan();
  assert.deepEqual(bench.held(), ['192.0.2.10'], 'being written');
  await bench.write(0).answer(FAILED);
  assert.deepEqual(bench.held(), ['192.0.2.10'], 'the write failed');
  t.mock.timers.tick(500);
  assert.deepEqual(bench.held(), ['192.0.2.10'], 'written again');
  bench.put(written(service('a', asks), ['192.0.2.12']));
  await bench.write(1).answer({ kind: 'written' });
  assert.deepEqual(bench.held(), ['192.0.2.12']);
});

test('a family that is not asked for any more is held until the API server has taken that', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const single = service('a', { status: ['192.0.2.10', '2001:db8::1'] });
  for (const mayAllocate of [true, false]) {
    const bench = new AllocatorBench().put(single);
    bench.mayAllocate = mayAllocate;
    assert.deepEqual(bench.plan().held(), ['192.0.2.10', '2001:db8::1']);
    if (!mayAllocate) continue;
    assert.deepEqual(bench.said(), ['a=192.0.2.10']);
    await bench.write(0).answer(FAILED);
    assert.deepEqual(bench.held(), ['192.0.2.10', '2001:db8::1']);
    bench.allocator.close();
  }
});

test('what is written is told once: Allocated, then Released', async () => {
  const bench = new AllocatorBench().put(A).plan();
  const first = written(A, ['192.0.2.10']);
  bench.put(first);
  await bench.write(0).answer({ kind: 'written' });
  bench.plan().plan();
  bench.put({ ...first, type: 'ClusterIP', resourceVersion: '3' }).plan();
  await bench.write(1).answer({ kind: 'written' });
  bench.plan();
  assert.deepEqual(
    bench.events.map(({ reason, type, action, note }) => `${type} ${reason} ${action}: ${note}`),
    [
      'Normal Allocated Allocate: Allocated 192.0.2.10 from pool "p"',
      'Normal Released Release: Released 192.0.2.10',
    ],
  );
  assert.deepEqual(bench.events[0]?.service, { namespace: 'default', name: 'a', uid: 'uid-a' });
});

test('nothing is told of a write that failed, was late or met a Service that is gone', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  for (const outcome of [FAILED, { kind: 'stale' }, { kind: 'gone' }] as const) {
    const bench = new AllocatorBench().put(A).plan();
    await bench.write(0).answer(outcome);
    assert.deepEqual(bench.events, [], outcome.kind);
    bench.allocator.close();
  }
});

test('writes of different Services go at the same time', () => {
  const bench = new AllocatorBench();
  bench.pools = [pool('p', ['192.0.2.0/24'])];
  for (let index = 0; index < 50; index++) bench.put(service(`s${index}`, { createdAt: index }));
  bench.plan();
  assert.equal(bench.writes.length, 50);
  assert.equal(new Set(bench.writes.flatMap(({ addresses }) => addresses)).size, 50);
});

test('close() stops everything: no timer fires and no answer does anything', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const bench = new AllocatorBench().put(A, OLD).plan();
  await bench.write(0).answer(FAILED);
  const changes = bench.changes;
  bench.allocator.close();
  await bench.write(1).answer({ kind: 'written' });
  t.mock.timers.tick(60_000);
  assert.equal(bench.changes, changes);
  assert.deepEqual(bench.events, []);
});

test('reserve() gives the same objects as long as nothing changes', async () => {
  const bench = new AllocatorBench().put(A, OLD).plan();
  const first = [...bench.allocator.reserve(bench.store)];
  const second = [...bench.allocator.reserve(bench.store)];
  for (const [index, each] of first.entries()) assert.equal(each, second[index]);
  assert.notEqual(first[0], A);
  bench.put(written(A, ['192.0.2.11']));
  assert.equal([...bench.allocator.reserve(bench.store)][0], bench.store.get(A.key));
});
