import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import net from 'node:net';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM } from '../../../src/sys/constants.ts';
import { sockaddrInet6 } from '../../../src/sys/sockaddr.ts';
import { RawSocket } from '../../../src/sys/socket.ts';
import { listener, nextLoopRound, openDescriptors, receive, unixPair } from './support.ts';

const LOOPBACK = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const SUPPORT = new URL('./support.ts', import.meta.url).href;

/** Runs a program that has unixPair() and RawSocket at hand in a process of its own. */
function runProgram(source: string): { status: number | null; stdout: string; stderr: string } {
  const preamble = `import { unixPair } from '${SUPPORT}';\n`;
  const result = spawnSync(
    process.execPath,
    ['--input-type=module-typescript', '--eval', preamble + source],
    {
      encoding: 'utf8',
      timeout: 30_000,
    },
  );
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

describe('closing', () => {
  it('close() inside onDatagrams() ends the polling', async () => {
    const { receiver, sender, close } = unixPair();
    for (let sent = 0; sent < 3; sent++) sender.send(Uint8Array.of(sent));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let calls = 0;
    receiver.startPolling(
      {
        onDatagrams() {
          calls++;
          receiver.close();
          receiver.close();
          setImmediate(resolve);
        },
        onError: reject,
        onThrow: reject,
      },
      { maxDatagramBytes: 1 },
    );
    await promise;
    await nextLoopRound();
    assert.equal(calls, 1);
    close();
  });

  it('close() inside a callback that then throws is safe, and onThrow() is told', async () => {
    const { receiver, sender, close } = unixPair();
    const { promise, resolve } = Promise.withResolvers<unknown>();
    receiver.startPolling({
      onDatagrams() {
        receiver.close();
        throw new Error('thrown after close');
      },
      onThrow: resolve,
    });
    sender.send(Uint8Array.of(1));
    assert.match(String(await promise), /thrown after close/);
    close();
  });

  it('stopPolling() and startPolling() inside a callback hand over to the new listener', async () => {
    const { receiver, sender, close } = unixPair();
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    receiver.startPolling({
      onDatagrams() {
        receiver.stopPolling();
        receiver.startPolling({ onDatagrams: ([datagram]) => resolve(datagram?.bytes[0]), onThrow: reject });
        sender.send(Uint8Array.of(2));
      },
      onThrow: reject,
    });
    sender.send(Uint8Array.of(1));
    assert.equal(await promise, 2);
    close();
  });

  it('a socket closed by the callback of another in the same wake is not touched again', async () => {
    const pairs = Array.from({ length: 8 }, () => unixPair());
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let calls = 0;
    for (const pair of pairs) {
      pair.sender.send(Uint8Array.of(1));
      pair.receiver.startPolling({
        onDatagrams() {
          calls++;
          for (const each of pairs) each.close();
          setImmediate(resolve);
        },
        onError: reject,
        onThrow: reject,
      });
    }
    await promise;
    await nextLoopRound();
    assert.equal(calls, 1);
  });

  it('a descriptor number that is used again at once belongs to the new socket', async () => {
    for (let round = 0; round < 50; round++) {
      const { receiver, sender, close } = unixPair();
      receiver.startPolling(listener({ onDatagrams: () => assert.fail('nothing was sent') }));
      receiver.close();
      const again = unixPair();
      again.sender.send(Uint8Array.of(round));
      const [datagram] = await receive(again.receiver, 1);
      assert.equal(datagram?.bytes[0], round);
      again.close();
      sender.close();
      close();
    }
  });

  it('thousands of sockets opened, polled and closed leave no descriptor', async () => {
    await nextLoopRound();
    const before = openDescriptors();
    for (let round = 0; round < 2000; round++) {
      const { receiver, sender, close } = unixPair();
      receiver.startPolling(listener({}));
      sender.send(Uint8Array.of(1));
      if (round % 2 === 0) receiver.stopPolling();
      if (round % 100 === 0) await nextLoopRound();
      close();
    }
    await nextLoopRound();
    assert.equal(openDescriptors(), before);
  });

  it('a socket that is forgotten is closed when it is collected, one that is polled is not', async () => {
    const { receiver, sender } = unixPair();
    const stillPolled = receive(receiver, 1);
    const before = openDescriptors();
    const program = runProgram(`
      import { readdirSync } from 'node:fs';
      import { setFlagsFromString } from 'node:v8';
      import { runInNewContext } from 'node:vm';
      setFlagsFromString('--expose-gc');
      const gc = runInNewContext('gc');
      const count = () => readdirSync('/proc/self/fd').length;
      const before = count();
      const polled = unixPair();
      const arrived = new Promise((resolve, reject) =>
        polled.receiver.startPolling({ onDatagrams: resolve, onThrow: reject }),
      );
      const sender = polled.sender;
      for (let at = 0; at < 200; at++) unixPair();
      for (let round = 0; round < 20 && count() > before + 2; round++) {
        gc();
        await new Promise((resolve) => setImmediate(resolve));
      }
      sender.send(Uint8Array.of(9));
      await arrived;
      console.log(count() - before);
      process.exit(0);
    `);
    assert.equal(program.status, 0, program.stderr);
    assert.equal(program.stdout.trim(), '2', 'the polled pair only');
    sender.send(Uint8Array.of(1));
    await stillPolled;
    receiver.close();
    sender.close();
    assert.equal(openDescriptors(), before - 2);
  });

  it('release() gives the descriptor to Node, also while it was polled', async () => {
    const server = net.createServer((connection) => connection.end('hello'));
    server.listen(0, '::1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    const stream = new RawSocket(AF_INET6, SOCK_STREAM);
    stream.connect(sockaddrInet6(LOOPBACK, address.port));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    stream.startPolling({ onWritable: resolve, onError: reject, onThrow: reject }, { maxDatagramBytes: 0 });
    stream.watchWritable();
    await promise;
    const socket = new net.Socket({ fd: stream.release(), readable: true, writable: true });
    const [chunk] = await once(socket, 'data');
    assert.equal(String(chunk), 'hello');
    socket.destroy();
    server.close();
    await once(server, 'close');
    const unpolled = new RawSocket(AF_UNIX, SOCK_DGRAM);
    closeSync(unpolled.release());
  });
});

describe('callbacks that throw', () => {
  it('polling goes on, and onThrow() gets each exception', async () => {
    const { receiver, sender, close } = unixPair();
    const thrown: unknown[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    receiver.startPolling(
      {
        onDatagrams([datagram]) {
          throw new Error(`datagram ${datagram?.bytes[0]}`);
        },
        onThrow(error) {
          thrown.push(error);
          if (thrown.length < 3) sender.send(Uint8Array.of(thrown.length));
          else resolve();
        },
      },
      { maxDatagramBytes: 1 },
    );
    sender.send(Uint8Array.of(0));
    await promise;
    close();
    assert.deepEqual(
      thrown.map((error) => (error instanceof Error ? error.message : error)),
      ['datagram 0', 'datagram 1', 'datagram 2'],
    );
  });

  it('values that are no errors arrive as they were thrown', async () => {
    const { receiver, sender, close } = unixPair();
    const { promise, resolve } = Promise.withResolvers<unknown>();
    receiver.startPolling({
      onDatagrams() {
        throw undefined;
      },
      onThrow: resolve,
    });
    sender.send(Uint8Array.of(0));
    assert.equal(await promise, undefined);
    close();
  });

  it('promises and nextTick of a callback run before the next datagrams', async () => {
    const { receiver, sender, close } = unixPair();
    const order: string[] = [];
    sender.send(Uint8Array.of(1));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    receiver.startPolling({
      onDatagrams([datagram]) {
        order.push(`datagram ${datagram?.bytes[0]}`);
        process.nextTick(() => order.push('tick'));
        Promise.resolve().then(() => order.push('promise'));
        if (datagram?.bytes[0] === 1) sender.send(Uint8Array.of(2));
        else resolve();
      },
      onThrow: reject,
    });
    await promise;
    await nextLoopRound();
    close();
    assert.deepEqual(order, ['datagram 1', 'tick', 'promise', 'datagram 2', 'tick', 'promise']);
  });

  it('when onThrow() throws as well it is an uncaughtException, after which polling goes on', () => {
    const program = runProgram(`
      const { receiver, sender, close } = unixPair();
      let seen = 0;
      process.on('uncaughtException', (error) => {
        console.log('uncaught', error.message);
        if (++seen === 2) close();
        else sender.send(Uint8Array.of(2));
      });
      receiver.startPolling({
        onDatagrams() { throw new Error('first'); },
        onThrow(error) { throw new Error('second after ' + error.message); },
      });
      sender.send(Uint8Array.of(1));
    `);
    assert.equal(program.status, 0, program.stderr);
    assert.equal(program.stdout, 'uncaught second after first\nuncaught second after first\n');
  });

  it('without a handler for it the process ends as for any uncaught exception, with the stack', () => {
    const program = runProgram(`
      const { receiver, sender } = unixPair();
      receiver.startPolling({
        onDatagrams() { throw new Error('first'); },
        onThrow() { throw new Error('nobody handles this'); },
      });
      sender.send(Uint8Array.of(1));
    `);
    assert.equal(program.status, 1);
    assert.match(program.stderr, /Error: nobody handles this\n +at /);
  });

  it('process.exit() inside a callback exits with its status', () => {
    const program = runProgram(`
      const { receiver, sender } = unixPair();
      receiver.startPolling({ onDatagrams() { process.exit(42); }, onThrow() {} });
      sender.send(Uint8Array.of(1));
    `);
    assert.equal(program.status, 42, program.stderr);
  });
});

describe('the end of an environment', () => {
  const WORKER = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { unixPair } = await import(workerData.support);
    const pairs = Array.from({ length: 50 }, () => unixPair());
    let closing = 0;
    for (const { receiver, sender } of pairs) {
      receiver.startPolling({
        onDatagrams([datagram]) {
          if (workerData.ending === 'exit in callback') process.exit(0);
          if (workerData.ending === 'throw in callback') throw new Error('thrown in the worker');
          if (workerData.ending === 'spin in callback') { parentPort.postMessage('spinning'); for (;;); }
        },
        onThrow(thrown) { throw thrown; },
      });
      sender.send(Uint8Array.of(1));
    }
    parentPort.postMessage('polling');
    if (workerData.ending === 'exit') process.exit(0);
    if (workerData.ending === 'close') for (const pair of pairs) pair.close();
  `;

  const endings = ['exit', 'close', 'terminate', 'exit in callback', 'throw in callback', 'spin in callback'];
  for (const ending of endings) {
    it(`a worker with 50 polled sockets leaves no descriptor after: ${ending}`, async () => {
      await runWorker(WORKER, ending); // the first worker of a process leaves descriptors of Node's own
      const before = openDescriptors();
      for (let round = 0; round < 3; round++) await runWorker(WORKER, ending);
      assert.equal(openDescriptors(), before);
    });
  }

  it('a process that ends with open polls exits cleanly on SIGTERM and by process.exit()', async () => {
    const source = `
      import { unixPair } from '${SUPPORT}';
      const { receiver } = unixPair();
      receiver.startPolling({ onThrow() {} });
      process.on('SIGTERM', () => process.exit(7));
      console.log('polling');
    `;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', source], {
      cwd: fileURLToPath(new URL('.', import.meta.url)),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    const [status] = await once(child, 'exit');
    assert.equal(status, 7);
  });
});

async function runWorker(source: string, ending: string): Promise<void> {
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
    workerData: { ending, support: SUPPORT },
  });
  const errors: unknown[] = [];
  worker.on('error', (error) => errors.push(error));
  // Not once() of node:events, which an 'error' rejects: 'exit' may follow before anybody can wait for it again.
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  worker.on('message', (message) => {
    if (message === 'spinning' || (message === 'polling' && ending === 'terminate')) worker.terminate();
  });
  await exited;
  assert.equal(errors.length, ending === 'throw in callback' ? 1 : 0, String(errors[0]));
}
