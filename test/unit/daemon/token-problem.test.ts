import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProblems, type ProblemSources } from '../../../src/daemon/status.ts';
import type { TokenStatus } from '../../../src/kube/account-token.ts';
import { statusDocument } from '../cli/support/status-document.ts';

const HOUR_MS = 3_600_000;
const TOKEN: TokenStatus = {
  account: 'kube-system/lbd',
  expiresInMs: 10 * HOUR_MS,
  renewsInMs: -HOUR_MS,
  isLate: false,
  error: undefined,
};

function problemsOf(token: TokenStatus): readonly string[] {
  const document = statusDocument();
  const kubernetes = { ...document.kubernetes, token };
  // What else there may be to complain about has nothing in it.
  const sources: ProblemSources = {
    ...document,
    unwritten: [],
    kubernetes,
    hostName: document.host.name,
    election: undefined,
  };
  return findProblems(sources).map(({ severity, text }) => `${severity}: ${text}`);
}

test('findProblems() tells of a token that cannot be renewed, and louder when it nears its end', () => {
  const what = 'the token of the ServiceAccount kube-system/lbd';
  assert.deepEqual(problemsOf(TOKEN), []);
  assert.deepEqual(problemsOf({ ...TOKEN, error: '403' }), [
    `warning: ${what} expires in 10 h and cannot be renewed: 403`,
  ]);
  assert.deepEqual(problemsOf({ ...TOKEN, expiresInMs: HOUR_MS / 2, isLate: true, error: '403' }), [
    `error: ${what} expires in 1 h and cannot be renewed: 403`,
  ]);
  assert.deepEqual(problemsOf({ ...TOKEN, expiresInMs: -1, isLate: true }), [
    `error: ${what} has expired: make a new kubeconfig with "lbctl kubeconfig"`,
  ]);
});
