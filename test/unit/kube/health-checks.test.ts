import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CHECK_EVERY_MS,
  CHECKED_MAX,
  CHECKS_PER_SECOND,
  FALL_COUNT,
  FORGIVE_MS,
  HealthChecks,
  RECHECK_MS,
  RISE_COUNT_MAX,
  UNDER_WAY_MAX,
} from '../../../src/kube/health-checks.ts';
import type { ServiceKey } from '../../../src/kube/types.ts';
import { after, type Instant, instant } from '../../../src/lib/time.ts';

const WEB = 'default/web' as ServiceKey;
const PORT = 30_123;
const BAD = 'answers 503';

/** Asks whenever it is due and answers at once, from a clock of its own. */
class Bench {
  now: Instant = instant(1_000_000);
  readonly checks = new HealthChecks(this.now);
  readonly asked: { readonly at: Instant; readonly service: ServiceKey }[] = [];
  /** By Service; undefined is good. */
  answer: (service: ServiceKey) => string | undefined = () => undefined;

  want(count: number, isServed = false): this {
    const targets = Array.from({ length: count }, (_, index) => {
      const service = (count === 1 ? WEB : `default/s${index}`) as ServiceKey;
      return { service, port: PORT, isServed };
    });
    this.checks.want(targets, this.now);
    return this;
  }

  run(ms: number): this {
    const until = after(this.now, ms);
    for (;;) {
      const due = this.checks.deadline();
      if (due > until) break;
      if (due > this.now) this.now = due;
      for (const { service, port } of this.checks.take(this.now)) {
        this.asked.push({ at: this.now, service });
        this.checks.answered(service, port, { reason: this.answer(service) }, this.now);
      }
    }
    this.now = until;
    return this;
  }

  get isReady(): boolean {
    return this.checks.unready().size === 0;
  }
}

test('a Service that is new here has to answer first, and once is enough', () => {
  const bench = new Bench().want(1);
  assert.match(bench.checks.unready().get(WEB) ?? '', /port 30123 was not asked yet/);
  bench.answer = () => BAD;
  assert.equal(bench.run(RECHECK_MS).checks.unready().get(WEB), BAD);
  bench.answer = () => undefined;
  assert.ok(bench.run(RECHECK_MS).isReady);
});

test('a Service that is served here, as after a restart, is ready until it is bad several times in a row', () => {
  const bench = new Bench().want(1, true);
  bench.answer = () => BAD;
  bench.run((FALL_COUNT - 1) * RECHECK_MS - 1);
  assert.ok(bench.isReady);
  assert.equal(bench.asked.length, FALL_COUNT - 1);
  assert.equal(bench.run(RECHECK_MS).isReady, false);
});

test('single bad answers change nothing, however many there are', () => {
  const bench = new Bench().want(1, true);
  let count = 0;
  bench.answer = () => (count++ % FALL_COUNT === 0 ? undefined : BAD);
  bench.run(60_000);
  assert.ok(bench.isReady);
  assert.ok(count > 60);
});

test('one that flaps has to be good for longer each time, and is forgiven after a minute', () => {
  const bench = new Bench().want(1, true);
  const outages: number[] = [];
  for (let round = 0; round < 8; round++) {
    bench.answer = () => BAD;
    while (bench.isReady) bench.run(1);
    bench.answer = () => undefined;
    let goods = bench.asked.length;
    while (!bench.isReady) bench.run(1);
    goods = bench.asked.length - goods;
    outages.push(goods);
  }
  assert.deepEqual(outages, [2, 4, 8, 16, 32, 32, 32, RISE_COUNT_MAX]);
  bench.run(FORGIVE_MS + CHECK_EVERY_MS);
  bench.answer = () => BAD;
  while (bench.isReady) bench.run(1);
  bench.answer = () => undefined;
  bench.run(2 * RECHECK_MS);
  assert.ok(bench.isReady);
});

test('1,000 Services are asked at a bounded rate, each in its turn', () => {
  const bench = new Bench().want(1_000);
  bench.run(10_500);
  assert.ok(bench.isReady);
  const before = bench.asked.length;
  bench.run(60_000);
  const perSecond = (bench.asked.length - before) / 60;
  assert.ok(perSecond > 90 && perSecond <= CHECKS_PER_SECOND, `${perSecond} a second`);
  const counts = Map.groupBy(bench.asked.slice(before), ({ service }) => service);
  assert.equal(counts.size, 1_000);
  for (const [service, { length }] of counts) assert.ok(length >= 5 && length <= 7, `${service}: ${length}`);
});

test('a kube-proxy that is gone is noticed within three seconds also with 1,000 Services', () => {
  const bench = new Bench().want(1_000, true).run(20_000);
  bench.answer = () => BAD;
  let ms = 0;
  for (; bench.checks.unready().size <= 64 && ms < 10_000; ms += 10) bench.run(10);
  assert.ok(ms <= 3_000, `${ms} ms`);
});

test('no more than a few questions are under way, and what is not wanted any more is forgotten', () => {
  const bench = new Bench().want(100);
  const taken = bench.checks.take(bench.now);
  assert.equal(taken.length, UNDER_WAY_MAX);
  bench.now = after(bench.now, 60_000);
  assert.deepEqual(bench.checks.take(bench.now), []);
  assert.equal(bench.checks.deadline(), Number.POSITIVE_INFINITY);
  bench.checks.want([], bench.now);
  assert.deepEqual([...bench.checks.unready()], []);
  const [first] = taken;
  assert.ok(first !== undefined);
  assert.equal(bench.checks.answered(first.service, PORT, { reason: undefined }, bench.now), false);
  bench.want(1);
  assert.equal(bench.checks.take(bench.now).length, 1);
});

test('a changed port is asked anew, and an answer of the old one does not count', () => {
  const bench = new Bench().want(1).run(0);
  assert.ok(bench.isReady);
  bench.checks.want([{ service: WEB, port: PORT + 1, isServed: false }], bench.now);
  assert.equal(bench.isReady, false);
  assert.equal(bench.checks.answered(WEB, PORT, { reason: undefined }, bench.now), false);
});

test('Services beyond the limit are not checked, and so count as ready', () => {
  const bench = new Bench().want(CHECKED_MAX + 10);
  assert.equal(bench.checks.unready().size, CHECKED_MAX);
});
