import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import * as constants from '../../../src/sys/constants.ts';

const HEADERS = [
  'sys/socket.h',
  'netinet/in.h',
  'netinet/tcp.h',
  'linux/netlink.h',
  'linux/if_ether.h',
  'linux/if_packet.h',
  'linux/icmpv6.h',
];

const compiler = process.env['CC'] ?? 'cc';
const skip = spawnSync(compiler, ['--version']).status === 0 ? false : `no C compiler "${compiler}"`;

describe('constants', { skip }, () => {
  it('each has the value of the system headers', () => {
    const names = Object.entries(constants);
    assert.ok(names.length > 50);
    const source = [
      ...HEADERS.map((header) => `#include <${header}>`),
      ...names.map(([name, value]) => `_Static_assert(${name} == ${value}, "${name} is not ${value}");`),
    ].join('\n');
    const result = spawnSync(compiler, ['-D_GNU_SOURCE', '-fsyntax-only', '-x', 'c', '-'], {
      input: source,
      encoding: 'utf8',
    });
    assert.equal(result.status, 0, result.stderr);
  });
});
