import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AssertionFailure, assert as invariant, unreachable } from '../../../src/lib/assert.ts';
import { errorText, LbdError } from '../../../src/lib/errors.ts';

test('LbdError carries its code, fields and cause', () => {
  const cause = new Error('ENOSPC');
  const error = new LbdError('state.write-failed', 'cannot write', { fields: { path: '/x' }, cause });
  assert.ok(error instanceof Error);
  assert.deepEqual(
    [error.name, error.code, error.message],
    ['LbdError', 'state.write-failed', 'cannot write'],
  );
  assert.deepEqual(error.fields, { path: '/x' });
  assert.equal(error.cause, cause);
  const bare = new LbdError('a.b', 'text');
  assert.deepEqual(bare.fields, {});
  assert.equal('cause' in bare, false);
});

const TEXTS: readonly (readonly [what: string, thrown: unknown, text: string])[] = [
  ['an error', new Error('no route'), 'no route'],
  [
    'an error and its cause',
    new Error('cannot list', { cause: new Error('no route') }),
    'cannot list: no route',
  ],
  ['three in a chain', new Error('a', { cause: new Error('b', { cause: new Error('c') }) }), 'a: b: c'],
  ['a cause that the message quotes already', new Error('a: b', { cause: new Error('b') }), 'a: b'],
  ['a cause that is no error', new Error('a', { cause: 'b' }), 'a: b'],
  ['an error without message', new TypeError(''), 'TypeError'],
  ['a text', 'just so', 'just so'],
  ['undefined', undefined, 'undefined'],
  ['an object that has no text', Object.create(null), 'something without a text was thrown'],
  ['several lines', new Error('exec plugin:\n  no token\r\n  at all'), 'exec plugin: no token at all'],
  [
    'a connection that failed on each address of a name',
    new AggregateError([
      new Error('connect ECONNREFUSED ::1:6443'),
      new Error('connect ECONNREFUSED 127.0.0.1:6443'),
    ]),
    'connect ECONNREFUSED ::1:6443; connect ECONNREFUSED 127.0.0.1:6443',
  ],
  ['an aggregate of nothing', new AggregateError([]), 'AggregateError'],
];

for (const [what, thrown, text] of TEXTS) {
  test(`errorText() of ${what} is one line`, () => assert.equal(errorText(thrown), text));
}

test('errorText() ends when an error is its own cause', () => {
  const error = new Error('round');
  error.cause = error;
  assert.equal(errorText(error), 'round');
  const first = new Error('first');
  first.cause = new Error('second', { cause: first });
  assert.match(errorText(first), /^first: second/);
  const members = new AggregateError([], '');
  members.errors.push(members);
  assert.equal(errorText(members), 'AggregateError');
});

test('assert() throws AssertionFailure with the broken invariant, and only then', () => {
  invariant(true, 'holds');
  assert.throws(
    () => invariant(false, 'two owners'),
    (error) => {
      return error instanceof AssertionFailure && error.message === 'two owners';
    },
  );
  assert.throws(() => unreachable({ kind: 'new' } as never), /unreachable value {"kind":"new"}/);
});
