import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { failureText, httpFailure, otherFailure } from '../../../src/kube/api-failure.ts';
import { backoffMs } from '../../../src/kube/backoff.ts';
import { compareResourceVersions, isNotNewer } from '../../../src/kube/resource-version.ts';
import { patchVerdict, statusPatch } from '../../../src/kube/status-patch.ts';
import type { Service } from '../../../src/kube/types.ts';
import { parseIp } from '../../../src/lib/ip.ts';

describe('failureText()', () => {
  it('names verb, resource, the answer and what to do', () => {
    const forbidden = httpFailure(403, { message: 'services is forbidden', reason: 'Forbidden' }, undefined);
    assert.equal(
      failureText(forbidden, 'list', 'services'),
      'cannot list services: 403 services is forbidden (grant verb list on services)',
    );
    assert.match(
      failureText(httpFailure(401, {}, undefined), 'watch', 'nodes'),
      /cannot watch nodes: 401 .*credentials/,
    );
    assert.equal(
      failureText(otherFailure('network', 'connect ECONNREFUSED 192.0.2.1:6443'), 'get', 'leases'),
      'cannot get leases: connect ECONNREFUSED 192.0.2.1:6443',
    );
  });
});

describe('httpFailure()', () => {
  it('takes Retry-After from the header or the Status, bounded', () => {
    assert.equal(httpFailure(429, {}, '3').retryAfterMs, 3_000);
    assert.equal(httpFailure(429, { details: { retryAfterSeconds: 2 } }, undefined).retryAfterMs, 2_000);
    assert.equal(httpFailure(429, {}, '999999').retryAfterMs, 120_000);
    assert.equal(httpFailure(429, {}, 'Fri, 31 Dec 1999 23:59:59 GMT').retryAfterMs, undefined);
    assert.equal(httpFailure(500, 'x'.repeat(1e6), undefined).message.length, 256);
  });
});

describe('backoffMs()', () => {
  it('grows from 0.2 s to 30 s, half of it random', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (failures, at) => {
          const whole = Math.min(30_000, 200 * 2 ** (failures - 1));
          const ms = backoffMs(failures, () => at);
          assert.ok(ms >= whole / 2 && ms <= whole);
        },
      ),
    );
  });
});

describe('compareResourceVersions()', () => {
  it('orders decimal numbers of any length and nothing else', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 1n, max: 2n ** 80n }),
        fc.bigInt({ min: 1n, max: 2n ** 80n }),
        (left, right) => {
          const order = compareResourceVersions(String(left), String(right)) ?? Number.NaN;
          assert.equal(Math.sign(order), left < right ? -1 : left > right ? 1 : 0);
        },
      ),
    );
    for (const text of ['', 'abc', '01', '1.5', '-1', '0']) {
      assert.equal(compareResourceVersions(text, '5'), undefined);
      assert.equal(isNotNewer(text, '5'), false);
    }
  });
});

describe('statusPatch()', () => {
  const service = { uid: 'u', resourceVersion: '9' } as Service;

  it('carries uid and resourceVersion as preconditions, and removes the list when there is no address', () => {
    const ip = parseIp('192.0.2.1');
    assert.ok(ip !== undefined);
    assert.deepEqual(statusPatch(service, [ip], true), {
      metadata: { uid: 'u', resourceVersion: '9' },
      status: { loadBalancer: { ingress: [{ ip, ipMode: 'VIP' }] } },
    });
    assert.deepEqual(statusPatch(service, [], true), {
      metadata: { uid: 'u', resourceVersion: '9' },
      status: { loadBalancer: { ingress: null } },
    });
  });
});

describe('patchVerdict()', () => {
  it('tells conflict, absence, an unknown ipMode and the rest apart', () => {
    assert.equal(patchVerdict(httpFailure(409, {}, undefined)), 'stale');
    assert.equal(patchVerdict(httpFailure(404, {}, undefined)), 'gone');
    assert.equal(
      patchVerdict(httpFailure(422, { message: 'unknown field "…ingress[0].ipMode"' }, undefined)),
      'retry-without-mode',
    );
    assert.equal(patchVerdict(httpFailure(422, { message: 'ip: Invalid value' }, undefined)), 'failed');
    assert.equal(patchVerdict(otherFailure('network', 'x')), 'failed');
  });
});
