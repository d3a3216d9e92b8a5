import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReportLog } from '../../../src/daemon/report-log.ts';
import type { NamedReport } from '../../../src/iface/io/local-driver.ts';
import type { IfIndex } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';

const ABOUT = { ip: '192.0.2.10' as Ip, ifIndex: 2 as IfIndex };
const NAMED = { interface: 'eth0', services: ['default/web'] };
const HELD: NamedReport = { report: { kind: 'held', ...ABOUT, how: 'taken' }, ...NAMED };
const LOST: NamedReport = { report: { kind: 'lost', ...ABOUT }, ...NAMED };

test('a line has its level by its kind, and names', () => {
  const lines: unknown[] = [];
  const note = (level: string) => (fields: object, event: string) => void lines.push([level, event, fields]);
  const log = new ReportLog({ ...SILENT_LOGGER, info: note('info'), warn: note('warn') });
  log.write(HELD, undefined);
  log.write({ ...LOST, by: 'ip (pid 7)' }, undefined);
  log.write(LOST, 'h2');
  assert.deepEqual(lines, [
    ['info', 'address.held', { ...ABOUT, how: 'taken', ...NAMED }],
    ['warn', 'address.lost', { ...ABOUT, ...NAMED, by: 'ip (pid 7)' }],
    ['info', 'address.lost', { ...ABOUT, member: 'h2', ...NAMED }],
  ]);
});

test('beyond a burst, lines are counted by kind and told in one', () => {
  const lines: string[] = [];
  const logger = {
    ...SILENT_LOGGER,
    info: (_: object, event: string) => void lines.push(event),
    warn: (fields: object, event: string) => void lines.push(`${event} ${JSON.stringify(fields)}`),
  };
  const log = new ReportLog(logger);
  for (let count = 0; count < 30_000; count++) log.write(count % 3 === 0 ? LOST : HELD, undefined);
  // A little over the burst, as time passes meanwhile.
  const told = lines.length;
  assert.ok(told >= 10_000 && told < 20_000, `${told} lines`);
  log.close();
  assert.equal(lines.length, told + 1);
  const { counts } = JSON.parse(lines.at(-1)?.replace('address.more ', '') ?? '{}');
  assert.equal(counts['address.held'] + counts['address.lost'] + told, 30_000);
  assert.ok(counts['address.held'] > counts['address.lost']);
  log.close();
  assert.equal(lines.length, told + 1, 'and nothing twice');
});
