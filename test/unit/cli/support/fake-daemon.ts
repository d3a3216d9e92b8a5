import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A directory that goes with the test. */
export function temporaryDirectory(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-cli-'));
  context.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** Something that answers on a unix socket until the test ends; resolves with the path of the socket. */
export async function listen(context: TestContext, listener: RequestListener): Promise<string> {
  const socket = join(temporaryDirectory(context), 'lbd.sock');
  const server = createServer(listener);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socket, resolve);
  });
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return socket;
}

/** The daemon's control socket, as far as lbctl is concerned. */
export function fakeDaemon(context: TestContext, status: unknown): Promise<string> {
  return listen(context, (request, response) => {
    if (request.method !== 'GET' || request.url !== '/v1/status') {
      response.writeHead(404).end('no such document');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(status));
  });
}
