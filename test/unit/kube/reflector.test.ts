import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type ApiFailure, httpFailure, otherFailure } from '../../../src/kube/api-failure.ts';
import type { Item } from '../../../src/kube/objects.ts';
import {
  checkReflector,
  initialReflector,
  PAGE_LIMIT,
  reflectorDeadline,
  reflectorStatus,
  stepReflector,
} from '../../../src/kube/reflector.ts';
import type { ReflectorEffect, ReflectorEvent, ReflectorState } from '../../../src/kube/reflector-types.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { instant, NEVER } from '../../../src/lib/time.ts';

type Value = { readonly text: string };

function item(key: string, resourceVersion: number | string, text = key): Item<Value> {
  return { key, resourceVersion: String(resourceVersion), value: { text } };
}

/** Feeds one machine and keeps what it asked for; `now` moves only when told. */
class Driver {
  state: ReflectorState<Value>;
  now = instant(0);
  effects: readonly ReflectorEffect[] = [];
  readonly log: string[] = [];
  notified = 0;

  constructor(options: { doubts?: boolean; cached?: readonly Item<Value>[] } = {}) {
    const config = { resource: 'services', doubts: options.doubts ?? false } as const;
    this.state = initialReflector(config, options.cached);
    this.send({ kind: 'started' });
  }

  send(event: ReflectorEvent<Value>): void {
    const step = stepReflector(this.state, event, this.now, () => 0.5);
    this.state = step.state;
    this.effects = step.effects;
    for (const effect of step.effects) {
      if (effect.kind === 'log') this.log.push(effect.event);
      if (effect.kind === 'notify') this.notified++;
    }
    checkReflector(this.state);
  }

  get attempt(): number {
    return this.state.attempt;
  }

  page(items: readonly Item<Value>[], resourceVersion: number, continueToken?: string): void {
    this.send({
      kind: 'page-listed',
      attempt: this.attempt,
      items,
      resourceVersion: String(resourceVersion),
      continueToken,
    });
  }

  change(changed: Item<Value>, deleted = false): void {
    this.send({ kind: 'object-changed', attempt: this.attempt, item: changed, deleted });
  }

  fail(failure: ApiFailure): void {
    this.send({ kind: 'request-failed', attempt: this.attempt, failure });
  }

  /** Lets the machine's own deadline pass. */
  wake(): void {
    this.now = reflectorDeadline(this.state);
    assert.notEqual(this.now, NEVER);
    this.send({ kind: 'deadline-passed' });
  }

  asked(): ReflectorEffect | undefined {
    return this.effects.find((effect) => effect.kind === 'list' || effect.kind === 'watch');
  }

  keys(): string[] {
    return [...this.state.store.objects.keys()].sort();
  }

  get phase(): string {
    return reflectorStatus(this.state, this.now).phase;
  }
}

const GONE = httpFailure(410, { reason: 'Expired' }, undefined);
const UNAVAILABLE = httpFailure(503, { message: 'try later' }, undefined);
const LOST = otherFailure('network', 'socket hang up');

function watching(count: number, options: { doubts?: boolean } = {}): Driver {
  const driver = new Driver(options);
  driver.page(
    Array.from({ length: count }, (_, index) => item(`o${index}`, 10 + index)),
    100,
  );
  return driver;
}

function restart(driver: Driver): void {
  driver.fail(GONE);
  assert.equal(driver.asked()?.kind, 'list');
}

describe('stepReflector()', () => {
  it('lists page by page and watches from the version of the first page', () => {
    const driver = new Driver();
    assert.deepEqual(driver.asked(), {
      kind: 'list',
      attempt: 1,
      limit: PAGE_LIMIT,
      continueToken: undefined,
    });
    driver.page([item('a', 5)], 40, 'next');
    assert.deepEqual(driver.asked(), { kind: 'list', attempt: 2, limit: PAGE_LIMIT, continueToken: 'next' });
    assert.equal(driver.notified, 0, 'half a list says nothing');
    driver.page([item('b', 6)], 41);
    assert.deepEqual(driver.asked(), {
      kind: 'watch',
      attempt: 3,
      resourceVersion: '40',
      timeoutMs: 450_000,
    });
    assert.deepEqual(driver.keys(), ['a', 'b']);
    assert.equal(driver.notified, 1);
    assert.equal(driver.state.synced, true);
  });

  it('follows changes, and resumes from the last version seen when the server closes the watch', () => {
    const driver = watching(2);
    driver.change(item('new', 101));
    driver.change(item('o0', 102), true);
    driver.send({ kind: 'bookmarked', attempt: driver.attempt, resourceVersion: '150' });
    assert.deepEqual(driver.keys(), ['new', 'o1']);
    driver.now = instant(400_000);
    driver.send({ kind: 'watch-closed', attempt: driver.attempt });
    const asked = driver.asked();
    assert.ok(asked?.kind === 'watch');
    assert.equal(asked.resourceVersion, '150');
  });

  it('ignores replayed events, also those that would bring back or take away an object', () => {
    const driver = watching(2);
    driver.change(item('new', 110));
    driver.change(item('o1', 111, 'newer'));
    const before = driver.notified;
    driver.change(item('o1', 50, 'older'));
    driver.change(item('new', 90), true);
    driver.change(item('ghost', 60));
    assert.deepEqual(driver.keys(), ['new', 'o0', 'o1']);
    assert.equal(driver.state.store.objects.get('o1')?.text, 'newer');
    assert.equal(driver.notified, before);
  });

  it('takes events as they come when versions are not comparable', () => {
    const driver = new Driver();
    driver.send({
      kind: 'page-listed',
      attempt: 1,
      items: [item('a', 'x1')],
      resourceVersion: 'x1',
      continueToken: undefined,
    });
    driver.change(item('a', 'b7', 'changed'));
    assert.equal(driver.state.store.objects.get('a')?.text, 'changed');
    driver.change(item('a', 'a9'), true);
    assert.deepEqual(driver.keys(), []);
  });

  it('ignores answers to requests it has given up', () => {
    const driver = watching(2);
    const old = driver.attempt;
    restart(driver);
    driver.send({ kind: 'object-changed', attempt: old, item: item('o0', 500), deleted: true });
    driver.send({ kind: 'watch-closed', attempt: old });
    driver.send({ kind: 'request-failed', attempt: old, failure: LOST });
    assert.deepEqual(driver.keys(), ['o0', 'o1']);
    assert.equal(driver.phase, 'listing');
  });

  it('lists anew after 410 and takes the difference, no deletion lost and none invented', () => {
    const driver = watching(3);
    restart(driver);
    assert.deepEqual(driver.keys(), ['o0', 'o1', 'o2'], 'kept until a complete list');
    driver.page([item('o0', 10)], 200, 'more');
    assert.deepEqual(driver.keys(), ['o0', 'o1', 'o2'], 'half a list says nothing');
    driver.page([item('n', 150)], 200);
    assert.deepEqual(driver.keys(), ['n', 'o0']);
    assert.equal(reflectorStatus(driver.state, driver.now).relists, 1);
  });

  it('starts over when a continue token expires in the middle of a list', () => {
    const driver = watching(2);
    restart(driver);
    driver.page([item('o0', 10)], 200, 'more');
    driver.fail(GONE);
    assert.equal(driver.phase, 'backing-off', 'the second 410 in a row waits');
    driver.wake();
    assert.deepEqual(driver.asked(), {
      kind: 'list',
      attempt: driver.attempt,
      limit: PAGE_LIMIT,
      continueToken: undefined,
    });
    driver.page([item('o1', 11)], 300);
    assert.deepEqual(driver.keys(), ['o1'], 'the pages of the abandoned list do not count');
  });

  it('backs off longer with each 410 as long as no watch brings news', () => {
    const driver = watching(1);
    const waits: number[] = [];
    for (let round = 0; round < 8; round++) {
      driver.fail(GONE);
      if (driver.phase === 'backing-off') {
        waits.push(reflectorDeadline(driver.state) - driver.now);
        driver.wake();
      }
      driver.page([item('o0', 10)], 300 + round);
    }
    assert.deepEqual(waits, [150, 300, 600, 1_200, 2_400, 4_800, 9_600]);
  });

  it('waits longer with each failure, resumes the watch, and names verb and resource', () => {
    const driver = watching(1);
    const waits: number[] = [];
    for (let round = 0; round < 12; round++) {
      driver.fail(UNAVAILABLE);
      waits.push(reflectorDeadline(driver.state) - driver.now);
      driver.wake();
      assert.equal(driver.asked()?.kind, 'watch');
    }
    assert.equal(waits[0], 150);
    assert.equal(waits.at(-1), 22_500);
    assert.equal(reflectorStatus(driver.state, driver.now).error, 'cannot watch services: 503 try later');
    assert.deepEqual(driver.log, ['kube.request.failed'], 'the same failure is said once');
    driver.send({ kind: 'watch-opened', attempt: driver.attempt });
    assert.equal(reflectorStatus(driver.state, driver.now).error, undefined);
    driver.now = instant(driver.now + 6_000);
    driver.fail(LOST);
    assert.equal(reflectorDeadline(driver.state) - driver.now, 150, 'a steady watch resets the backoff');
  });

  it('honours Retry-After', () => {
    const driver = new Driver();
    driver.fail(httpFailure(429, {}, '7'));
    assert.equal(reflectorDeadline(driver.state), 7_000);
  });

  it('treats a watch that is closed at once as a failure', () => {
    const driver = watching(1);
    driver.now = instant(100);
    driver.send({ kind: 'watch-closed', attempt: driver.attempt });
    assert.equal(driver.phase, 'backing-off');
  });

  it('lists anew when a version is refused or a stream is garbage', () => {
    for (const failure of [
      httpFailure(400, {}, undefined),
      httpFailure(504, { message: 'Too large resource version' }, undefined),
      otherFailure('protocol', 'garbage'),
      otherFailure('too-large', 'a line'),
    ]) {
      const driver = watching(1);
      driver.fail(failure);
      driver.wake();
      assert.equal(driver.asked()?.kind, 'list');
    }
  });

  it('asks for smaller pages when a page is too large', () => {
    const driver = new Driver();
    const limits: number[] = [];
    for (let round = 0; round < 4; round++) {
      driver.fail(otherFailure('too-large', 'an answer'));
      const asked = driver.asked();
      if (asked?.kind === 'list') limits.push(asked.limit);
    }
    assert.deepEqual(limits, [100, 20, 4, 1]);
    driver.fail(otherFailure('too-large', 'an answer'));
    assert.equal(driver.phase, 'backing-off');
  });

  it('cancels and resumes a watch that outlives its own timeout', () => {
    const driver = watching(1);
    const before = driver.attempt;
    driver.wake();
    assert.equal(driver.now, 465_000);
    assert.deepEqual(driver.effects[0], { kind: 'cancel' });
    assert.equal(driver.asked()?.kind, 'watch');
    assert.equal(driver.attempt, before + 1);
  });

  it('resumes a watch that misses a change which a second one saw, after a grace', () => {
    const driver = watching(1);
    driver.send({ kind: 'change-verified', attempt: driver.attempt, resourceVersion: '120' });
    assert.equal(reflectorDeadline(driver.state), 2_000);
    driver.wake();
    const asked = driver.asked();
    assert.ok(asked?.kind === 'watch' && asked.resourceVersion === '100');
    assert.deepEqual(driver.log, ['kube.watch.dead']);
  });

  it('leaves a watch alone that brings the change within the grace', () => {
    const driver = watching(1);
    driver.send({ kind: 'change-verified', attempt: driver.attempt, resourceVersion: '120' });
    driver.change(item('o0', 120));
    const { attempt } = driver;
    driver.wake();
    assert.equal(driver.attempt, attempt);
    driver.send({ kind: 'change-verified', attempt, resourceVersion: '119' });
    assert.ok(reflectorDeadline(driver.state) > 100_000, 'seen already: nothing to wait for');
  });

  it('lists anew when a bookmark shows that the history went back', () => {
    const driver = watching(2);
    driver.send({ kind: 'bookmarked', attempt: driver.attempt, resourceVersion: '7' });
    assert.equal(driver.asked()?.kind, 'list');
    driver.page([item('o0', 3)], 7);
    assert.deepEqual(driver.keys(), ['o0']);
    driver.change(item('o0', 8, 'after the restore'));
    assert.equal(driver.state.store.objects.get('o0')?.text, 'after the restore');
  });

  it('checks the version beside each watch it opens, and lists anew when the server is behind', () => {
    const driver = watching(1);
    driver.fail(LOST);
    driver.wake();
    const check = driver.effects.find((effect) => effect.kind === 'check-version');
    assert.ok(check?.kind === 'check-version');
    assert.equal(check.resumedFrom, '100');
    const { attempt } = driver;
    driver.change(item('o0', 130));
    driver.send({ kind: 'version-checked', attempt, resumedFrom: '100', resourceVersion: '110' });
    assert.equal(driver.phase, 'watching', 'the answer may be older than what the watch brought since');
    driver.send({ kind: 'version-checked', attempt, resumedFrom: '100', resourceVersion: '99' });
    assert.equal(driver.asked()?.kind, 'list');
  });

  it('lists anew when asked to, and remembers since when its view holds', () => {
    const driver = watching(1);
    driver.now = instant(5_000);
    driver.send({ kind: 'list-wanted' });
    assert.equal(driver.asked()?.kind, 'list');
    driver.now = instant(6_000);
    assert.equal(driver.state.listedSince, 0);
    driver.page([item('o0', 10)], 200);
    assert.equal(driver.state.listedSince, 5_000);
    driver.fail(UNAVAILABLE);
    driver.send({ kind: 'list-wanted' });
    driver.wake();
    assert.equal(driver.asked()?.kind, 'list');
  });

  it('drops an object that is there but none of its business', () => {
    const driver = watching(2);
    driver.change({ key: 'o0', resourceVersion: '101', value: undefined });
    assert.deepEqual(driver.keys(), ['o1']);
  });

  it('does not notify for a change that changes nothing of what is kept', () => {
    const driver = watching(1);
    const before = driver.notified;
    driver.change(item('o0', 101, 'o0'));
    assert.equal(driver.notified, before);
    assert.equal(driver.state.store.versions.get('o0'), '101');
  });

  it('does nothing after it was stopped', () => {
    const driver = watching(1);
    driver.send({ kind: 'stopped' });
    assert.deepEqual(driver.effects, [{ kind: 'cancel' }]);
    driver.change(item('x', 500));
    driver.send({ kind: 'deadline-passed' });
    assert.deepEqual(driver.effects, []);
    assert.equal(reflectorDeadline(driver.state), NEVER);
  });
});

describe('server-recovered', () => {
  const refusal = httpFailure(401, {}, undefined);

  function refusedOften(): Driver {
    const driver = new Driver();
    driver.page([item('a', 5)], 40);
    for (let round = 0; round < 5; round += 1) {
      driver.fail(refusal);
      if (round < 4) driver.wake();
    }
    assert.equal(driver.asked(), undefined);
    return driver;
  }

  it('ends the wait at once, and only once until something succeeds', () => {
    const driver = refusedOften();
    driver.send({ kind: 'server-recovered' });
    assert.equal(driver.asked()?.kind, 'watch');
    driver.fail(refusal);
    driver.send({ kind: 'server-recovered' });
    assert.equal(driver.asked(), undefined, 'two that fail would hurry each other for ever');
    driver.send({ kind: 'list-wanted' });
    driver.wake();
    driver.page([item('a', 5)], 41);
    assert.ok(driver.effects.some(({ kind }) => kind === 'recovered'));
    driver.fail(refusal);
    driver.send({ kind: 'server-recovered' });
    assert.equal(driver.asked()?.kind, 'watch');
  });

  it('does not shorten what the server asked for, nor touch what works', () => {
    const driver = new Driver();
    driver.page([item('a', 5)], 40);
    driver.send({ kind: 'server-recovered' });
    assert.deepEqual(driver.effects, []);
    driver.fail({ ...httpFailure(429, {}, undefined), retryAfterMs: 7_000 });
    driver.send({ kind: 'server-recovered' });
    assert.equal(driver.asked(), undefined);
    assert.ok(reflectorDeadline(driver.state) >= 7_000);
  });
});

describe('object-written', () => {
  it('is known at once and not undone by the older event that follows', () => {
    const driver = watching(1);
    driver.send({ kind: 'object-written', item: item('o0', 120, 'written') });
    driver.change(item('o0', 110, 'before'));
    assert.equal(driver.state.store.objects.get('o0')?.text, 'written');
    driver.change(item('o0', 130, 'after'));
    assert.equal(driver.state.store.objects.get('o0')?.text, 'after');
  });

  it('does not bring back an object that was deleted meanwhile', () => {
    const driver = watching(1);
    driver.change(item('o0', 125), true);
    driver.send({ kind: 'object-written', item: item('o0', 120) });
    assert.deepEqual(driver.keys(), []);
  });

  it('is newer than a list that began before it, and older than one that began after', () => {
    const driver = watching(2);
    restart(driver);
    driver.page([item('o0', 10, 'listed')], 200, 'more');
    driver.send({ kind: 'object-written', item: item('o0', 220, 'written') });
    driver.send({ kind: 'object-written', item: item('o1', 150, 'written, then deleted before the list') });
    driver.page([], 200);
    assert.equal(driver.state.store.objects.get('o0')?.text, 'written');
    assert.deepEqual(driver.keys(), ['o0']);
  });
});

describe('doubt about a mass disappearance', () => {
  const gone = (driver: Driver) => {
    restart(driver);
    driver.page([item('o0', 10)], 200);
  };

  it('keeps what vanished until a second list 30 s later says the same', () => {
    const driver = watching(10, { doubts: true });
    gone(driver);
    assert.equal(driver.keys().length, 10);
    assert.equal(driver.phase, 'doubting');
    assert.deepEqual(reflectorStatus(driver.state, driver.now).doubt, { missing: 9, known: 10 });
    driver.change(item('new', 201));
    assert.equal(driver.keys().length, 11, 'new ones are added meanwhile');
    driver.wake();
    assert.equal(driver.now, 30_000);
    assert.equal(driver.asked()?.kind, 'list');
    driver.page([item('o0', 10), item('new', 201)], 210);
    assert.deepEqual(driver.keys(), ['new', 'o0']);
    assert.equal(reflectorStatus(driver.state, driver.now).doubt, undefined);
    assert.deepEqual(driver.log, ['kube.doubt.begun', 'kube.doubt.ended']);
  });

  it('ends without a loss when the second list has them again', () => {
    const driver = watching(10, { doubts: true });
    gone(driver);
    driver.wake();
    driver.page(
      Array.from({ length: 10 }, (_, index) => item(`o${index}`, 10 + index)),
      220,
    );
    assert.equal(driver.keys().length, 10);
    assert.equal(reflectorStatus(driver.state, driver.now).doubt, undefined);
  });

  it('believes no list that comes before the 30 s are over', () => {
    const driver = watching(10, { doubts: true });
    gone(driver);
    driver.now = instant(20_000);
    restartAfterSecond410(driver);
    driver.page([item('o0', 10)], 210);
    assert.equal(driver.keys().length, 10);
    assert.equal(reflectorDeadline(driver.state), 30_000, 'counted from the first list');
  });

  it('believes the watch about each of them at once', () => {
    const driver = watching(10, { doubts: true });
    gone(driver);
    driver.change(item('o5', 201), true);
    driver.change(item('o6', 3, 'back, on a restored server'));
    driver.change(item('o6', 202, 'back'));
    assert.ok(!driver.keys().includes('o5'));
    assert.equal(driver.state.store.objects.get('o6')?.text, 'back');
    assert.equal(driver.state.store.doubted.has('o6'), false);
  });

  it('is none for less than ten known, for half of them, or where it is switched off', () => {
    const few = watching(9, { doubts: true });
    gone(few);
    assert.deepEqual(few.keys(), ['o0']);
    const half = watching(10, { doubts: true });
    restart(half);
    half.page(
      Array.from({ length: 5 }, (_, index) => item(`o${index}`, 10 + index)),
      200,
    );
    assert.equal(half.keys().length, 5);
    const never = watching(10);
    gone(never);
    assert.deepEqual(never.keys(), ['o0']);
  });

  it('is no doubt when objects are there but no longer of interest', () => {
    const driver = watching(10, { doubts: true });
    restart(driver);
    driver.page(
      Array.from({ length: 10 }, (_, index) => ({
        key: `o${index}`,
        resourceVersion: '150',
        value: undefined,
      })),
      200,
    );
    assert.deepEqual(driver.keys(), []);
  });

  it('covers what was known before this process', () => {
    const cached = Array.from({ length: 12 }, (_, index) => item(`c${index}`, 10 + index));
    const driver = new Driver({ doubts: true, cached });
    assert.equal(driver.keys().length, 12);
    assert.equal(driver.state.synced, false);
    driver.page([], 5);
    assert.equal(driver.state.synced, true);
    assert.equal(driver.keys().length, 12, 'an empty cluster is what a wrong restore looks like');
    driver.wake();
    driver.page([], 6);
    assert.deepEqual(driver.keys(), []);
  });
});

function restartAfterSecond410(driver: Driver): void {
  driver.fail(GONE);
  if (driver.phase === 'backing-off') driver.wake();
  assert.equal(driver.asked()?.kind, 'list');
}

/**
 * A server in a few lines: versions, pages of one version, a log to watch from, history that can be lost. The network
 * between it and the machine does what fast-check says; at the end it behaves, and the two must agree.
 */
class Server {
  version = 100;
  compacted = 100;
  readonly objects = new Map<string, Item<Value>>();
  readonly log: { readonly version: number; readonly item: Item<Value>; readonly deleted: boolean }[] = [];
  #snapshot: { readonly version: number; readonly items: readonly Item<Value>[] } | undefined;

  put(key: string): Item<Value> {
    const put = item(key, ++this.version, `v${this.version}`);
    this.objects.set(key, put);
    this.log.push({ version: this.version, item: put, deleted: false });
    return put;
  }

  delete(key: string): void {
    if (!this.objects.delete(key)) return;
    this.log.push({ version: ++this.version, item: item(key, this.version), deleted: true });
  }

  compact(): void {
    this.compacted = this.version;
  }

  /** The next page: two objects of the snapshot that the first page took. */
  page(
    continueToken: string | undefined,
  ): { items: readonly Item<Value>[]; version: number; next?: string } | undefined {
    if (continueToken === undefined) {
      this.#snapshot = {
        version: this.version,
        items: [...this.objects.values()].sort((a, b) => (a.key < b.key ? -1 : 1)),
      };
    }
    const from = Number(continueToken ?? 0);
    const snapshot = this.#snapshot;
    if (snapshot === undefined || (from > 0 && snapshot.version < this.compacted)) return undefined;
    const items = snapshot.items.slice(from, from + 2);
    const more = from + 2 < snapshot.items.length;
    return { items, version: snapshot.version, ...(more ? { next: String(from + 2) } : {}) };
  }
}

class Simulation {
  readonly server = new Server();
  readonly driver = new Driver();
  /** Position in the server's log of the open watch. */
  position: number | undefined;

  constructor() {
    this.took();
  }

  send(event: ReflectorEvent<Value>): void {
    this.driver.send(event);
    this.took();
  }

  took(): void {
    const asked = this.driver.asked();
    if (asked?.kind === 'watch') this.position = Number(asked.resourceVersion);
    if (this.driver.effects.some((effect) => effect.kind === 'cancel') && asked?.kind !== 'watch') {
      this.position = undefined;
    }
  }

  /** The server answers whatever is asked, one step. Returns false when there is nothing to say. */
  answer(): boolean {
    const { driver, server } = this;
    const { attempt } = driver;
    const { phase } = driver.state;
    if (phase.kind === 'backing-off') {
      driver.wake();
      this.took();
      return true;
    }
    if (phase.kind === 'listing') {
      const asked = this.lastList();
      const page = server.page(asked);
      if (page === undefined) this.send({ kind: 'request-failed', attempt, failure: GONE });
      else {
        this.token = page.next;
        this.send({
          kind: 'page-listed',
          attempt,
          items: page.items,
          resourceVersion: String(page.version),
          continueToken: page.next,
        });
      }
      return true;
    }
    const { position } = this;
    if (position === undefined) return false;
    if (position < server.compacted) {
      this.send({ kind: 'request-failed', attempt, failure: GONE });
      return true;
    }
    const next = server.log.find((entry) => entry.version > position);
    if (next === undefined) return false;
    this.position = next.version;
    driver.send({ kind: 'object-changed', attempt, item: next.item, deleted: next.deleted });
    return true;
  }

  token: string | undefined;

  lastList(): string | undefined {
    const asked = this.driver.asked();
    if (asked?.kind === 'list') this.token = asked.continueToken;
    return this.token;
  }
}

describe('any interleaving of pages, events, 410s, drops, replays and own writes', () => {
  const action = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('put' as const), key: fc.constantFrom(...'abcdefgh') }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('delete' as const), key: fc.constantFrom(...'abcdefgh') }),
    },
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('answer' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constantFrom('compact', 'drop', 'close', 'replay', 'bookmark') }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('write' as const), key: fc.constantFrom(...'abcdefgh') }),
    },
  );

  it('ends with what the server has', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), fc.integer(), (actions, seed) => {
        const random = seededRandom(seed);
        const simulation = new Simulation();
        const { server, driver } = simulation;
        const delayed: Item<Value>[] = [];
        for (const each of actions) {
          driver.now = instant(driver.now + random() * 3_000);
          const { attempt } = driver;
          if (each.kind === 'put') server.put(each.key);
          else if (each.kind === 'delete') server.delete(each.key);
          else if (each.kind === 'answer') simulation.answer();
          else if (each.kind === 'compact') server.compact();
          else if (each.kind === 'write') {
            // The machine's own write of an object it knows; its answer may come any time later.
            const known = driver.state.store.objects.has(each.key) && server.objects.has(each.key);
            if (known) delayed.push(server.put(each.key));
            const answered = random() < 0.7 ? delayed.shift() : undefined;
            if (answered !== undefined) simulation.send({ kind: 'object-written', item: answered });
          } else if (each.kind === 'drop')
            simulation.send({ kind: 'request-failed', attempt, failure: LOST });
          else if (each.kind === 'close') simulation.send({ kind: 'watch-closed', attempt });
          else if (each.kind === 'bookmark' && simulation.position !== undefined) {
            const at = simulation.position;
            if (!server.log.some((entry) => entry.version > at)) {
              simulation.send({ kind: 'bookmarked', attempt, resourceVersion: String(server.version) });
              simulation.position = server.version;
            }
          } else if (each.kind === 'replay' && driver.state.phase.kind === 'watching') {
            for (const entry of server.log
              .filter((old) => old.version <= (simulation.position ?? 0))
              .slice(-5)) {
              driver.send({ kind: 'object-changed', attempt, item: entry.item, deleted: entry.deleted });
            }
          }
        }
        for (const item of delayed) simulation.send({ kind: 'object-written', item });
        let rounds = 0;
        while (simulation.answer()) assert.ok(rounds++ < 10_000, 'must come to rest');
        const seen = [...driver.state.store.objects].sort().map(([key, value]) => `${key} ${value.text}`);
        const truth = [...server.objects].sort().map(([key, object]) => `${key} ${object.value?.text}`);
        assert.deepEqual(seen, truth);
        assert.equal(driver.phase, 'watching');
      }),
      { numRuns: 1_000 },
    );
  });
});
