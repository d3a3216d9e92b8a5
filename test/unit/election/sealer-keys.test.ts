import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { keyText, loadKeys, newKey, parseKeys } from '../../../src/election/io/key-ring.ts';

const directory = mkdtempSync(join(tmpdir(), 'lbd-keys-'));
after(() => rmSync(directory, { recursive: true }));

function write(text: string, mode: number): string {
  const file = join(directory, 'gossip.keys');
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

test('parseKeys() reads keys in their order, and neither comments nor white space', () => {
  const [one, two] = [newKey(), newKey()];
  const parsed = parseKeys(`# cluster one\n\n ${keyText(one)}  # first\r\n${keyText(two)}\n`);
  assert.ok(parsed.ok);
  assert.deepEqual(
    parsed.value.map(({ id }) => id),
    [one.id, two.id],
  );
  assert.notEqual(one.id, two.id);
});

test('parseKeys() says which line is no key, without telling what it has', () => {
  const key = keyText(newKey());
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /expected at least one key, got none/],
    ['# nothing\n', /expected at least one key, got none/],
    [`${key}\nc2hvcnQ=\n`, /^line 2: expected a key of 32 bytes in base64, got 8 characters/],
    [`${key.slice(0, -1)}`, /^line 1: expected a key of 32 bytes/],
    [`${key} ${key}`, /^line 1: expected a key of 32 bytes/],
    [`${key}\n${key}`, /^line 2: expected each key once/],
    [Array.from({ length: 9 }, () => keyText(newKey())).join('\n'), /at most 8 keys, got 9/],
  ];
  for (const [text, expected] of cases) {
    const parsed = parseKeys(text);
    assert.ok(!parsed.ok, text);
    assert.match(parsed.error, expected);
    assert.ok(!parsed.error.includes(key));
  }
});

test('loadKeys() takes what owner and group can read', () => {
  const key = newKey();
  for (const mode of [0o400, 0o600, 0o640, 0o440]) {
    assert.deepEqual(
      loadKeys(write(`${keyText(key)}\n`, mode)).map(({ id }) => id),
      [key.id],
    );
    chmodSync(join(directory, 'gossip.keys'), 0o600);
  }
});

test('loadKeys() refuses a file that others can read or the group can write, and names the mode', () => {
  for (const mode of [0o644, 0o604, 0o660, 0o666, 0o641]) {
    const file = write(`${keyText(newKey())}\n`, mode);
    const shown = `got mode 0${mode.toString(8)}`;
    assert.throws(
      () => loadKeys(file),
      (error: Error) => error.message.startsWith(`${file}: `) && error.message.includes(shown),
    );
  }
});

test('loadKeys() says what to do about a file that is none', () => {
  assert.throws(() => loadKeys(join(directory, 'absent')), /got none \(ENOENT\); make one by "lbctl keygen/);
  assert.throws(() => loadKeys(directory), /expected a file/);
  assert.throws(() => loadKeys(write('x'.repeat(5_000), 0o600)), /at most 4096 bytes/);
});
