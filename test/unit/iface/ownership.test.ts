import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Ownership } from '../../../src/iface/io/ownership.ts';
import { LBD_PROTOCOL } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Logger, SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { ETH0, ETH1, kernelAddress } from '../../support/fake-host.ts';

/** As a kernel without the tag tells it: nothing in it says whose it is. */
const X = kernelAddress(ETH0, '192.0.2.10' as Ip, 32, undefined, 30);
const Y = kernelAddress(ETH0, '2001:db8::10' as Ip, 128, undefined, 30);

class State {
  readonly directory = mkdtempSync(join(tmpdir(), 'lbd-ownership-'));
  readonly file = join(this.directory, 'addresses.json');
  readonly warnings: string[] = [];

  constructor(t: TestContext) {
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  /** As a newly started process would have it. */
  open(kernelTags = false): Ownership {
    const logger: Logger = { ...SILENT_LOGGER, warn: (_fields, event) => void this.warnings.push(event) };
    return new Ownership({ file: this.file, logger, kernelTags });
  }

  recorded(): readonly string[] {
    return JSON.parse(readFileSync(this.file, 'utf8')).addresses;
  }
}

test('with the tag nothing is recorded, and only the tag counts', (t) => {
  const state = new State(t);
  const ownership = state.open(true);
  assert.equal(ownership.claim([X]), undefined);
  assert.equal(ownership.isOurs(X), false);
  assert.equal(ownership.isOurs({ ...X, protocol: LBD_PROTOCOL }), true);
  ownership.removed([X]);
  assert.equal(existsSync(state.file), false);
});

test('without the tag an address is on disk before claim() returns', (t) => {
  const state = new State(t);
  const ownership = state.open();
  assert.equal(ownership.isOurs(X), false);
  assert.equal(ownership.claim([X, Y]), undefined);
  assert.deepEqual(state.recorded(), ['2 192.0.2.10/32', '2 2001:db8::10/128']);
  assert.equal(statSync(state.file).mode & 0o777, 0o640);
  assert.equal(ownership.isOurs(X), true);
});

test('the record survives a restart of the process within a boot', (t) => {
  const state = new State(t);
  state.open().claim([X]);
  const restarted = state.open();
  assert.equal(restarted.isOurs(X), true);
  assert.equal(restarted.isOurs(Y), false);
  restarted.removed([X]);
  assert.equal(state.open().isOurs(X), false);
});

test('an address is known by its NIC and its prefix length too', (t) => {
  const ownership = new State(t).open();
  ownership.claim([X]);
  assert.equal(ownership.isOurs({ ...X, ifIndex: ETH1 }), false);
  assert.equal(ownership.isOurs({ ...X, prefixLength: 24 }), false);
});

test('the record of another boot counts for nothing', (t) => {
  const state = new State(t);
  state.open().claim([X]);
  const parsed = JSON.parse(readFileSync(state.file, 'utf8'));
  writeFileSync(state.file, JSON.stringify({ ...parsed, bootId: 'another' }));
  const ownership = state.open();
  assert.equal(ownership.isOurs(X), false);
  ownership.claim([Y]);
  assert.deepEqual(state.recorded(), ['2 2001:db8::10/128']);
});

for (const [what, text] of [
  ['empty', ''],
  ['torn', '{"version":1,"bootId":"'],
  ['of another shape', '[1,2,3]'],
  ['null', 'null'],
  ['without addresses', '{"version":1,"bootId":"x"}'],
  ['with addresses that are none', '{"version":1,"bootId":"x","addresses":[1]}'],
  ['binary', '\0\x01\x02'],
  ['far too long', ' '.repeat((4 << 20) + 1)],
] as const) {
  test(`a file that is ${what} is no record, and is replaced`, (t) => {
    const state = new State(t);
    writeFileSync(state.file, text);
    const ownership = state.open();
    assert.equal(ownership.isOurs(X), false);
    assert.equal(ownership.claim([X]), undefined);
    assert.equal(state.open().isOurs(X), true);
  });
}

/** A full disk, for every user: the file to be written is a directory. */
function block(state: State): void {
  mkdirSync(`${state.file}.new`);
}

test('claim() says why addresses must not be added when they cannot be recorded', (t) => {
  const state = new State(t);
  block(state);
  const ownership = state.open();
  const reason = ownership.claim([X]);
  assert.match(
    reason ?? '',
    /^cannot record lbd's addresses in ".*addresses\.json", which this kernel \(.*\) needs: EISDIR/,
  );
  assert.equal(ownership.isOurs(X), false);
});

test('claim() says so each time as long as it holds, and records when it can again', (t) => {
  const state = new State(t);
  block(state);
  const ownership = state.open();
  assert.notEqual(ownership.claim([X]), undefined);
  assert.notEqual(ownership.claim([X]), undefined);
  rmSync(`${state.file}.new`, { recursive: true });
  assert.equal(ownership.claim([X]), undefined);
  assert.deepEqual(state.recorded(), ['2 192.0.2.10/32']);
});

test('a claim that cannot be recorded takes nothing from what is', (t) => {
  const state = new State(t);
  const ownership = state.open();
  ownership.claim([X]);
  block(state);
  assert.notEqual(ownership.claim([X, Y]), undefined);
  assert.equal(ownership.isOurs(X), true);
  assert.equal(ownership.claim([X]), undefined);
  assert.deepEqual(state.recorded(), ['2 192.0.2.10/32']);
});

test('a directory that is gone is a reason too', (t) => {
  const state = new State(t);
  rmSync(state.directory, { recursive: true });
  assert.match(state.open().claim([X]) ?? '', /ENOENT/);
});

test('a record that cannot be taken back is logged, and taken back with the next that can', (t) => {
  const state = new State(t);
  const ownership = state.open();
  ownership.claim([X]);
  block(state);
  ownership.removed([X]);
  assert.deepEqual(state.warnings, ['address.record-failed']);
  assert.equal(ownership.isOurs(X), false);
  rmSync(`${state.file}.new`, { recursive: true });
  ownership.claim([Y]);
  assert.deepEqual(state.recorded(), ['2 2001:db8::10/128']);
});

test('an address that the kernel refused is not ours: what is in its place is somebody else’s', (t) => {
  const state = new State(t);
  const ownership = state.open();
  ownership.claim([X]);
  ownership.refused([X]);
  assert.equal(ownership.isOurs(X), false);
  assert.equal(state.open().isOurs(X), false);
});

test('an address that the kernel refused because it is there already stays ours if it was', (t) => {
  const ownership = new State(t).open();
  ownership.claim([X]);
  ownership.present([X]);
  ownership.claim([X]);
  ownership.refused([X]);
  assert.equal(ownership.isOurs(X), true);
});

test('an address that is gone is ours no more', (t) => {
  const state = new State(t);
  const ownership = state.open();
  ownership.claim([X]);
  ownership.present([X]);
  ownership.absent([X]);
  assert.equal(ownership.isOurs(X), false);
  assert.equal(state.open().isOurs(X), false);
});

test('an absence told while the address is on its way to the kernel is an earlier one', (t) => {
  const ownership = new State(t).open();
  ownership.claim([X]);
  ownership.present([X]);
  ownership.removed([X]);
  ownership.claim([X]);
  ownership.absent([X]);
  assert.equal(ownership.isOurs(X), true);
  ownership.present([X]);
  ownership.absent([X]);
  assert.equal(ownership.isOurs(X), false);
});

test('a renewal that is under way keeps an address that its removal by hand would lose', (t) => {
  const ownership = new State(t).open();
  ownership.claim([X]);
  ownership.present([X]);
  ownership.claim([X]);
  ownership.absent([X]);
  assert.equal(ownership.isOurs(X), true);
});

test('what expired while lbd was away is forgotten at start: whoever adds it later is somebody else', (t) => {
  const state = new State(t);
  state.open().claim([X, Y]);
  const restarted = state.open();
  restarted.forgetAllBut([Y]);
  assert.equal(restarted.isOurs(X), false);
  assert.equal(restarted.isOurs(Y), true);
  assert.deepEqual(state.recorded(), ['2 2001:db8::10/128']);
});
