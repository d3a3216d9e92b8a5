import { fileURLToPath } from 'node:url';
import { LbdError } from '../../src/lib/errors.ts';
import type { Stats } from './apiserver/stats.ts';
import type { CredentialForm, UserOptions } from './apiserver/types.ts';
import { LabApi } from './lab-api.ts';
import type { LabHost } from './lab-host.ts';
import type { ExitStatus, LabProcess, RunOptions, RunResult } from './lab-process.ts';
import { SOURCE_ENVIRONMENT } from './lab-source.ts';
import { unixRequest } from './unix-http.ts';

const PROGRAM = fileURLToPath(new URL('apiserver/main.ts', import.meta.url));
/** On the lab's common file system: every host can read it. */
const DIRECTORY = '/run/lab/apiserver';
const PORT = 6443;
/** A real kube-apiserver with its etcd takes its time. */
const START_TIMEOUT_MS = 90_000;

export type ApiServerOptions = {
  /** More arguments of test/support/apiserver/main.ts. */
  readonly args?: readonly string[];
};

/** The lab's API server: the stand-in, or a real one when $KUBE_APISERVER names it. */
export class LabApiServer {
  readonly host: LabHost;
  readonly process: LabProcess;
  readonly url: string;
  /** False for a real one, which has no faults to command and no statistics. */
  readonly isStandIn: boolean;
  readonly client: LabApi;

  private constructor(host: LabHost, process: LabProcess, ready: Ready, client: LabApi) {
    this.host = host;
    this.process = process;
    this.url = ready.url;
    this.isStandIn = ready.standIn;
    this.client = client;
  }

  static async start(host: LabHost, options: ApiServerOptions = {}): Promise<LabApiServer> {
    // biome-ignore format: one command line
    const child = await host.spawn(
      [process.execPath, PROGRAM, '--listen', `${host.ip}:${PORT}`, '--directory', DIRECTORY, ...(options.args ?? [])],
      { env: { ...SOURCE_ENVIRONMENT, ...realServerEnvironment() } },
    );
    const line = await child.waitForLine(/^\{"ready":true/, { timeoutMs: START_TIMEOUT_MS });
    const client = await LabApi.start(host, `${DIRECTORY}/admin.kubeconfig`);
    return new LabApiServer(host, child, JSON.parse(line), client);
  }

  /** kubectl as admin, on the API server's host. */
  kubectl(args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.host.run(['kubectl', '--kubeconfig', `${DIRECTORY}/admin.kubeconfig`, ...args], options);
  }

  /** The kubeconfig of a user, in a form of its own if asked. */
  async kubeconfig(user = 'lbd', form?: CredentialForm): Promise<string> {
    return this.#admin('GET', `/kubeconfig?user=${user}${form === undefined ? '' : `&form=${form}`}`);
  }

  async createUser(name: string, options: UserOptions = {}): Promise<void> {
    await this.#admin('POST', '/users', { name, ...options });
  }

  async rotateToken(user: string): Promise<void> {
    await this.#admin('POST', `/users/${user}/rotate`);
  }

  async revokeTokens(user: string): Promise<void> {
    await this.#admin('POST', `/users/${user}/revoke`);
  }

  /** A method of test/support/apiserver/faults.ts, such as `fault('delay', 100, { verbs: ['list'] })`. */
  async fault(method: string, ...args: readonly unknown[]): Promise<void> {
    await this.#admin('POST', `/faults/${method}`, args);
  }

  /**
   * Puts objects into the store at once, as if they had always been there. Unchecked, they may be what no API server
   * would take, and keep what a new object cannot have: uid and status.
   */
  async load(objects: readonly unknown[], options: { readonly checked?: boolean } = {}): Promise<void> {
    await this.#admin('POST', options.checked === false ? '/load?checked=false' : '/load', objects);
  }

  async stats(): Promise<Stats> {
    return JSON.parse(await this.#admin('GET', '/stats'));
  }

  async resetStats(): Promise<void> {
    await this.#admin('POST', '/stats/reset');
  }

  /** Ends it; what it knew is lost. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<ExitStatus> {
    await this.client.stop();
    return this.process.stop(signal, 15_000);
  }

  async #admin(method: string, path: string, body?: unknown): Promise<string> {
    const socket = this.host.outside(`${DIRECTORY}/admin.sock`);
    const answer = await unixRequest(socket, method, path, body, 30_000);
    if (answer.code === 200) return answer.text;
    throw new LbdError(
      'lab.api-server',
      `${method} ${path} of the API server: ${answer.code} ${answer.text.trim()}`,
    );
  }
}

type Ready = { readonly url: string; readonly standIn: boolean };

function realServerEnvironment(): Record<string, string> {
  const names = ['KUBE_APISERVER', 'ETCD'] as const;
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}
