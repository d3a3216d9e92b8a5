import { request } from 'node:http';
import { LbdError } from '../../src/lib/errors.ts';

export type UnixAnswer = { readonly code: number; readonly text: string };

/** One HTTP request over a unix socket. Throws when nothing listens there or nothing comes back in time. */
export function unixRequest(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = 5_000,
): Promise<UnixAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, agent: false, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ code: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
      );
    });
    outgoing.on('timeout', () =>
      outgoing.destroy(new LbdError('lab.no-answer', `${method} ${path}: no answer within ${timeoutMs} ms`)),
    );
    outgoing.on('error', reject);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
