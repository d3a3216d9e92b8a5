import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..', '..');
const addon = join(root, 'build', 'native-asan', 'lbd_sys.node');

/** Where gcc keeps its AddressSanitizer, undefined when it has none. */
function findSanitizer(): string | undefined {
  const found = spawnSync(process.env['CC'] ?? 'cc', ['-print-file-name=libasan.so'], { encoding: 'utf8' });
  const path = found.stdout?.trim() ?? '';
  return path.startsWith('/') && existsSync(path) ? path : undefined;
}

const sanitizer = findSanitizer();
const skip = sanitizer === undefined ? 'the C compiler has no libasan (Debian: libgcc-12-dev)' : false;

describe('the addon under AddressSanitizer and UndefinedBehaviorSanitizer', { skip }, () => {
  const files = [
    'socket-errors.test.ts',
    'socket-receive.test.ts',
    'socket-send.test.ts',
    'socket-lifetime.test.ts',
    'socket-packet.test.ts',
    'native-arguments.test.ts',
  ];

  for (const file of files) {
    it(`${file} passes without a report`, () => {
      const built = spawnSync(process.execPath, [join(root, 'scripts', 'build-native.mjs'), '--sanitize'], {
        encoding: 'utf8',
      });
      assert.equal(built.status, 0, built.stderr);
      // Without the runner around it: its child processes would be instrumented, not only this one.
      const environment = { ...process.env };
      delete environment['NODE_TEST_CONTEXT'];
      const run = spawnSync(process.execPath, [join(here, file)], {
        encoding: 'utf8',
        timeout: 300_000,
        env: {
          ...environment,
          LBD_TEST_ADDON: addon,
          LD_PRELOAD: sanitizer,
          ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=0:allocator_may_return_null=1',
          UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
        },
      });
      const output = `${run.stdout}\n${run.stderr}`;
      assert.doesNotMatch(output, /ERROR: AddressSanitizer|runtime error:/);
      assert.equal(run.status, 0, output.slice(-4000));
      assert.match(output, /pass \d+/);
    });
  }
});
