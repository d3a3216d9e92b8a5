import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LbdError } from '../../../src/lib/errors.ts';
import { AF_UNIX, SOCK_DGRAM } from '../../../src/sys/constants.ts';
import { ServiceNotifier, watchdogIntervalMs } from '../../../src/sys/sd-notify.ts';
import { RawSocket } from '../../../src/sys/socket.ts';
import { receive, uniqueName, unixAddress } from './support.ts';

/** The service manager's end. */
function manager(path: string): RawSocket {
  const socket = new RawSocket(AF_UNIX, SOCK_DGRAM);
  socket.bind(unixAddress(path));
  return socket;
}

async function messages(socket: RawSocket, count: number): Promise<string[]> {
  const datagrams = await receive(socket, count);
  return datagrams.map((datagram) => new TextDecoder().decode(datagram.bytes));
}

const failTest = (error: unknown): void => {
  throw error;
};

describe('ServiceNotifier', () => {
  it('sends each message as one datagram to an abstract NOTIFY_SOCKET', async () => {
    const path = uniqueName();
    const socket = manager(path);
    const notifier = new ServiceNotifier({ NOTIFY_SOCKET: path }, failTest);
    const beforeUs = process.hrtime.bigint() / 1000n;
    notifier.ready();
    notifier.status('serving 3 addresses\nof 4');
    notifier.watchdog();
    notifier.reloading();
    notifier.stopping();
    const [ready, status, watchdog, reloading, stopping] = await messages(socket, 5);
    assert.equal(ready, 'READY=1');
    assert.equal(status, 'STATUS=serving 3 addresses of 4');
    assert.equal(watchdog, 'WATCHDOG=1');
    assert.equal(stopping, 'STOPPING=1');
    assert.match(reloading ?? '', /^RELOADING=1\nMONOTONIC_USEC=\d+$/);
    const atUs = BigInt((reloading ?? '').split('=')[2] ?? '');
    assert.ok(atUs >= beforeUs && atUs <= process.hrtime.bigint() / 1000n);
    notifier.close();
    socket.close();
  });

  it('sends to a path as well', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lbd-notify-'));
    const path = join(directory, 'notify');
    const socket = manager(path);
    const notifier = new ServiceNotifier({ NOTIFY_SOCKET: path }, failTest);
    notifier.ready();
    assert.deepEqual(await messages(socket, 1), ['READY=1']);
    notifier.close();
    socket.close();
    rmSync(directory, { recursive: true });
  });

  it('keeps messages while the manager does not read, in order, at most 32 of them', async () => {
    const path = uniqueName();
    const socket = manager(path);
    // The receiver's queue may be hundreds long (net.unix.max_dgram_qlen): fill it with what is not counted.
    const filler = new RawSocket(AF_UNIX, SOCK_DGRAM);
    filler.connect(unixAddress(path));
    let queued = 0;
    while (filler.send(Uint8Array.of(0x2e)) === 'sent') queued++;
    const notifier = new ServiceNotifier({ NOTIFY_SOCKET: path }, failTest);
    for (let index = 0; index < 40; index++) notifier.status(`${index}`);
    const received = await messages(socket, queued + 32);
    assert.deepEqual(
      received.slice(queued),
      Array.from({ length: 32 }, (_, index) => `STATUS=${index + 8}`),
    );
    notifier.ready();
    assert.deepEqual(await messages(socket, 1), ['READY=1'], 'nothing more was pending');
    for (const each of [notifier, filler, socket]) each.close();
  });

  it('does nothing without NOTIFY_SOCKET', () => {
    const notifier = new ServiceNotifier({}, failTest);
    notifier.ready();
    notifier.close();
  });

  it('reports a manager that went away to onError and does not throw', () => {
    const path = uniqueName();
    const socket = manager(path);
    const errors: unknown[] = [];
    const notifier = new ServiceNotifier({ NOTIFY_SOCKET: path }, (error) => errors.push(error));
    socket.close();
    notifier.ready();
    assert.equal(errors.length, 1);
    assert.match(String(errors[0]), /ECONNREFUSED/);
    notifier.close();
  });

  it('refuses a NOTIFY_SOCKET that is no address, or where nobody listens, naming it', () => {
    for (const path of ['relative', 'vsock:2:1', `@${'x'.repeat(200)}`, uniqueName()]) {
      assert.throws(
        () => new ServiceNotifier({ NOTIFY_SOCKET: path }, failTest),
        (error) =>
          error instanceof LbdError &&
          error.code === 'notify.unreachable' &&
          error.message.includes(`"${path}"`),
      );
    }
  });
});

describe('watchdogIntervalMs()', () => {
  it('is half of WATCHDOG_USEC, when this process is meant', () => {
    assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: '30000000' }), 15_000);
    assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '12' }, 12), 15_000);
    assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '13' }, 12), undefined);
    for (const value of [undefined, '', '0', '-1', 'soon', '1.5']) {
      assert.equal(watchdogIntervalMs({ WATCHDOG_USEC: value }), undefined);
    }
  });
});
