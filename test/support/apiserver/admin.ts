/**
 * Control over HTTP on a unix socket, for a stand-in that runs as a program: `GET /stats`, `POST /stats/reset`,
 * `POST /faults/<method>` with a JSON array of arguments, `POST /users` {name, rules, groups},
 * `POST /users/<name>/rotate|revoke`, `GET /kubeconfig?user=&form=`, `POST /load` [objects], `POST /quit`.
 */

import { rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { KubeObject } from './json.ts';
import type { ApiServer } from './server.ts';
import type { ApiTarget, CredentialForm, UserOptions } from './types.ts';

/** `standIn` is the same server when it is one; a real server has no statistics and no faults to command. */
export async function startAdmin(
  api: ApiTarget,
  standIn: ApiServer | undefined,
  path: string,
  quit: () => void,
): Promise<Server> {
  rmSync(path, { force: true });
  const server = createServer((request, response) => {
    control(api, standIn, request, quit)
      .then((answer) => {
        const text = typeof answer === 'string' ? answer : JSON.stringify(answer ?? {});
        response.writeHead(200, {
          'Content-Type': typeof answer === 'string' ? 'text/plain' : 'application/json',
        });
        response.end(text);
      })
      .catch((error: unknown) => {
        response.writeHead(400, { 'Content-Type': 'text/plain' });
        response.end(`${error instanceof Error ? error.message : error}\n`);
      });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return server;
}

async function control(
  api: ApiTarget,
  standIn: ApiServer | undefined,
  request: IncomingMessage,
  quit: () => void,
): Promise<unknown> {
  const url = new URL(request.url ?? '/', 'http://admin');
  const [first = '', second = '', third = ''] = url.pathname.split('/').slice(1);
  const body = await bodyOf(request);
  switch (`${request.method} ${first}`) {
    case 'POST users':
      if (second !== '') return userAction(api, second, third);
      await createUser(api, body as { name: string } & UserOptions);
      return {};
    case 'GET kubeconfig':
      return api.kubeconfigFor(url.searchParams.get('user') ?? 'admin', {
        form: (url.searchParams.get('form') ?? 'token') as CredentialForm,
      });
    case 'POST quit':
      setImmediate(quit);
      return {};
    default:
  }
  if (standIn === undefined) throw new Error(`${request.method} ${url.pathname}: not with a real API server`);
  switch (`${request.method} ${first}`) {
    case 'GET stats':
      return standIn.stats();
    case 'POST stats':
      standIn.resetStats();
      return {};
    case 'POST faults':
      return callFault(standIn, second, Array.isArray(body) ? body : []);
    case 'POST load':
      standIn.load(body as KubeObject[], { checked: url.searchParams.get('checked') !== 'false' });
      return {};
    default:
      throw new Error(`unknown request ${request.method} ${url.pathname}`);
  }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  return text === '' ? undefined : JSON.parse(text);
}

async function callFault(api: ApiServer, name: string, args: unknown[]): Promise<unknown> {
  const faults = api.faults as unknown as Record<string, unknown>;
  const method = faults[name];
  if (typeof method !== 'function' || name === 'verdict' || name === 'constructor') {
    throw new Error(`unknown fault ${JSON.stringify(name)}`);
  }
  await (method as (...parameters: unknown[]) => unknown).apply(api.faults, args);
  return {};
}

async function createUser(api: ApiTarget, body: { name: string } & UserOptions): Promise<void> {
  const { name, ...options } = body;
  await api.createUser(name, options);
}

function userAction(api: ApiTarget, name: string, action: string): unknown {
  if (action === 'rotate') return { token: api.rotateToken(name) };
  if (action !== 'revoke') throw new Error(`unknown action ${JSON.stringify(action)}`);
  api.revokeTokens(name);
  return {};
}
