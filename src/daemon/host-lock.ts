import { createConnection, createServer, type Server } from 'node:net';
import { LbdError } from '../lib/errors.ts';

/**
 * One lbd on a host. Two would fight over the same tagged addresses, whatever sockets and directories they are
 * configured with, so the lock is where the addresses are: an abstract unix socket belongs to the network namespace
 * (unix(7)), needs no file, and goes with the process. Whoever connects is told the holder's pid.
 */
const LOCK_NAME = '\0lbd.host-lock';
const ANSWER_TIMEOUT_MS = 500;
/** Anybody on the host may connect: at most so many at once, further ones are closed unanswered. */
const ASKING_MAX = 16;

export type HostLock = { release(): Promise<void> };

/** Takes the lock, or throws `LbdError` `host-lock.held` naming the process that has it. `name` is for tests. */
export async function takeHostLock(name = LOCK_NAME): Promise<HostLock> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    // Not `end()` alone: a client that never closes its side would hold the socket, and `release()`, for ever.
    socket.end(`${process.pid}\n`, () => socket.destroy());
  });
  server.maxConnections = ASKING_MAX;
  try {
    await listen(server, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
    const pid = await askHolder(name);
    throw new LbdError(
      'host-lock.held',
      `another lbd already runs on this host${pid === undefined ? '' : ` (pid ${pid})`}; ` +
        'stop it first, as two would fight over the same addresses',
      { fields: { pid } },
    );
  }
  // Out of file descriptors: whoever asks gets no answer, and the lock is held all the same.
  server.on('error', () => {});
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** The pid of the lbd that runs on this host, or undefined when none does. */
export function hostLockHolder(name = LOCK_NAME): Promise<string | undefined> {
  return askHolder(name);
}

function listen(server: Server, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(name, () => resolve());
  });
}

function askHolder(name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(name);
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy());
    socket.once('data', (data) => resolve(/^\d+/.exec(data.toString('latin1'))?.[0]));
    socket.on('error', () => resolve(undefined));
    socket.on('close', () => resolve(undefined));
  });
}
