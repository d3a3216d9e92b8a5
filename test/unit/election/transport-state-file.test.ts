import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseState, StateFile, stateText } from '../../../src/election/io/state-file.ts';
import type { MemberName, PersistentState } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';

const root = mkdtempSync(join(tmpdir(), 'lbd-gossip-state-'));
after(() => rmSync(root, { recursive: true }));

const STATE: PersistentState = {
  incarnation: 12,
  memberCount: 3,
  peers: [
    { ip: '192.0.2.1' as Ip, port: 7946 },
    { ip: '2001:db8::1' as Ip, port: 7946 },
  ],
  claims: [
    { ip: '192.0.2.100' as Ip, owner: 'alice' as MemberName, epoch: 4 },
    { ip: '2001:db8::100' as Ip, owner: undefined, epoch: 9 },
  ],
};

let count = 0;

function stateFile(state: () => PersistentState = () => STATE): {
  file: StateFile;
  directory: string;
  path: string;
  logged: string[];
} {
  const directory = join(root, `state-${count++}`);
  const logged: string[] = [];
  const log = (_fields: object, event: string): void => void logged.push(event);
  const logger = { ...SILENT_LOGGER, warn: log, error: log, info: log };
  return {
    file: new StateFile({ directory, state, logger }),
    directory,
    path: join(directory, 'gossip.json'),
    logged,
  };
}

test('StateFile gives back what it wrote, in a file that others cannot read', async () => {
  const { file, directory, path } = stateFile();
  assert.equal(file.load(), undefined);
  file.changed();
  await file.close();
  assert.deepEqual(file.load(), STATE);
  assert.deepEqual(readdirSync(directory), ['gossip.json']);
  assert.equal(statSync(path).mode & 0o777, 0o640);
});

test('StateFile writes once for many changes, and the latest', async () => {
  let incarnation = 1;
  const { file, path } = stateFile(() => ({ ...STATE, incarnation }));
  for (; incarnation < 100; incarnation++) file.changed();
  await file.close();
  assert.equal(parseState(readFileSync(path, 'utf8')).incarnation, 100);
});

test('StateFile.load() takes nothing from a file that is none, and says so', () => {
  const { file, directory, path, logged } = stateFile();
  mkdirSync(directory);
  const garbage = ['', '{', 'null', '[]', '{"format":2}', '{"format":1}', '{"format":1,"incarnation":-1}'];
  for (const text of garbage) {
    writeFileSync(path, text);
    assert.equal(file.load(), undefined, text);
  }
  assert.deepEqual(
    logged,
    garbage.map(() => 'gossip.state.ignored'),
  );
});

test('StateFile reports a directory that cannot be written once, and neither throws nor rejects', async () => {
  const { file, directory, logged } = stateFile();
  writeFileSync(directory, 'a file where the directory should be');
  file.changed();
  await file.close();
  file.changed();
  await file.close();
  assert.match(file.problem ?? '', /^cannot write .*gossip\.json: /);
  assert.deepEqual(logged, ['gossip.state.failed']);
  rmSync(directory);
  await file.close();
  assert.equal(file.problem, undefined);
  assert.deepEqual(file.load(), STATE);
});

test('parseState() leaves out entries that are none', () => {
  const document = JSON.parse(stateText(STATE)) as { peers: unknown[]; claims: unknown[] };
  document.peers.push(['192.0.2.300', 7946], ['192.0.2.3', 0], ['192.0.2.3'], 'x', null);
  document.claims.push(
    ['192.0.2.101', 'a b', 1],
    ['192.0.2.101', 'x'.repeat(64), 1],
    ['192.0.2.101', 'alice', 0],
    ['192.0.2.101', 'alice', 1.5],
    [1, 2, 3],
    {},
  );
  assert.deepEqual(parseState(JSON.stringify(document)), STATE);
});
