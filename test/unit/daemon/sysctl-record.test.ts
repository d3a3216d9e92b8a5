import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadSysctlsBefore, saveSysctlsBefore } from '../../../src/daemon/sysctl-record.ts';
import { type Logger, SILENT_LOGGER } from '../../../src/lib/logger.ts';

const BEFORE = new Map([
  ['net.ipv4.conf.eth0.arp_ignore', '0'],
  ['net.ipv4.conf.br.100.arp_announce', '1'],
]);

function stateDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-sysctls-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test('what was saved is loaded by the next run', (t) => {
  const directory = stateDirectory(t);
  saveSysctlsBefore(directory, BEFORE, SILENT_LOGGER);
  assert.deepEqual(loadSysctlsBefore(directory), BEFORE);
  assert.equal(statSync(join(directory, 'sysctls.json')).mode & 0o777, 0o640);
  saveSysctlsBefore(directory, new Map(), SILENT_LOGGER);
  assert.deepEqual(loadSysctlsBefore(directory), new Map());
});

test('without a record the history is empty', (t) => {
  assert.deepEqual(loadSysctlsBefore(stateDirectory(t)), new Map());
});

for (const [what, text] of [
  ['torn', '{"net.ipv4'],
  ['null', 'null'],
  ['a number', '7'],
  ['of values that are no texts', '{"net.ipv4.conf.eth0.arp_ignore": 0, "b": {}}'],
  ['far too long', ' '.repeat((1 << 20) + 1)],
] as const) {
  test(`a record that is ${what} is none`, (t) => {
    const directory = stateDirectory(t);
    writeFileSync(join(directory, 'sysctls.json'), text);
    assert.deepEqual(loadSysctlsBefore(directory), new Map());
  });
}

test('a record that cannot be written is logged, and the old one stays', (t) => {
  const directory = stateDirectory(t);
  const warnings: string[] = [];
  const logger: Logger = { ...SILENT_LOGGER, warn: (_fields, event) => void warnings.push(event) };
  saveSysctlsBefore(directory, BEFORE, logger);
  mkdirSync(join(directory, 'sysctls.json.new'));
  saveSysctlsBefore(directory, new Map(), logger);
  assert.deepEqual(warnings, ['state.write-failed']);
  assert.deepEqual(loadSysctlsBefore(directory), BEFORE);
  assert.ok(readdirSync(directory).includes('sysctls.json'));
});
