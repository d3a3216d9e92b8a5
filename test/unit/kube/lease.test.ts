import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { httpFailure, otherFailure } from '../../../src/kube/api-failure.ts';
import {
  holdsLease,
  initialLease,
  type LeaseEffect,
  type LeaseEvent,
  type LeaseRecord,
  type LeaseState,
  leaseDeadline,
  leaseRecord,
  leaseStatus,
  stepLease,
} from '../../../src/kube/lease.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { instant, NEVER } from '../../../src/lib/time.ts';

function record(holder: string, resourceVersion: number, extra: Partial<LeaseRecord> = {}): LeaseRecord {
  return {
    resourceVersion: String(resourceVersion),
    holder,
    durationMs: 15_000,
    acquireTime: 'acquired',
    renewTime: `renewed-${resourceVersion}`,
    transitions: 3,
    ...extra,
  };
}

class Driver {
  state: LeaseState;
  now = instant(0);
  effects: readonly LeaseEffect[] = [];
  readonly log: string[] = [];

  constructor(identity = 'host-a') {
    this.state = initialLease(identity);
    this.send({ kind: 'started' });
  }

  send(event: LeaseEvent): void {
    const step = stepLease(this.state, event, this.now, () => 0.5);
    this.state = step.state;
    this.effects = step.effects;
    for (const effect of step.effects) if (effect.kind === 'log') this.log.push(effect.event);
  }

  read(found: LeaseRecord | undefined): void {
    assert.equal(this.asked()?.kind, 'read');
    this.send({ kind: 'read', attempt: this.state.attempt, record: found });
  }

  written(answer: LeaseRecord): void {
    assert.equal(this.asked()?.kind, 'write');
    this.send({ kind: 'written', attempt: this.state.attempt, record: answer });
  }

  fail(status: number | undefined, verb: 'get' | 'create' | 'patch' = 'patch'): void {
    const failure =
      status === undefined ? otherFailure('timeout', 'late') : httpFailure(status, {}, undefined);
    this.send({ kind: 'failed', attempt: this.state.attempt, verb, failure });
  }

  wake(): void {
    this.now = leaseDeadline(this.state);
    assert.notEqual(this.now, NEVER);
    this.send({ kind: 'deadline-passed' });
  }

  asked(): Extract<LeaseEffect, { kind: 'read' | 'write' }> | undefined {
    return this.effects.flatMap((effect) =>
      effect.kind === 'read' || effect.kind === 'write' ? [effect] : [],
    )[0];
  }

  holds(): boolean {
    return holdsLease(this.state, this.now);
  }
}

function holder(): Driver {
  const driver = new Driver();
  driver.read(undefined);
  driver.written(record('host-a', 1));
  assert.equal(driver.holds(), true);
  return driver;
}

describe('stepLease()', () => {
  it('creates an absent Lease at once', () => {
    const driver = new Driver();
    driver.read(undefined);
    assert.deepEqual(driver.asked(), {
      kind: 'write',
      attempt: 2,
      resourceVersion: undefined,
      lease: { holder: 'host-a', durationSeconds: 15, acquireTime: undefined, transitions: 0 },
    });
    assert.equal(driver.holds(), false, 'not before the server said so');
    driver.written(record('host-a', 1));
    assert.equal(driver.holds(), true);
    assert.equal(driver.now, 0);
    assert.deepEqual(driver.log, ['kube.allocator.acquired']);
  });

  it('takes a released Lease at once, against the version it read', () => {
    const driver = new Driver();
    driver.read(record('', 8));
    const asked = driver.asked();
    assert.ok(asked?.kind === 'write');
    assert.equal(asked.resourceVersion, '8');
    assert.equal(asked.lease.transitions, 4);
    assert.equal(asked.lease.acquireTime, undefined);
  });

  it('takes its own Lease of before a restart at once, without a transition', () => {
    const driver = new Driver();
    driver.read(record('host-a', 8));
    const asked = driver.asked();
    assert.ok(asked?.kind === 'write');
    assert.equal(asked.lease.transitions, 3);
    assert.equal(asked.lease.acquireTime, 'acquired');
  });

  it('waits for another holder, jittered, and takes over 15 s after the last renewal it saw', () => {
    const driver = new Driver();
    driver.read(record('host-b', 8));
    assert.equal(leaseDeadline(driver.state), 3_200);
    driver.wake();
    driver.read(record('host-b', 9));
    const seen = driver.now;
    while (driver.asked()?.kind !== 'write') {
      driver.wake();
      driver.read(record('host-b', 9));
    }
    assert.ok(driver.now - seen >= 15_000 && driver.now - seen < 15_000 + 4_400);
  });

  it('does not take an edit of something else in the Lease for a sign of life', () => {
    const driver = new Driver();
    let version = 8;
    driver.read(record('host-b', version, { renewTime: 'then' }));
    while (driver.asked()?.kind !== 'write') {
      driver.wake();
      version++;
      driver.read(record('host-b', version, { renewTime: 'then' }));
      assert.ok(driver.now < 25_000);
    }
  });

  it('renews every 2 s, and holds for 10 s from when the last successful write was sent', () => {
    const driver = holder();
    driver.wake();
    assert.equal(driver.now, 2_000);
    driver.now = instant(3_500);
    driver.written(record('host-a', 2));
    assert.equal(leaseDeadline(driver.state), 4_000);
    for (const tries = { left: 20 }; driver.holds(); tries.left--) {
      assert.ok(tries.left > 0);
      driver.wake();
      if (driver.asked()?.kind === 'write') driver.fail(500);
      else if (driver.asked()?.kind === 'read') driver.fail(500, 'get');
    }
    assert.equal(driver.now, 12_000);
    assert.ok(driver.log.includes('kube.allocator.lost'));
  });

  it('does not hold any more after a suspension, before it hears of the time', () => {
    const driver = holder();
    driver.now = instant(60_000);
    assert.equal(driver.holds(), false);
  });

  it('looks again at once after a conflict, and gives up when another holds it', () => {
    const driver = holder();
    driver.wake();
    driver.fail(409);
    driver.read(record('host-b', 5));
    assert.equal(driver.holds(), false);
    assert.deepEqual(driver.log, ['kube.allocator.acquired', 'kube.allocator.lost']);
    assert.equal(leaseStatus(driver.state, driver.now).holder, 'host-b');
  });

  it('stays holder when only something else in the Lease was edited', () => {
    const driver = holder();
    driver.wake();
    driver.fail(409);
    driver.read(record('host-a', 5, { renewTime: 'renewed-1' }));
    driver.written(record('host-a', 6));
    assert.equal(driver.holds(), true);
  });

  it('does not hammer a server that answers 409 for ever', () => {
    const driver = new Driver();
    let requests = 0;
    for (; leaseDeadline(driver.state) === NEVER; requests++) {
      assert.ok(requests < 20);
      if (driver.asked()?.kind === 'read') driver.read(record('', 8));
      else driver.fail(409);
    }
    assert.equal(leaseDeadline(driver.state), 2_000);
  });

  it('reads again after a write without an answer, which may have happened', () => {
    const driver = holder();
    driver.wake();
    driver.now = instant(6_000);
    driver.fail(undefined);
    driver.wake();
    driver.read(record('host-a', 2));
    driver.written(record('host-a', 3));
    assert.equal(driver.holds(), true);
    assert.equal(leaseStatus(driver.state, driver.now).error, undefined);
  });

  it('gives way to another lbd of the same name, and says so', () => {
    const driver = holder();
    driver.wake();
    driver.fail(409);
    driver.read(record('host-a', 7));
    assert.equal(driver.holds(), false);
    assert.match(
      leaseStatus(driver.state, driver.now).error ?? '',
      /another lbd runs under the name "host-a"/,
    );
    for (let version = 8; version < 20; version++) {
      driver.wake();
      driver.read(record('host-a', version));
      assert.equal(driver.asked(), undefined);
    }
    const quiet = driver.now;
    while (driver.asked()?.kind !== 'write') {
      driver.wake();
      driver.read(record('host-a', 19));
    }
    assert.ok(driver.now - quiet >= 15_000);
  });

  it('creates the Lease anew when somebody deleted it', () => {
    const driver = holder();
    driver.wake();
    driver.fail(404);
    driver.read(undefined);
    const asked = driver.asked();
    assert.ok(asked?.kind === 'write' && asked.resourceVersion === undefined);
    driver.written(record('host-a', 9));
    assert.equal(driver.holds(), true);
  });

  it('names the verbs to grant when it is forbidden, and asks less often', () => {
    const driver = new Driver();
    driver.fail(403, 'get');
    assert.match(
      leaseStatus(driver.state, driver.now).error ?? '',
      /cannot get leases: 403.*verbs get, create and patch on leases/,
    );
    assert.ok(leaseDeadline(driver.state) >= 15_000);
    driver.wake();
    driver.fail(403, 'get');
    assert.deepEqual(driver.log, ['kube.allocator.failed'], 'said once');
  });

  it('points at the namespace when the Lease cannot be created in it', () => {
    const driver = new Driver();
    driver.read(undefined);
    driver.fail(404, 'create');
    assert.match(leaseStatus(driver.state, driver.now).error ?? '', /lease_namespace/);
  });

  it('releases on stop when it holds, and only then', () => {
    const driver = holder();
    driver.send({ kind: 'stopped' });
    const asked = driver.asked();
    assert.ok(asked?.kind === 'write');
    assert.equal(asked.lease.holder, '');
    assert.equal(asked.resourceVersion, '1');
    assert.equal(driver.holds(), false);
    assert.equal(leaseDeadline(driver.state), NEVER);
    const candidate = new Driver();
    candidate.read(record('host-b', 8));
    candidate.send({ kind: 'stopped' });
    assert.equal(candidate.asked(), undefined);
  });
});

describe('leaseRecord()', () => {
  it('reads a Lease, fills what is absent and bounds what is not', () => {
    assert.deepEqual(leaseRecord({ metadata: { resourceVersion: '4' }, spec: {} }), {
      resourceVersion: '4',
      holder: '',
      durationMs: 15_000,
      acquireTime: undefined,
      renewTime: undefined,
      transitions: 0,
    });
    const endless = {
      metadata: { resourceVersion: '4' },
      spec: { leaseDurationSeconds: 1e9, leaseTransitions: -1 },
    };
    assert.equal(leaseRecord(endless)?.durationMs, 300_000);
    assert.equal(leaseRecord(7), undefined);
  });
});

/** Hosts with clocks of their own speed and offset, one Lease with optimistic locking, requests that get lost or late. */
describe('three hosts on one Lease', () => {
  type Host = {
    readonly name: string;
    state: LeaseState;
    readonly offset: number;
    readonly speed: number;
    /** What will reach the host, at which true time. */
    readonly inbox: { readonly at: number; readonly event: LeaseEvent }[];
  };

  it('never have two holders, whatever is lost or late, and always get one when the network is well', () => {
    fc.assert(
      fc.property(fc.integer(), fc.double({ min: 0, max: 0.6, noNaN: true }), (seed, loss) => {
        const random = seededRandom(seed);
        let stored: LeaseRecord | undefined;
        let version = 0;
        let lossy = true;
        const hosts: Host[] = ['a', 'b', 'c'].map((name) => ({
          name,
          state: initialLease(name),
          offset: random() * 1e6,
          // client-go bounds the tolerated skew of speed by leaseDuration / renewDeadline; quartz is a thousand times better.
          speed: 1 + (random() - 0.5) * 0.02,
          inbox: [],
        }));
        const clock = (host: Host, at: number) => instant(host.offset + at * host.speed);
        const carry = (host: Host, effects: readonly LeaseEffect[], at: number) => {
          for (const effect of effects) {
            if (effect.kind !== 'read' && effect.kind !== 'write') continue;
            const { attempt } = effect;
            const verb =
              effect.kind === 'read' ? 'get' : effect.resourceVersion === undefined ? 'create' : 'patch';
            const fate = lossy ? random() : 1;
            let event: LeaseEvent;
            const failed = (status: number | undefined): LeaseEvent => ({
              kind: 'failed',
              attempt,
              verb,
              failure:
                status === undefined ? otherFailure('timeout', 'late') : httpFailure(status, {}, undefined),
            });
            if (fate < loss / 2) event = failed(undefined);
            else if (effect.kind === 'read') event = { kind: 'read', attempt, record: stored };
            else if (effect.resourceVersion !== stored?.resourceVersion) event = failed(409);
            else {
              version++;
              const { lease } = effect;
              stored = record(lease.holder, version, { transitions: lease.transitions });
              event = { kind: 'written', attempt, record: stored };
            }
            // Done at the server, but the answer is lost: the case that makes a holder unsure.
            if (fate >= loss / 2 && fate < loss) event = failed(undefined);
            const timeout = event.kind === 'failed' && event.failure.status === undefined;
            host.inbox.push({ at: at + (timeout ? 4_000 : lossy ? random() * 3_000 : 5), event });
          }
        };
        const step = (host: Host, event: LeaseEvent, at: number) => {
          const taken = stepLease(host.state, event, clock(host, at), random);
          host.state = taken.state;
          carry(host, taken.effects, at);
        };
        const holders = (at: number) => hosts.filter((host) => holdsLease(host.state, clock(host, at)));
        for (const host of hosts) step(host, { kind: 'started' }, 0);
        for (let at = 0; at < 240_000; at += 50) {
          if (at === 180_000) lossy = false;
          for (const host of hosts) {
            for (const due of host.inbox.filter((entry) => entry.at <= at)) {
              host.inbox.splice(host.inbox.indexOf(due), 1);
              step(host, due.event, at);
            }
            if (clock(host, at) >= leaseDeadline(host.state)) step(host, { kind: 'deadline-passed' }, at);
          }
          assert.ok(holders(at).length <= 1, `two holders at ${at}: ${holders(at).map((host) => host.name)}`);
        }
        assert.equal(holders(240_000).length, 1);
      }),
      { numRuns: 100 },
    );
  });
});
