import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { AF_UNIX, SOCK_DGRAM } from '../../../src/sys/constants.ts';
import type { SocketHandle } from '../../../src/sys/native.ts';
import { isSystemError } from '../../../src/sys/system-error.ts';
import { native, nextLoopRound, openDescriptors, uniqueName, unixAddress } from './support.ts';

type AnyFunction = (...values: unknown[]) => unknown;

const RUNS = 2000;

/** The addon without its types: what JavaScript, or a mistake, can call it with. */
const untyped = native as unknown as Readonly<Record<string, AnyFunction>>;
const functions: Readonly<Record<string, AnyFunction>> = { ...untyped };

function openUnix(): SocketHandle {
  return native.openSocket(AF_UNIX, SOCK_DGRAM, 0);
}

/** Values that come near to what is expected, so that checks behind the first are reached as well. */
const nearMiss: fc.Arbitrary<unknown> = fc.oneof(
  fc.anything({
    withBigInt: true,
    withDate: true,
    withMap: true,
    withTypedArray: true,
    withSparseArray: true,
  }),
  fc.integer(),
  fc.double(),
  fc.uint8Array({ maxLength: 140 }),
  fc.array(
    fc.record({ bytes: fc.uint8Array({ maxLength: 40 }), address: fc.uint8Array({ maxLength: 140 }) }),
  ),
  fc.constantFrom<unknown>(
    new Uint8Array(new SharedArrayBuffer(16)),
    new DataView(new ArrayBuffer(8)),
    new Proxy(new Uint8Array(4), {}),
    new Proxy({}, { get: () => assert.fail('a getter that throws') }),
    detached(),
    new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 })),
    Symbol('symbol'),
    () => undefined,
    class {},
    Object.create(null),
    undefined,
  ),
);

function detached(): Uint8Array {
  const bytes = new Uint8Array(8);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** What a refused call may throw: nothing else tells the caller what is wrong. */
function assertRefusal(name: string, error: unknown): void {
  const fromGetter = error instanceof assert.AssertionError && error.message === 'a getter that throws';
  assert.ok(
    error instanceof TypeError || isSystemError(error) || fromGetter,
    `${name} threw ${String(error)}`,
  );
}

/** `openSocket` of random numbers may succeed; what it opened must not stay. */
function callAndTidy(name: string, values: readonly unknown[]): void {
  try {
    const result = functions[name]?.(...values);
    if (name === 'openSocket') native.close(result as SocketHandle);
  } catch (error) {
    assertRefusal(name, error);
  }
}

// Random bytes given to bind() may be the path of a unix socket: such a file must not land in the source tree.
const directory = mkdtempSync(join(tmpdir(), 'lbd-arguments-'));
const startedIn = process.cwd();
process.chdir(directory);
after(() => {
  process.chdir(startedIn);
  rmSync(directory, { recursive: true });
});

describe('arguments of every function of the addon', () => {
  // Their first argument may be a descriptor of the test runner itself: they have a test of their own.
  const byDescriptor = ['setSocketOptionOnFd', 'getSocketOptionOnFd'];

  for (const name of Object.keys(functions).filter((each) => !byDescriptor.includes(each))) {
    it(`${name}() refuses garbage in any place with a TypeError or an errno`, async () => {
      await nextLoopRound();
      const before = openDescriptors();
      fc.assert(
        fc.property(fc.array(nearMiss, { maxLength: 7 }), (values) => callAndTidy(name, values)),
        { numRuns: RUNS },
      );
      assert.equal(openDescriptors(), before);
    });

    it(`${name}() refuses garbage after a good handle`, async () => {
      await nextLoopRound();
      const before = openDescriptors();
      fc.assert(
        fc.property(fc.array(nearMiss, { maxLength: 6 }), (values) => {
          const handle = openUnix();
          try {
            // release() gives the descriptor away as its result; here nobody takes it.
            if (name !== 'release') callAndTidy(name, [handle, ...values]);
          } finally {
            native.close(handle);
          }
        }),
        { numRuns: RUNS },
      );
      await nextLoopRound();
      assert.equal(openDescriptors(), before);
    });
  }

  for (const name of byDescriptor) {
    it(`${name}() refuses garbage, and descriptors that are no sockets`, () => {
      fc.assert(
        fc.property(fc.integer({ min: 100_000 }), fc.array(nearMiss, { maxLength: 6 }), (fd, values) =>
          callAndTidy(name, [fd, ...values]),
        ),
        { numRuns: RUNS },
      );
      for (const fd of [-1, 1.5, Number.NaN, 2 ** 31, '1', null, undefined, {}, 1n]) {
        assert.throws(() => functions[name]?.(fd, 1, 2, new Uint8Array(4)), TypeError);
      }
    });
  }

  it('handles that look like a socket are refused: copies, heirs, proxies, plain objects', () => {
    const handle = openUnix();
    for (const impostor of [
      {},
      { ...handle },
      Object.create(handle),
      new Proxy(handle, {}),
      [],
      () => handle,
    ]) {
      assert.throws(() => functions['close']?.(impostor), /handle: expected a socket from openSocket\(\)/);
    }
    native.close(handle);
  });

  it('getsockopt() of every option of every level stays within the buffer it was given', () => {
    const handle = openUnix();
    for (const level of [0, 1, 6, 17, 41, 58, 263, 270]) {
      for (let option = 0; option < 128; option++) {
        for (const length of [1, 4, 64]) {
          try {
            assert.ok(native.getsockopt(handle, level, option, length).length <= length);
          } catch (error) {
            assertRefusal('getsockopt', error);
          }
        }
      }
    }
    native.close(handle);
  });

  it('address lengths from 0 to 200 bytes are refused or taken, never read past', () => {
    const address = unixAddress(uniqueName());
    for (let length = 0; length <= 200; length++) {
      const handle = openUnix();
      const bytes = new Uint8Array(length);
      bytes.set(address.subarray(0, Math.min(length, address.length)));
      try {
        native.bind(handle, bytes);
      } catch (error) {
        assertRefusal('bind', error);
      }
      native.close(handle);
    }
  });

  it('limits name what they expect', () => {
    const handle = openUnix();
    const refusals: readonly [() => unknown, RegExp][] = [
      [() => native.openSocket(2 ** 31, 1, 0), /domain: expected an integer in -2147483648\.\.2147483647/],
      [() => native.bind(handle, new Uint8Array(1)), /address: expected a sockaddr of 2\.\.128 bytes/],
      [() => native.getsockopt(handle, 1, 1, 65_537), /length: expected an integer in 1\.\.65536/],
      [() => native.setsockopt(handle, 1, 1, new Uint8Array(65_537)), /value: expected at most 65536 bytes/],
      [() => native.sendMany(handle, new Array(65_537)), /datagrams: expected at most 65536/],
      [() => native.pausePolling(handle, 2), /paused: expected an integer in 0\.\.1/],
      [() => functions['send']?.(handle, 'text', undefined, 0), /bytes: expected a Uint8Array/],
      [() => functions['startPolling']?.(handle, 1, 2, 3), /onEvent: expected a function/],
      [
        () =>
          native.startPolling(
            handle,
            () => {},
            () => {},
            1 << 20,
          ),
        /maxDatagramBytes: expected an integer in 0\.\./,
      ],
    ];
    for (const [call, message] of refusals) {
      assert.throws(call, (error) => error instanceof TypeError && message.test(error.message));
    }
    native.close(handle);
  });
});
