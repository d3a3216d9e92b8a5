import { createConnection, createServer, type Server } from 'node:net';
import { LbdError } from '../lib/errors.ts';

/**
 * One lbd on a host. Two would fight over the same tagged addresses, whatever sockets and directories they are
 * configured with, so the lock is where the addresses are: an abstract unix socket belongs to the network namespace
 * (unix(7)), needs no file, and goes with the process. Whoever connects is told the holder's pid.
 */
const LOCK_NAME = '\0lbd.host-lock';
const ANSWER_TIMEOUT_MS = 500;

export type HostLock = { release(): Promise<void> };

/** Takes the lock, or throws `LbdError` `host-lock.held` naming the process that has it. */
export async function takeHostLock(): Promise<HostLock> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.end(`${process.pid}\n`);
  });
  try {
    await listen(server);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
    const pid = await askHolder();
    throw new LbdError(
      'host-lock.held',
      `another lbd already runs on this host${pid === undefined ? '' : ` (pid ${pid})`}; ` +
        'stop it first, as two would fight over the same addresses',
      { fields: { pid } },
    );
  }
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(LOCK_NAME, () => resolve());
  });
}

function askHolder(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(LOCK_NAME);
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy());
    socket.once('data', (data) => resolve(/^\d+/.exec(data.toString('latin1'))?.[0]));
    socket.on('error', () => resolve(undefined));
    socket.on('close', () => resolve(undefined));
  });
}
