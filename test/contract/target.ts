/**
 * Runs the same statements about the API against the stand-in always, and against a real kube-apiserver too
 * when KUBE_APISERVER=/path/to/kube-apiserver is set (etcd from $ETCD or the PATH).
 */

import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { type Answer, Client } from '../support/apiserver/client.ts';
import { arrayOf, at, type JsonObject, stringOf } from '../support/apiserver/json.ts';
import { realApiServerPath, startRealApiServer } from '../support/apiserver/real.ts';
import { startApiServer } from '../support/apiserver/server.ts';
import type { ApiTarget } from '../support/apiserver/types.ts';

export interface Context {
  readonly target: ApiTarget;
  readonly admin: Client;
  /** A new, empty namespace for one test. */
  namespace(): Promise<string>;
  /** A client of a user; closed at the end. */
  client(as: ConstructorParameters<typeof Client>[1]): Client;
}

interface Kind {
  readonly name: string;
  readonly start: () => Promise<ApiTarget>;
}

function targets(): Kind[] {
  const standIn: Kind = { name: 'stand-in', start: () => startApiServer() };
  const real: Kind = { name: 'kube-apiserver', start: () => startRealApiServer() };
  return realApiServerPath() === undefined ? [standIn] : [standIn, real];
}

let namespaces = 0;

/** Defines the tests once per target; `context()` may be called inside tests and hooks only. */
export function contract(title: string, define: (context: () => Context) => void): void {
  for (const kind of targets()) {
    describe(`${title} (${kind.name})`, () => {
      let context: Context | undefined;
      const clients: Client[] = [];
      before(async () => {
        const target = await kind.start();
        const client: Context['client'] = (as) => {
          const made = new Client(target, as);
          clients.push(made);
          return made;
        };
        const admin = client('admin');
        const namespace = async (): Promise<string> => {
          namespaces += 1;
          const name = `contract-${namespaces}`;
          created(await admin.post('/api/v1/namespaces', { metadata: { name } }));
          return name;
        };
        context = { target, admin, namespace, client };
      });
      after(async () => {
        for (const client of clients) client.close();
        await context?.target.close();
      });
      define(() => {
        assert(context !== undefined, 'context() was called before the server started');
        return context;
      });
    });
  }
}

export function servicesPath(namespace: string, name = '', rest = ''): string {
  return `/api/v1/namespaces/${namespace}/services${name === '' ? '' : `/${name}`}${rest}`;
}

/** A LoadBalancer Service without node ports, so that thousands of them fit. */
export function service(name: string, spec: JsonObject = {}, metadata: JsonObject = {}): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, ...metadata },
    spec: { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false, ports: [{ port: 80 }], ...spec },
  };
}

export function revisionOf(object: JsonObject): string {
  return stringOf(at(object, 'metadata', 'resourceVersion'));
}

export function nameOf(object: unknown): string {
  return stringOf(at(object, 'metadata', 'name'));
}

export function names(list: JsonObject): string[] {
  return arrayOf(list['items']).map(nameOf);
}

/** The object just created; fails with the server's answer otherwise. */
export function created(answer: Answer): JsonObject {
  assert.equal(answer.code, 201, answer.text);
  return answer.body;
}

export function ok(answer: Answer): JsonObject {
  assert.equal(answer.code, 200, answer.text);
  return answer.body;
}

/** Asserts a Failure with this code and reason, and returns it. */
export function refused(answer: Answer, code: number, reason: string): JsonObject {
  assert.equal(answer.code, code, answer.text);
  assert.equal(answer.body['kind'], 'Status', answer.text);
  assert.equal(answer.body['status'], 'Failure', answer.text);
  assert.equal(answer.body['code'], code, answer.text);
  assert.equal(answer.body['reason'], reason, answer.text);
  return answer.body;
}

/** Asserts 422 with a cause for this field. */
export function invalidAt(answer: Answer, field: string): void {
  const status = refused(answer, 422, 'Invalid');
  const fields = arrayOf(at(status, 'details', 'causes')).map((cause) => stringOf(at(cause, 'field')));
  assert(fields.includes(field), `expected a cause for ${field}, got ${fields.join(', ')}: ${answer.text}`);
}

/** Polls an assertion that another component makes true a moment later. */
export async function eventually(check: () => Promise<void>, timeoutMs = 15_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
