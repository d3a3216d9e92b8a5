import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StatusDocument } from '../../src/daemon/types.ts';
import { LbdError } from '../../src/lib/errors.ts';
import type { LabHost } from './lab-host.ts';
import { NotifySocket } from './lab-notify.ts';
import {
  type ExitStatus,
  favoured,
  type LabProcess,
  type RunOptions,
  type RunResult,
} from './lab-process.ts';
import { SOURCE_ENVIRONMENT } from './lab-source.ts';
import { labTimeMs } from './lab-time.ts';
import { unixRequest } from './unix-http.ts';
import { type WaitOptions, waitFor } from './wait.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const READY_TIMEOUT_MS = 15_000;
const SOCKET = '/run/lbd/lbd.sock';

export type LbdOptions = {
  /** Written to /etc/lbd.toml. */
  readonly toml: string;
  /** Written to /etc/lbd/kubeconfig; null for none. Default: lbd's own on the lab's API server, if it has one. */
  readonly kubeconfig?: string | null;
  /** `source`, or the path of a built lbd. Default: $LBD_BINARY, else `source`. */
  readonly binary?: string;
  /** More arguments of `lbd run`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Resolve at once instead of at READY=1. */
  readonly awaitReady?: boolean;
  readonly readyTimeoutMs?: number;
};

/** A line of lbd's log. */
export type LogLine = { readonly event?: string; readonly [field: string]: unknown };

/** The command line of lbd or lbctl. */
export function lbdCommand(program: 'lbd' | 'lbctl', binary?: string): readonly string[] {
  const chosen = chosenBinary(binary);
  if (chosen === 'source') return [process.execPath, MAIN, program];
  return [program === 'lbd' ? chosen : join(dirname(chosen), 'lbctl')];
}

function chosenBinary(binary: string | undefined): string {
  return binary ?? process.env['LBD_BINARY'] ?? 'source';
}

function lbdEnvironment(binary: string | undefined): Readonly<Record<string, string>> {
  return chosenBinary(binary) === 'source' ? SOURCE_ENVIRONMENT : {};
}

let sockets = 0;

/** A running lbd daemon. */
export class Lbd {
  readonly host: LabHost;
  readonly process: LabProcess;
  readonly notifications: NotifySocket;
  readonly #binary: string | undefined;
  /** When it was started, `labTimeMs`. */
  readonly #startedAtMs: number;

  private constructor(
    host: LabHost,
    process: LabProcess,
    notifications: NotifySocket,
    startedAtMs: number,
    binary: string | undefined,
  ) {
    this.host = host;
    this.process = process;
    this.notifications = notifications;
    this.#startedAtMs = startedAtMs;
    this.#binary = binary;
    process.exit.then(() => notifications.close());
  }

  /** Throws with lbd's output when it ends, or does not get ready in time. */
  static async start(host: LabHost, options: LbdOptions): Promise<Lbd> {
    await host.writeFile('/etc/lbd.toml', options.toml);
    if (typeof options.kubeconfig === 'string')
      await host.writeFile('/etc/lbd/kubeconfig', options.kubeconfig);
    sockets += 1;
    const notifyPath = `/run/lab/hosts/${host.name}/notify-${process.pid}-${sockets}`;
    const notifications = new NotifySocket(host.outside(notifyPath));
    const startedAtMs = labTimeMs();
    try {
      const child = await host.spawn(
        favoured([
          ...lbdCommand('lbd', options.binary),
          'run',
          '--config',
          '/etc/lbd.toml',
          ...(options.args ?? []),
        ]),
        { env: { ...lbdEnvironment(options.binary), NOTIFY_SOCKET: notifyPath, ...options.env } },
      );
      const lbd = new Lbd(host, child, notifications, startedAtMs, options.binary);
      if (options.awaitReady !== false) await lbd.ready(options.readyTimeoutMs);
      return lbd;
    } catch (error) {
      notifications.close();
      throw error;
    }
  }

  /** Resolves with the milliseconds from start to READY=1. */
  async ready(timeoutMs = READY_TIMEOUT_MS): Promise<number> {
    const ended = this.process.exit.then(({ code, signal }): never => {
      throw new LbdError(
        'lab.lbd-ended',
        `lbd on ${this.host.name} ended (${signal ?? code}) before READY=1:\n${this.output}`,
      );
    });
    ended.catch(() => {});
    const ready = await this.notifications.waitFor(
      /^READY=1$/,
      timeoutMs,
      ended,
      () => `READY=1 of lbd on ${this.host.name}:\n${this.output}`,
    );
    return ready.atMs - this.#startedAtMs;
  }

  get pid(): number {
    return this.process.pid;
  }

  /** What it wrote, standard error first. */
  get output(): string {
    return this.process.stderr + this.process.stdout;
  }

  /** Its log so far, oldest first; lines that are no JSON are not of it. */
  get logs(): readonly LogLine[] {
    return this.process.lines.flatMap(({ text }): readonly LogLine[] => parseLogLine(text) ?? []);
  }

  /** The first line of the log, written or to come, with this event name and these fields. */
  async waitForLog(
    event: string,
    fields: Readonly<Record<string, unknown>> = {},
    timeoutMs = 5_000,
  ): Promise<LogLine> {
    const matches = (text: string) => {
      const line = parseLogLine(text)?.[0];
      return line?.event === event && Object.entries(fields).every(([key, value]) => line[key] === value);
    };
    const found = await this.process.waitForLine(matches, {
      timeoutMs,
      describe: `the log event ${event} ${JSON.stringify(fields)}`,
    });
    return parseLogLine(found)?.[0] ?? {};
  }

  /** GET /v1/status on its control socket. */
  async status(): Promise<StatusDocument> {
    const answer = await unixRequest(this.host.outside(SOCKET), 'GET', '/v1/status');
    if (answer.code !== 200)
      throw new LbdError('lab.status', `GET /v1/status: ${answer.code} ${answer.text}`);
    return JSON.parse(answer.text) as StatusDocument;
  }

  /** Polls the status until `predicate` gives something; resolves with the document. */
  async waitForStatus(
    predicate: (status: StatusDocument) => unknown,
    options: WaitOptions,
  ): Promise<StatusDocument> {
    let last: StatusDocument | undefined;
    try {
      return await waitFor(async () => {
        last = await this.status();
        return predicate(last) ? last : undefined;
      }, options);
    } catch (error) {
      throw new LbdError('lab.status', `${error}; status: ${JSON.stringify(last)?.slice(0, 4_000)}`, {
        cause: error,
      });
    }
  }

  lbctl(args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.host.run([...lbdCommand('lbctl', this.#binary), ...args], {
      ...options,
      env: { ...lbdEnvironment(this.#binary), ...options?.env },
    });
  }

  /** SIGHUP, with a new configuration if given. */
  async reload(toml?: string): Promise<void> {
    if (toml !== undefined) await this.host.writeFile('/etc/lbd.toml', toml);
    this.process.kill('SIGHUP');
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs?: number): Promise<ExitStatus> {
    return this.process.stop(signal, timeoutMs);
  }
}

function parseLogLine(text: string): readonly LogLine[] | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    return [JSON.parse(text) as LogLine];
  } catch {
    return undefined;
  }
}
