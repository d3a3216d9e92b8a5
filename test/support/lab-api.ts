import { fileURLToPath } from 'node:url';
import { LbdError } from '../../src/lib/errors.ts';
import type { LabHost } from './lab-host.ts';
import type { LabProcess } from './lab-process.ts';
import { SOURCE_ENVIRONMENT } from './lab-source.ts';
import { within } from './wait.ts';

/** A client of the lab's API server for tests and benches, through an agent process inside the lab. */

const AGENT = fileURLToPath(new URL('lab-api-agent.ts', import.meta.url));
const START_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const WAIT_TIMEOUT_MS = 10_000;

export type AgentRequest = {
  readonly id: number;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
};

export type AgentReport =
  | { readonly kind: 'watching' }
  | {
      readonly kind: 'answer';
      readonly id: number;
      /** 0 when there was no answer. */
      readonly code: number;
      readonly text: string;
      readonly sentAtMs: number;
      readonly answeredAtMs: number;
    }
  | ({ readonly kind: 'event' } & ServiceEvent);

/** What tests look at of a Service. */
export type ServiceObject = {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: {
    readonly loadBalancer?: {
      readonly ingress?: readonly { readonly ip?: string; readonly ipMode?: string }[];
    };
  };
};

/** A watch event and when it came to the agent (`labTimeMs`). */
export type ServiceEvent = { readonly atMs: number; readonly type: string; readonly object: ServiceObject };

export type ApiAnswer = {
  readonly code: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** When the request was sent and when its answer had come, `labTimeMs`. */
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
};

export type NewService = {
  readonly name: string;
  /** Default `default`. */
  readonly namespace?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Over a Service of type LoadBalancer with port 80. */
  readonly spec?: Readonly<Record<string, unknown>>;
};

export class LabApi {
  readonly #agent: LabProcess;
  readonly #answers = new Map<number, (report: AgentReport & { kind: 'answer' }) => void>();
  readonly #history = new Map<string, ServiceEvent[]>();
  readonly #listeners = new Set<(event: ServiceEvent) => void>();
  #lastId = 0;

  private constructor(agent: LabProcess) {
    this.#agent = agent;
    agent.onLine((line, stream) => {
      if (stream === 'stdout') this.#take(JSON.parse(line));
    });
  }

  /** `kubeconfig` is a path on `host`. Resolves when the watch of Services is open. */
  static async start(host: LabHost, kubeconfig: string): Promise<LabApi> {
    const agent = await host.spawn([process.execPath, AGENT, kubeconfig], { env: SOURCE_ENVIRONMENT });
    const api = new LabApi(agent);
    await agent.waitForLine(/"watching"/, { timeoutMs: START_TIMEOUT_MS });
    return api;
  }

  /** Any request; resolves with whatever the server answers, and throws when it does not. */
  async request(method: string, path: string, body?: unknown, contentType?: string): Promise<ApiAnswer> {
    this.#lastId += 1;
    const asked: AgentRequest = {
      id: this.#lastId,
      method,
      path,
      body,
      ...(contentType === undefined ? {} : { contentType }),
    };
    const { promise, resolve } = Promise.withResolvers<AgentReport & { kind: 'answer' }>();
    this.#answers.set(asked.id, resolve);
    this.#agent.write(`${JSON.stringify(asked)}\n`);
    const answer = await within(promise, REQUEST_TIMEOUT_MS, () => `the answer to ${method} ${path}`);
    if (answer.code === 0) throw new LbdError('lab.api', `${method} ${path}: ${answer.text}`);
    return { ...answer, body: jsonObject(answer.text) };
  }

  /** As `request()`, but throws on any status of 400 or more. */
  async expect(method: string, path: string, body?: unknown, contentType?: string): Promise<ApiAnswer> {
    const answer = await this.request(method, path, body, contentType);
    if (answer.code < 400) return answer;
    throw new LbdError('lab.api', `${method} ${path}: ${answer.code} ${answer.body['message'] ?? ''}`, {
      fields: { code: answer.code },
    });
  }

  createService(service: NewService): Promise<ApiAnswer> {
    const namespace = service.namespace ?? 'default';
    this.#history.delete(`${namespace}/${service.name}`);
    return this.expect('POST', `/api/v1/namespaces/${namespace}/services`, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: service.name, annotations: service.annotations },
      spec: { type: 'LoadBalancer', ports: [{ port: 80 }], ...service.spec },
    });
  }

  deleteService(name: string, namespace = 'default'): Promise<ApiAnswer> {
    return this.expect('DELETE', `/api/v1/namespaces/${namespace}/services/${name}`);
  }

  async getService(name: string, namespace = 'default'): Promise<ServiceObject> {
    const { body } = await this.expect('GET', `/api/v1/namespaces/${namespace}/services/${name}`);
    return body as unknown as ServiceObject;
  }

  /** A merge patch of the Service itself. */
  patchService(name: string, patch: unknown, namespace = 'default'): Promise<ApiAnswer> {
    const path = `/api/v1/namespaces/${namespace}/services/${name}`;
    return this.expect('PATCH', path, patch, 'application/merge-patch+json');
  }

  /** The Events about a Service, as `reason: message`. */
  async eventsOf(name: string, namespace = 'default'): Promise<readonly string[]> {
    const { body } = await this.expect('GET', `/apis/events.k8s.io/v1/namespaces/${namespace}/events`);
    const items = (body['items'] ?? []) as readonly {
      readonly reason?: string;
      readonly note?: string;
      readonly regarding?: { readonly name?: string };
    }[];
    return items
      .filter((item) => item.regarding?.name === name)
      .map((item) => `${item.reason}: ${item.note}`);
  }

  /** Every event of the watch about a Service, since the test created it; oldest first. */
  serviceEvents(name: string, namespace = 'default'): readonly ServiceEvent[] {
    return this.#history.get(`${namespace}/${name}`) ?? [];
  }

  /** The first event, seen or to come, of this Service for which `predicate` gives something. */
  async waitForService(
    name: string,
    predicate: (service: ServiceObject, event: ServiceEvent) => unknown,
    options: { readonly namespace?: string; readonly timeoutMs?: number; readonly describe?: string } = {},
  ): Promise<ServiceEvent> {
    const key = `${options.namespace ?? 'default'}/${name}`;
    const seen = this.#history.get(key)?.find((event) => predicate(event.object, event));
    if (seen !== undefined) return seen;
    const { promise, resolve } = Promise.withResolvers<ServiceEvent>();
    const listener = (event: ServiceEvent) => {
      if (keyOf(event.object) === key && predicate(event.object, event)) resolve(event);
    };
    this.#listeners.add(listener);
    try {
      return await within(
        promise,
        options.timeoutMs ?? WAIT_TIMEOUT_MS,
        () =>
          `${options.describe ?? String(predicate)} of Service ${key}; last: ${JSON.stringify(this.#history.get(key)?.at(-1))}`,
      );
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Resolves with the Service's addresses, and when they were seen, once its status has `count` of them. */
  async waitForAddresses(
    name: string,
    options: { readonly namespace?: string; readonly count?: number; readonly timeoutMs?: number } = {},
  ): Promise<{ readonly addresses: readonly string[]; readonly atMs: number }> {
    const count = options.count ?? 1;
    const event = await this.waitForService(name, (service) => addressesOf(service).length >= count, {
      ...options,
      describe: `${count} address(es) in the status`,
    });
    return { addresses: addressesOf(event.object), atMs: event.atMs };
  }

  stop(): Promise<unknown> {
    return this.#agent.stop('SIGKILL');
  }

  #take(report: AgentReport): void {
    if (report.kind === 'answer') {
      this.#answers.get(report.id)?.(report);
      this.#answers.delete(report.id);
    }
    if (report.kind !== 'event') return;
    const event: ServiceEvent = { atMs: report.atMs, type: report.type, object: report.object };
    const key = keyOf(event.object);
    const history = this.#history.get(key) ?? [];
    history.push(event);
    this.#history.set(key, history);
    for (const listener of this.#listeners) listener(event);
  }
}

/** The addresses in the status of a Service. */
export function addressesOf(service: ServiceObject): readonly string[] {
  return (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []);
}

function keyOf(service: ServiceObject): string {
  return `${service.metadata.namespace}/${service.metadata.name}`;
}

function jsonObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(text);
  } catch {
    return { message: text };
  }
}
