import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CONFLICT_RETRY_MS,
  EVIDENCE_FRESH_MS,
  EVIDENCE_LIMIT,
  PROBE_COUNT,
  PROBE_INTERVAL_MS,
  Probing,
} from '../../../src/iface/probing.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';
import { ETH0, ETH1, NEIGHBOUR } from '../../support/fake-host.ts';

const X = '192.0.2.10' as Ip;
const Y = '192.0.2.11' as Ip;
const T0 = instant(1_000);

type Round = {
  readonly at: number;
  readonly probes: readonly string[];
  readonly concluded: readonly string[];
};

/** Runs `probing` from deadline to deadline until it waits for nothing; times are relative to `from`. */
function drain(probing: Probing, from: Instant): readonly Round[] {
  const rounds: Round[] = [];
  for (let now = from; now !== NEVER; ) {
    const { frames, concluded } = probing.advance(now);
    const probes = frames.map(({ ip, ifIndex }) => `${ip} on ${ifIndex}`);
    if (probes.length + concluded.length > 0) rounds.push({ at: now - from, probes, concluded });
    const next = probing.deadline();
    assert.ok(next === NEVER || next > now || probes.length > 0, 'it stands still');
    now = next;
  }
  return rounds;
}

function silent(ip = X, ifIndex = ETH0, now = T0): Probing {
  const probing = new Probing();
  probing.request(ip, ifIndex, now);
  drain(probing, now);
  return probing;
}

/** When the silence that `silent()` found began to count. */
const SILENT_AT = after(T0, PROBE_COUNT * PROBE_INTERVAL_MS);

test('a question is three probes 50 ms apart, then 50 ms of listening', () => {
  const probing = new Probing();
  probing.request(X, ETH0, T0);
  assert.equal(probing.isAsking(X), true);
  const probe = [`${X} on ${ETH0}`];
  assert.deepEqual(drain(probing, T0), [
    { at: 0, probes: probe, concluded: [] },
    { at: 50, probes: probe, concluded: [] },
    { at: 100, probes: probe, concluded: [] },
    { at: 150, probes: [], concluded: [X] },
  ]);
  assert.equal(probing.isAsking(X), false);
  assert.deepEqual(probing.evidence(X, SILENT_AT)?.kind, 'silent');
});

test('request() does not begin anew what is being asked on the same NIC, but on another', () => {
  const probing = new Probing();
  probing.request(X, ETH0, T0);
  probing.advance(T0);
  probing.request(X, ETH0, after(T0, 10));
  assert.deepEqual(probing.advance(after(T0, 10)).frames, []);
  probing.request(X, ETH1, after(T0, 20));
  assert.deepEqual(probing.advance(after(T0, 20)).frames, [{ ifIndex: ETH1, ip: X }]);
});

test('an answer ends the question at once and counts until the next one', () => {
  const probing = new Probing();
  probing.request(X, ETH0, T0);
  probing.advance(T0);
  assert.equal(probing.heard(X, NEIGHBOUR, after(T0, 1)), true);
  assert.equal(probing.isAsking(X), false);
  assert.equal(probing.deadline(), NEVER);
  const retryAt = after(T0, 1 + CONFLICT_RETRY_MS);
  const evidence = probing.evidence(X, after(T0, 1e9));
  assert.ok(evidence?.kind === 'answered');
  assert.deepEqual([evidence.mac, evidence.at, evidence.retryAt], [NEIGHBOUR, T0 + 1, retryAt]);
  assert.deepEqual(
    [...probing.conflicts()].map(([ip]) => ip),
    [X],
  );
});

test('an answer after silence counts all the same; one that nobody asked for does not', () => {
  const probing = silent();
  assert.equal(probing.heard(X, NEIGHBOUR, after(SILENT_AT, 5_000)), true);
  assert.equal(probing.evidence(X, after(SILENT_AT, 5_000))?.kind, 'answered');
  assert.equal(probing.heard(Y, NEIGHBOUR, T0), false);
  assert.equal(probing.evidence(Y, T0), undefined);
});

test('a later answer of another MAC replaces the first, and puts the next question off', () => {
  const probing = silent();
  probing.heard(X, NEIGHBOUR, SILENT_AT);
  const other = '02:00:00:00:00:98' as Mac;
  probing.heard(X, other, after(SILENT_AT, 1_000));
  const evidence = probing.evidence(X, after(SILENT_AT, 1_000));
  assert.ok(evidence?.kind === 'answered');
  assert.equal(evidence.mac, other);
  assert.equal(probing.dueAt(X), after(SILENT_AT, 1_000 + CONFLICT_RETRY_MS));
});

test('silence after an answer ends the conflict', () => {
  const probing = silent();
  probing.heard(X, NEIGHBOUR, SILENT_AT);
  const again = probing.dueAt(X);
  probing.request(X, ETH0, again);
  drain(probing, again);
  assert.equal(probing.evidence(X, after(again, 150))?.kind, 'silent');
  assert.deepEqual([...probing.conflicts()], []);
});

test('silence counts for a minute, and is asked for again 20 s before that', () => {
  const probing = silent();
  const due = after(SILENT_AT, EVIDENCE_FRESH_MS - 20_000);
  assert.equal(probing.dueAt(X), due);
  assert.equal(probing.isDue(X, after(due, -1)), false);
  assert.equal(probing.isDue(X, due), true);
  assert.equal(probing.evidence(X, after(SILENT_AT, EVIDENCE_FRESH_MS))?.kind, 'silent');
  assert.equal(probing.evidence(X, after(SILENT_AT, EVIDENCE_FRESH_MS + 1)), undefined);
});

test('what was never asked is due at once; what is being asked is not due', () => {
  const probing = new Probing();
  assert.equal(probing.isDue(X, T0), true);
  assert.equal(probing.dueAt(X), NEVER);
  probing.request(X, ETH0, T0);
  assert.equal(probing.isDue(X, T0), false);
  assert.equal(probing.dueAt(X), NEVER);
});

test('an answered address is due when its retry is', () => {
  const probing = silent();
  probing.heard(X, NEIGHBOUR, T0);
  assert.equal(probing.isDue(X, after(T0, CONFLICT_RETRY_MS - 1)), false);
  assert.equal(probing.isDue(X, after(T0, CONFLICT_RETRY_MS)), true);
});

test('forget() ends the question and drops what is known', () => {
  const probing = silent();
  probing.request(Y, ETH0, T0);
  probing.forget(X);
  probing.forget(Y);
  assert.equal(probing.evidence(X, SILENT_AT), undefined);
  assert.equal(probing.isAsking(Y), false);
  assert.equal(probing.deadline(), NEVER);
});

test('trust() is as good as silence', () => {
  const probing = new Probing();
  probing.trust(X, ETH0, T0);
  assert.equal(probing.evidence(X, T0)?.kind, 'silent');
  assert.equal(probing.isDue(X, T0), false);
});

test('a probe that did not get onto the wire is repeated before silence is believed', () => {
  const probing = new Probing();
  probing.request(X, ETH0, T0);
  probing.advance(T0);
  probing.unsent(X);
  probing.unsent(Y);
  const rounds = drain(probing, after(T0, 50));
  assert.equal(rounds.filter(({ probes }) => probes.length === 1).length, PROBE_COUNT);
  assert.equal(rounds.at(-1)?.at, PROBE_COUNT * PROBE_INTERVAL_MS);
});

test('keepOnly() drops questions and evidence of another wire than that of the NIC that has the address now', () => {
  const nicOf = (expected: IfIndex | undefined) => (ip: Ip) => (ip === X || ip === Y ? expected : undefined);
  for (const [nic, kept] of [
    [ETH0, true],
    [ETH1, false],
    [undefined, false],
  ] as const) {
    const probing = silent();
    probing.request(Y, ETH0, SILENT_AT);
    probing.keepOnly(nicOf(nic));
    assert.equal(probing.evidence(X, SILENT_AT) !== undefined, kept);
    assert.equal(probing.isAsking(Y), kept);
    const answered = silent();
    answered.heard(X, NEIGHBOUR, SILENT_AT);
    answered.keepOnly(nicOf(nic));
    assert.equal([...answered.conflicts()].length, kept ? 1 : 0);
  }
});

test('a thousand questions are asked within the budget of 5,000 frames a second, and all concluded', () => {
  const probing = new Probing();
  const ips = Array.from({ length: 1_000 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  for (const ip of ips) probing.request(ip, ETH0, T0);
  const rounds = drain(probing, T0);
  assert.equal(rounds.flatMap(({ concluded }) => concluded).length, 1_000);
  let sent = 0;
  for (const { at, probes } of rounds) {
    sent += probes.length;
    assert.ok(sent <= 257 + 5 * at, `${sent} probes after ${at} ms`);
  }
  assert.equal(sent, 3_000);
});

test('evidence beyond its limit costs the oldest', () => {
  const probing = new Probing();
  const at = (index: number) => ipFromNumber('v4', 0x0a000000n + BigInt(index));
  for (let index = 0; index <= EVIDENCE_LIMIT; index++) probing.trust(at(index), ETH0, T0);
  assert.equal(probing.evidence(at(0), T0), undefined);
  assert.equal(probing.evidence(at(1), T0)?.kind, 'silent');
  assert.equal(probing.evidence(at(EVIDENCE_LIMIT), T0)?.kind, 'silent');
});

test('silence that a host looks at late is asked for again: it did not run, and may not have heard the answer', () => {
  const probing = new Probing();
  probing.request(X, ETH0, T0);
  for (const ms of [0, 50, 100]) assert.equal(probing.advance(after(T0, ms)).frames.length, 1);
  const wokeAt = after(T0, 700);
  const { frames, concluded } = probing.advance(wokeAt);
  assert.deepEqual([frames.length, concluded.length], [1, 0]);
  assert.equal(probing.evidence(X, wokeAt), undefined);
  assert.deepEqual(drain(probing, after(wokeAt, PROBE_INTERVAL_MS)).at(-1)?.concluded, [X]);
});
