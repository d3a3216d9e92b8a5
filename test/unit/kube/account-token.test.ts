import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  grantedToken,
  isRenewalDue,
  isRenewalLate,
  parseAccountToken,
  renewalTimeMs,
  supersedes,
  tokenRequestBody,
  tokenRequestPath,
  tokenStatus,
} from '../../../src/kube/account-token.ts';

const HOUR_S = 3_600;
const CLAIMS = {
  iss: 'https://kubernetes.default.svc',
  sub: 'system:serviceaccount:kube-system:lbd',
  iat: 1_000 * HOUR_S,
  exp: 1_010 * HOUR_S,
};

function jwt(claims: object = {}): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'RS256' })}.${part({ ...CLAIMS, ...claims })}.c2lnbmF0dXJl`;
}

test('parseAccountToken() reads the claims that lbd needs', () => {
  assert.deepEqual(parseAccountToken(jwt()), {
    issuer: 'https://kubernetes.default.svc',
    namespace: 'kube-system',
    name: 'lbd',
    issuedAtMs: 1_000 * HOUR_S * 1_000,
    expiresAtMs: 1_010 * HOUR_S * 1_000,
  });
});

test('parseAccountToken() gives nothing for what is no ServiceAccount token with an end', () => {
  const cases = [
    '',
    'opaque',
    'a.b.c',
    `${jwt()}.x`,
    jwt({ exp: undefined }),
    jwt({ exp: 'soon' }),
    jwt({ exp: CLAIMS.iat }),
    jwt({ iat: -1 }),
    jwt({ sub: 'admin' }),
    jwt({ sub: 'system:serviceaccount:a:b:c' }),
    jwt({ iss: undefined, x: 'y'.repeat(20_000) }),
  ];
  for (const text of cases) assert.equal(parseAccountToken(text), undefined, text.slice(0, 80));
});

test('parseAccountToken() never throws', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (head, body) => void parseAccountToken(`${head}.${body}.x`)),
  );
  fc.assert(
    fc.property(fc.json(), (json) => {
      parseAccountToken(`x.${Buffer.from(json).toString('base64url')}.x`);
    }),
  );
});

test('isRenewalDue() and isRenewalLate() go by halves and fifths of the life of a token', () => {
  const token = parseAccountToken(jwt());
  assert.ok(token);
  const at = (hours: number) => token.issuedAtMs + hours * HOUR_S * 1_000;
  assert.equal(renewalTimeMs(token), at(5));
  const cases: readonly (readonly [number, boolean, boolean])[] = [
    [-1_000, true, false],
    [-0.01, false, false],
    [0, false, false],
    [4.99, false, false],
    [5, true, false],
    [7.99, true, false],
    [8, true, true],
    [11, true, true],
  ];
  for (const [hours, due, late] of cases) {
    assert.equal(isRenewalDue(token, at(hours)), due, `due at ${hours}`);
    assert.equal(isRenewalLate(token, at(hours)), late, `late at ${hours}`);
  }
  assert.deepEqual(tokenStatus(token, at(4), 'no'), {
    account: 'kube-system/lbd',
    expiresInMs: 6 * HOUR_S * 1_000,
    renewsInMs: HOUR_S * 1_000,
    isLate: false,
    error: 'no',
  });
});

test('supersedes() only for the same account of the same cluster, and not when it is older', () => {
  const cases: readonly (readonly [object, boolean])[] = [
    [{ iat: CLAIMS.iat + 1 }, true],
    [{}, true],
    [{ iat: CLAIMS.iat - 1 }, false],
    [{ iat: CLAIMS.iat + 1, iss: 'https://another' }, false],
    [{ iat: CLAIMS.iat + 1, sub: 'system:serviceaccount:kube-system:other' }, false],
    [{ iat: CLAIMS.iat + 1, sub: 'system:serviceaccount:other:lbd' }, false],
  ];
  for (const [claims, expected] of cases) {
    assert.equal(supersedes(jwt(claims), jwt()), expected, JSON.stringify(claims));
  }
  assert.equal(supersedes(jwt(), 'opaque'), false);
  assert.equal(supersedes('opaque', jwt()), false);
});

test('tokenRequestBody() asks for the same life again, and for no less than the API takes', () => {
  assert.deepEqual(tokenRequestBody(36_000_000)['spec'], { expirationSeconds: 36_000 });
  assert.deepEqual(tokenRequestBody(1_000)['spec'], { expirationSeconds: 600 });
  const path = tokenRequestPath({ namespace: 'kube-system', name: 'lbd' });
  assert.equal(path, '/api/v1/namespaces/kube-system/serviceaccounts/lbd/token');
});

test('grantedToken() takes only a token of the account that was asked for', () => {
  const account = { namespace: 'kube-system', name: 'lbd' };
  assert.equal(grantedToken({ status: { token: jwt() } }, account)?.text, jwt());
  for (const answer of [undefined, {}, { status: {} }, { status: { token: 'x' } }]) {
    assert.equal(grantedToken(answer, account), undefined);
  }
  assert.equal(grantedToken({ status: { token: jwt() } }, { ...account, name: 'other' }), undefined);
});
