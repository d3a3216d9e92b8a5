import { request } from 'node:http';
import type { ConfigListing } from '../config/types.ts';
import { STATUS_VERSION, type StatusDocument } from '../daemon/types.ts';
import { errorText, LbdError } from '../lib/errors.ts';

const TIMEOUT_MS = 5_000;

/** Ten thousand Services are about 5 MB. */
const MAX_ANSWER_BYTES = 64 << 20;

const LOOK = 'see "systemctl status lbd"';

/**
 * What lbd answers on `GET /v1/status`, whatever its version: for output that passes it on. Throws an LbdError that says
 * what to do when there is no answer within `timeoutMs`.
 */
export async function fetchStatus(socket: string, timeoutMs: number = TIMEOUT_MS): Promise<StatusAnswer> {
  const body = await get(socket, '/v1/status', timeoutMs);
  const answer = parseJson(body);
  if (!isStatusAnswer(answer)) {
    throw new LbdError('control.bad-answer', `what answers on ${socket} is not lbd; ${LOOK}`, {
      fields: { socket },
    });
  }
  return answer;
}

/** What lbd runs with, on `GET /v1/config`. Throws as `fetchStatus()` does. */
export async function fetchConfig(socket: string): Promise<ConfigListing> {
  const answer = parseJson(await get(socket, '/v1/config', TIMEOUT_MS));
  if (isConfigListing(answer)) return answer;
  throw new LbdError(
    'control.bad-answer',
    `what answers on ${socket} is not the lbd of this version; ${LOOK}`,
    {
      fields: { socket },
    },
  );
}

function isConfigListing(value: unknown): value is ConfigListing {
  if (typeof value !== 'object' || value === null || !('version' in value) || !('values' in value))
    return false;
  return value.version === 1 && Array.isArray(value.values);
}

/** A status document of a version that may be unknown here. */
export type StatusAnswer = { readonly version: number; readonly lbd: StatusDocument['lbd'] };

/** The document that this version can show; throws for a version that it was not made for. */
export function asStatusDocument(answer: StatusAnswer): StatusDocument {
  if (answer.version !== STATUS_VERSION) {
    const message =
      `cannot show status version ${answer.version} of lbd ${answer.lbd.version}, expected version ${STATUS_VERSION}; ` +
      'use the lbctl of the same package, or --json';
    throw new LbdError('control.version', message, { fields: { version: answer.version } });
  }
  return answer as StatusDocument;
}

function isStatusAnswer(value: unknown): value is StatusAnswer {
  if (typeof value !== 'object' || value === null || !('version' in value) || !('lbd' in value)) return false;
  const { version, lbd } = value;
  return Number.isInteger(version) && typeof lbd === 'object' && lbd !== null && 'version' in lbd;
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function get(socket: string, path: string, timeoutMs: number): Promise<string> {
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve, reject) => {
    const refuse = (thrown: unknown): void => reject(explain(thrown, socket, signal.aborted, timeoutMs));
    const headers = { host: 'lbd', connection: 'close' };
    const call = request({ socketPath: socket, path, headers, signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) response.destroy(new Error(`more than ${MAX_ANSWER_BYTES} bytes`));
      });
      response.on('error', refuse);
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode === 200) return resolve(body);
        refuse(new Error(`HTTP ${response.statusCode}: ${body.trim().slice(0, 200)}`));
      });
    });
    call.on('error', refuse);
    call.end();
  });
}

function explain(thrown: unknown, socket: string, timedOut: boolean, timeoutMs: number): LbdError {
  const [code, message] = timedOut
    ? ['control.timeout', `lbd does not answer on ${socket} within ${timeoutMs / 1000} s; ${LOOK}`]
    : explainErrno((thrown as NodeJS.ErrnoException).code, thrown, socket);
  return new LbdError(code, message, { fields: { socket } });
}

function explainErrno(errno: string | undefined, thrown: unknown, socket: string): readonly [string, string] {
  switch (errno) {
    case 'ENOENT':
      return [
        'control.no-socket',
        `no socket ${socket}: lbd is not running here, or listens elsewhere; ${LOOK}`,
      ];
    case 'EACCES':
    case 'EPERM':
      return ['control.denied', `no access to ${socket}: be root, or in its group: "usermod -aG lbd USER"`];
    case 'ECONNREFUSED':
      return ['control.refused', `nobody listens on ${socket}, which an lbd that ended left behind; ${LOOK}`];
    default:
      return ['control.failed', `cannot ask lbd on ${socket}: ${errorText(thrown)}; ${LOOK}`];
  }
}
