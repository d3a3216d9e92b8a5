import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { takeHostLock } from '../../../src/daemon/host-lock.ts';
import { LbdError } from '../../../src/lib/errors.ts';
import { Child } from './child.ts';

let locks = 0;

/** A lock of this test's own: the real one belongs to whatever lbd this machine runs. */
function ownName(): string {
  locks += 1;
  return `\0lbd.test-lock.${process.pid}.${locks}`;
}

function holder(t: TestContext, name: string): Child {
  return Child.script(
    t,
    `import { takeHostLock } from './src/daemon/host-lock.ts';
     const lock = await takeHostLock(${JSON.stringify(name)});
     process.stdin.on('data', () => lock.release().then(() => process.exit(0)));
     process.stdout.write('holding\\n');`,
  );
}

async function connect(t: TestContext, name: string): Promise<Socket> {
  const socket = createConnection({ path: name, allowHalfOpen: true });
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

test('takeHostLock() refuses a second holder and names the pid of the first', async (t) => {
  const name = ownName();
  const child = holder(t, name);
  await child.firstLine();
  await assert.rejects(takeHostLock(name), (error) => {
    assert.ok(error instanceof LbdError);
    assert.equal(error.code, 'host-lock.held');
    assert.equal(
      error.message,
      `another lbd already runs on this host (pid ${child.process.pid}); stop it first, as two would fight over the same addresses`,
    );
    assert.deepEqual(error.fields, { pid: String(child.process.pid) });
    return true;
  });
});

test('the lock is free when its holder releases it', async (t) => {
  const name = ownName();
  const child = holder(t, name);
  await child.firstLine();
  child.process.stdin?.write('release\n');
  assert.equal((await child.ended()).code, 0);
  await (await takeHostLock(name)).release();
});

test('the lock is free when its holder is killed', async (t) => {
  const name = ownName();
  const child = holder(t, name);
  await child.firstLine();
  child.process.kill('SIGKILL');
  await child.ended();
  await (await takeHostLock(name)).release();
});

test('the lock keeps no process alive that has nothing else to do', async (t) => {
  const child = Child.script(
    t,
    `import { takeHostLock } from './src/daemon/host-lock.ts';
     await takeHostLock(${JSON.stringify(ownName())});`,
  );
  assert.deepEqual([(await child.ended()).code, child.stderr], [0, '']);
});

test('a holder that does not answer is refused all the same, without a pid', async (t) => {
  const name = ownName();
  const child = holder(t, name);
  await child.firstLine();
  child.process.kill('SIGSTOP');
  await assert.rejects(takeHostLock(name), (error) => {
    assert.ok(error instanceof LbdError);
    return /^another lbd already runs on this host; stop it/.test(error.message);
  });
});

test('release() does not wait for a client that never closes its side', async (t) => {
  const name = ownName();
  const lock = await takeHostLock(name);
  const sockets = await Promise.all([1, 2, 3].map(() => connect(t, name)));
  await Promise.all(sockets.map((socket) => once(socket, 'data')));
  await lock.release();
  await (await takeHostLock(name)).release();
});

test('clients that connect again and again leave nothing open at the holder', async (t) => {
  const name = ownName();
  const child = holder(t, name);
  await child.firstLine();
  for (let round = 0; round < 10; round++) {
    const sockets = await Promise.all(Array.from({ length: 50 }, () => connect(t, name)));
    // Either the pid or, beyond the limit, nothing; in both cases the holder closes its side.
    await Promise.all(
      sockets.map((socket) => new Promise<void>((resolve) => socket.resume().once('end', () => resolve()))),
    );
  }
  await assert.rejects(takeHostLock(name), { code: 'host-lock.held' });
  child.process.stdin?.write('release\n');
  assert.equal((await child.ended()).code, 0);
});
