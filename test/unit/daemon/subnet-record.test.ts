import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Remembered, SubnetRecord } from '../../../src/daemon/subnet-record.ts';
import { formatPrefix, parsePrefix } from '../../../src/lib/ip.ts';
import type { Instant } from '../../../src/lib/time.ts';
import { waitFor } from '../../support/wait.ts';

function at(ms: number): Instant {
  return ms as Instant;
}

function subnet(text: string): Remembered['subnets'][number]['subnet'] {
  const parsed = parsePrefix(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

function setUp(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-subnets-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'subnets.json');
  const warnings: string[] = [];
  const note = (_fields: object, event: string) => void warnings.push(event);
  const logger = { debug() {}, info() {}, warn: note, error: note };
  let wallMs = 1_700_000_000_000;
  const record = () => new SubnetRecord({ directory, logger, wallClock: () => wallMs });
  const text = () => {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return '';
    }
  };
  const passMs = (ms: number) => {
    wallMs += ms;
  };
  return { directory, file, warnings, record, text, passMs };
}

const REMEMBERED: Remembered = {
  subnets: [
    { subnet: subnet('10.0.0.0/24'), goneAt: undefined },
    { subnet: subnet('fd00::/64'), goneAt: at(40_000) },
  ],
  nics: ['eth0'],
};

test('load() gives what save() was given, and what had gone as long ago as it is by now', async (t) => {
  const { record, text, warnings, passMs } = setUp(t);
  record().save(REMEMBERED, at(50_000));
  await waitFor(() => text() !== '', { describe: 'the file' });
  // The host was off for a minute, and its own clock began anew.
  passMs(60_000);
  const { subnets, nics } = record().load(at(5_000));
  assert.deepEqual(nics, ['eth0']);
  assert.deepEqual(
    subnets.map(({ subnet: prefix, goneAt }) => [formatPrefix(prefix), goneAt]),
    [
      ['10.0.0.0/24', undefined],
      ['fd00::/64', 5_000 - 60_000 - 10_000],
    ],
  );
  assert.deepEqual(warnings, []);
});

test('save() writes what is new, and nothing else', async (t) => {
  const { record, file, text } = setUp(t);
  const one = record();
  one.save(REMEMBERED, at(50_000));
  await waitFor(() => text() !== '', { describe: 'the file' });
  rmSync(file);
  one.save(REMEMBERED, at(60_000));
  assert.equal(text(), '');
  await waitFor(
    () => {
      one.save({ ...REMEMBERED, nics: [] }, at(70_000));
      return text() !== '';
    },
    { describe: 'the new file' },
  );
});

test('load() gives nothing of a file that is none of lbd’s, and says so; an absent one is no news', (t) => {
  const { record, file, warnings } = setUp(t);
  assert.deepEqual(record().load(at(0)), { subnets: [], nics: [] });
  assert.deepEqual(warnings, []);
  for (const text of ['', '[]', 'null', '{"format":2}', 'x'.repeat(2 << 20)]) {
    writeFileSync(file, text);
    assert.deepEqual(record().load(at(0)), { subnets: [], nics: [] }, text.slice(0, 20));
  }
  assert.equal(warnings.length, 5);
});

test('load() leaves out what is no subnet and no name of a NIC', (t) => {
  const { record, file } = setUp(t);
  const subnets = [['10.0.0.0/24', null], ['10.0.0.0/33', null], 7, ['fd00::/64', 'soon'], [null]];
  writeFileSync(
    file,
    JSON.stringify({ format: 1, subnets, nics: ['eth0', '../all', '', 7, 'abcdefghijklmnop'] }),
  );
  const { subnets: found, nics } = record().load(at(0));
  assert.deepEqual(
    found.map((each) => formatPrefix(each.subnet)),
    ['10.0.0.0/24', 'fd00::/64'],
  );
  assert.deepEqual(nics, ['eth0']);
});

test('save() tells once that it cannot write, and writes when it can', async (t) => {
  const { directory, record, text, warnings } = setUp(t);
  rmSync(directory, { recursive: true });
  const one = record();
  one.save(REMEMBERED, at(0));
  await waitFor(() => warnings.length > 0, { describe: 'the failure' });
  assert.deepEqual(warnings, ['state.write-failed']);
  mkdirSync(directory);
  await waitFor(
    () => {
      one.save(REMEMBERED, at(0));
      return text() !== '';
    },
    { describe: 'the file' },
  );
  assert.deepEqual(warnings, ['state.write-failed']);
});
