import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseJobs } from '../../../src/sys/systemd-jobs.ts';

test('parseJobs() gives the types of the jobs of the unit alone', () => {
  const listing = [
    '1234 lbd.service restart running',
    '   7 lbd.service verify-active waiting',
    '1240 lbd.service.mount stop waiting',
    '1241 other.service stop waiting',
    '',
  ].join('\n');
  assert.deepEqual(parseJobs(listing, 'lbd.service'), ['restart', 'verify-active']);
});

test('parseJobs() finds no job in the words for none', () => {
  for (const text of ['', '\n', 'No jobs running.\n', 'No jobs listed.\n\n0 jobs listed.\n']) {
    assert.deepEqual(parseJobs(text, 'lbd.service'), [], text);
  }
});
