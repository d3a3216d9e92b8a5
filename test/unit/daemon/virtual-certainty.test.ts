import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Certainty, type CertaintyFacts, NETWORK_WAIT_MS } from '../../../src/daemon/virtual-certainty.ts';
import { EMPTY_HOST } from '../../../src/iface/nic-selection.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import type { Instant } from '../../../src/lib/time.ts';

const NO_ADDRESS_V4 = 'this host has no IPv4 address yet, so its subnets are not known';
const NO_ADDRESS_V6 = 'this host has no IPv6 address yet, so its subnets are not known';
const ELSEWHERE = 'it is not known yet whether it is in a subnet of another host';
const START = 1_000 as Instant;
const LATER = (START + NETWORK_WAIT_MS) as Instant;

function facts(own: readonly string[], more: Partial<CertaintyFacts> = {}): CertaintyFacts {
  const host = { ...EMPTY_HOST, ownAddresses: new Map(own.map((ip) => [ip as Ip, 'eth0'])) };
  return { host, isSettled: true, memberCount: 1, hasCompany: false, ...more };
}

function reasons(given: CertaintyFacts, now = START): readonly (string | undefined)[] {
  const { v4, v6 } = new Certainty(START).reasons(given, now);
  return [v4, v6];
}

test('a lone host with an address of each family is certain at once, also with addresses of its loopback only', () => {
  assert.deepEqual(reasons(facts(['10.0.0.1', 'fd00::1'])), [undefined, undefined]);
});

test('a host without an address is not certain, whatever time passes', () => {
  const none = facts(['127.0.0.1', '::1', '169.254.7.7', 'fe80::1']);
  for (const now of [START, LATER, (LATER * 100) as Instant])
    assert.deepEqual(reasons(none, now), [NO_ADDRESS_V4, NO_ADDRESS_V6]);
});

test('a host without an address of one family waits for it, and serves that family all the same in the end', () => {
  const v4 = facts(['10.0.0.1', 'fe80::1']);
  assert.deepEqual(reasons(v4), [undefined, NO_ADDRESS_V6]);
  assert.deepEqual(reasons(v4, (LATER - 1) as Instant), [undefined, NO_ADDRESS_V6]);
  assert.deepEqual(reasons(v4, LATER), [undefined, undefined]);
  assert.deepEqual(reasons(facts(['fd00::1']), LATER), [undefined, undefined]);
});

test('a host that gossips waits for the end of its cold start', () => {
  const own = ['10.0.0.1', 'fd00::1'];
  assert.deepEqual(reasons(facts(own, { isSettled: false }), LATER), [ELSEWHERE, ELSEWHERE]);
});

test('a host that had company waits for it, but not for ever: the others may be dead', () => {
  const own = ['10.0.0.1', 'fd00::1'];
  const alone = facts(own, { memberCount: 2 });
  assert.deepEqual(reasons(alone), [ELSEWHERE, ELSEWHERE]);
  assert.deepEqual(reasons(facts(own, { memberCount: 2, hasCompany: true })), [undefined, undefined]);
  assert.deepEqual(reasons(alone, LATER), [undefined, undefined]);
  const certainty = new Certainty(START);
  certainty.reasons(facts([], { memberCount: 2, hasCompany: true }), START);
  const { v4 } = certainty.reasons(alone, START);
  assert.equal(v4, undefined, 'who was heard once has told its subnets');
});

test('what was certain once stays so, as the subnets that were seen are remembered', () => {
  const certainty = new Certainty(START);
  certainty.reasons(facts(['10.0.0.1']), START);
  const { v4, v6 } = certainty.reasons(facts([]), START);
  assert.deepEqual([v4, v6], [undefined, NO_ADDRESS_V6]);
});
