import { request } from 'node:http';
import type { ConfigListing } from '../config/types.ts';
import {
  type DrainStatus,
  type Explanation,
  type MembersDocument,
  STATUS_VERSION,
  type StatusDocument,
} from '../daemon/types.ts';
import { errorText, LbdError } from '../lib/errors.ts';

const TIMEOUT_MS = 5_000;

/** Ten thousand Services are about 5 MB. */
const MAX_ANSWER_BYTES = 64 << 20;

const MAX_REFUSAL_CHARACTERS = 1_000;

const LOOK = 'see "systemctl status lbd"';

/**
 * What lbd answers on `GET /v1/status`, whatever its version: for output that passes it on. Throws an LbdError that says
 * what to do when there is no answer within `timeoutMs`.
 */
export async function fetchStatus(socket: string, timeoutMs: number = TIMEOUT_MS): Promise<StatusAnswer> {
  const body = await ask(socket, 'GET', '/v1/status', timeoutMs);
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
  const answer = parseJson(await ask(socket, 'GET', '/v1/config', TIMEOUT_MS));
  if (isConfigListing(answer)) return answer;
  throw notOfThisVersion(socket);
}

/** Who gossips with this host, on `GET /v1/members`. Throws as `fetchStatus()` does, and in lbd's words when it does not gossip. */
export async function fetchMembers(socket: string): Promise<MembersDocument> {
  const answer = parseJson(await ask(socket, 'GET', '/v1/members', TIMEOUT_MS));
  if (isRecord(answer) && answer['version'] === STATUS_VERSION && isRecord(answer['election']))
    return answer as MembersDocument;
  throw notOfThisVersion(socket);
}

/** Why a Service or an address is as it is. Throws as `fetchStatus()` does, and in lbd's words when it knows no such thing. */
export async function fetchExplanation(socket: string, subject: string): Promise<Explanation> {
  const path = `/v1/explain?subject=${encodeURIComponent(subject)}`;
  const answer = parseJson(await ask(socket, 'GET', path, TIMEOUT_MS));
  if (isRecord(answer) && answer['version'] === STATUS_VERSION && Array.isArray(answer['addresses']))
    return answer as Explanation;
  throw notOfThisVersion(socket);
}

/** How far a drain is. Throws as `fetchMembers()` does. */
export async function fetchDrain(socket: string): Promise<DrainStatus> {
  return asDrainStatus(socket, await ask(socket, 'GET', '/v1/drain', TIMEOUT_MS));
}

/** Has lbd do something; resolves as soon as it has begun. Throws as `fetchMembers()` does. */
export async function command(socket: string, name: 'drain' | 'undrain' | 'rebalance'): Promise<DrainStatus> {
  return asDrainStatus(socket, await ask(socket, 'POST', `/v1/${name}`, TIMEOUT_MS));
}

function asDrainStatus(socket: string, body: string): DrainStatus {
  const answer = parseJson(body);
  if (isRecord(answer) && typeof answer['done'] === 'boolean' && typeof answer['left'] === 'number')
    return answer as DrainStatus;
  throw notOfThisVersion(socket);
}

function notOfThisVersion(socket: string): LbdError {
  return new LbdError(
    'control.bad-answer',
    `what answers on ${socket} is not the lbd of this version; ${LOOK}`,
    { fields: { socket } },
  );
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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

function ask(socket: string, method: 'GET' | 'POST', path: string, timeoutMs: number): Promise<string> {
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve, reject) => {
    const refuse = (thrown: unknown): void => {
      reject(explain(thrown, socket, signal.aborted ? timeoutMs : undefined));
    };
    const headers = { host: 'lbd', connection: 'close' };
    const options = { socketPath: socket, method, path, headers, signal, agent: false };
    const call = request(options, (response) => {
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
        reject(
          refusal(response.statusCode, path, body) ?? explain(httpError(response.statusCode, body), socket),
        );
      });
    });
    call.on('error', refuse);
    call.end();
  });
}

function httpError(status: number | undefined, body: string): Error {
  return new Error(`HTTP ${status}: ${body.trim().slice(0, 200)}`);
}

/** What lbd has against the request, in its own words; undefined when the answer is no such thing. */
function refusal(status: number | undefined, path: string, body: string): LbdError | undefined {
  if (status !== 400 && status !== 404 && status !== 409) return undefined;
  const answer = parseJson(body);
  const error = isRecord(answer) ? answer['error'] : undefined;
  if (typeof error !== 'string') return undefined;
  if (status === 404 && isRecord(answer) && 'paths' in answer) {
    const message = `the lbd that runs here does not know ${path.split('?', 1)[0]}: it is of another version than this lbctl; "systemctl restart lbd"`;
    return new LbdError('control.unknown-path', message, { fields: { path } });
  }
  return new LbdError('control.request-refused', error.slice(0, MAX_REFUSAL_CHARACTERS), {
    fields: { path },
  });
}

function explain(thrown: unknown, socket: string, timedOutMs?: number): LbdError {
  const [code, message] =
    timedOutMs !== undefined
      ? ['control.timeout', `lbd does not answer on ${socket} within ${timedOutMs / 1000} s; ${LOOK}`]
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
