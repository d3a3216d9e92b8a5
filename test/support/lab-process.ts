import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { LbdError } from '../../src/lib/errors.ts';
import { sleep, within } from './wait.ts';

/** Processes inside the namespaces of a lab. */

export type RunOptions = {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Given to the command's standard input, which then ends. */
  readonly stdin?: string;
  /** Default 30 s; past it the command is killed and the call fails. */
  readonly timeoutMs?: number;
  /** Resolve whatever the exit status is; without it, any but 0 throws. */
  readonly mayFail?: boolean;
};

export type RunResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type ExitStatus = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type OutputStream = 'stdout' | 'stderr';

export type OutputLine = { readonly text: string; readonly stream: OutputStream };

export type LineWait = {
  /** Default 5 s. */
  readonly timeoutMs?: number;
  readonly stream?: OutputStream;
  /** What is waited for, for the message of the failure. */
  readonly describe?: string;
};

/** A command of a lab that did not do what it was asked. */
export class LabCommandError extends LbdError {
  readonly argv: readonly string[];
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;

  constructor(place: string, argv: readonly string[], what: string, output?: RunResult) {
    const texts = [output?.stderr, output?.stdout].map((text) => text?.trim()).filter((text) => text);
    super('lab.command-failed', `${place}: \`${argv.join(' ')}\` ${what}: ${texts[0] ?? '(no output)'}`, {
      fields: { place, argv, exitCode: output?.code },
    });
    this.argv = argv;
    this.exitCode = output?.code;
    this.stdout = output?.stdout ?? '';
    this.stderr = output?.stderr ?? '';
  }
}

/** How to get inside: the arguments of nsenter, and the environment that commands find there. */
export type Entrance = {
  readonly name: string;
  readonly nsenter: readonly string[];
  readonly env: Readonly<Record<string, string>>;
};

const RUN_TIMEOUT_MS = 30_000;
const LAST_OUTPUT_MS = 200;
const MAX_CAPTURED_CHARACTERS = 64 * 1024 * 1024;

/**
 * nsenter dies with this process, by whatever end (setpriv), and what it started dies with the lab. The shell tells
 * the real pid on descriptor 3, which nsenter, a process between us and the command, hides.
 */
const WRAPPER =
  'read -r pid _ </run/lab/proc/self/stat && echo "$pid" >&3 && exec 3>&- && cd -- "$1" && shift && exec "$@"';

function launch(entrance: Entrance, argv: readonly string[], options: RunOptions): ChildProcess {
  const cwd = options.cwd ?? process.cwd();
  return spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', 'nsenter', ...entrance.nsenter, 'sh', '-c', WRAPPER, 'sh', cwd, ...argv],
    { stdio: ['pipe', 'pipe', 'pipe', 'pipe'], env: { ...entrance.env, ...options.env } },
  );
}

/** A running process of a lab. Its whole output is kept and can be waited for line by line. */
export class LabProcess {
  readonly place: string;
  readonly argv: readonly string[];
  readonly exit: Promise<ExitStatus>;
  /** When it was started, on the clock of `performance.now()`. */
  readonly startedAt = performance.now();
  readonly #nsenter: ChildProcess;
  readonly #output: Record<OutputStream, { text: string; rest: string }> = {
    stdout: { text: '', rest: '' },
    stderr: { text: '', rest: '' },
  };
  readonly #lines: OutputLine[] = [];
  readonly #listeners = new Set<(line: string, stream: OutputStream) => void>();
  #pid = 0;
  #exited: ExitStatus | undefined;

  private constructor(entrance: Entrance, argv: readonly string[], options: RunOptions) {
    this.place = entrance.name;
    this.argv = argv;
    const nsenter = launch(entrance, argv, options);
    this.#nsenter = nsenter;
    this.#capture('stdout', nsenter.stdout);
    this.#capture('stderr', nsenter.stderr);
    // A command that ends without reading its input is no failure of ours.
    nsenter.stdin?.on('error', () => {});
    this.exit = this.#ended();
  }

  /** Resolves when the command is about to be executed; throws `LabCommandError` when the namespaces are gone. */
  static async start(
    entrance: Entrance,
    argv: readonly string[],
    options: RunOptions = {},
  ): Promise<LabProcess> {
    const started = new LabProcess(entrance, argv, options);
    const told = toldPid(started.#nsenter);
    // A short command can have ended before its pid is read.
    const pid = await Promise.race([told, started.exit.then(() => told)]);
    if (pid === undefined) {
      const status = await started.exit;
      throw started.#failure(`could not be started in the lab (${statusText(status)})`);
    }
    started.#pid = pid;
    if (options.stdin !== undefined) started.#nsenter.stdin?.end(options.stdin);
    return started;
  }

  /** As the machine's own PID namespace has it. */
  get pid(): number {
    return this.#pid;
  }

  get stdout(): string {
    return this.#output.stdout.text;
  }

  get stderr(): string {
    return this.#output.stderr.text;
  }

  /** Every line so far, of both streams in the order in which they came. */
  get lines(): readonly OutputLine[] {
    return this.#lines;
  }

  /** Undefined while it runs. */
  get exited(): ExitStatus | undefined {
    return this.#exited;
  }

  /** Calls `listener` for each line from now on; the result unsubscribes. */
  onLine(listener: (line: string, stream: OutputStream) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The first line, already written or to come, that matches; throws when it ends or the time is over before. */
  async waitForLine(match: RegExp | ((line: string) => boolean), options: LineWait = {}): Promise<string> {
    const matches = (line: string, stream: OutputStream) =>
      (options.stream === undefined || options.stream === stream) &&
      (match instanceof RegExp ? match.test(line) : match(line));
    const seen = this.#lines.find((line) => matches(line.text, line.stream));
    if (seen !== undefined) return seen.text;
    const what = options.describe ?? `a line that matches ${match}`;
    const { promise, resolve } = Promise.withResolvers<string>();
    const stop = this.onLine((line, stream) => {
      if (matches(line, stream)) resolve(line);
    });
    const ended = this.exit.then((status): never => {
      throw this.#failure(`ended (${statusText(status)}) before ${what}`);
    });
    ended.catch(() => {});
    try {
      return await within(
        Promise.race([promise, ended]),
        options.timeoutMs ?? 5_000,
        () => `${what} of \`${this.argv.join(' ')}\` on ${this.place}: ${this.#tail()}`,
      );
    } finally {
      stop();
    }
  }

  write(text: string): void {
    this.#nsenter.stdin?.write(text);
  }

  endInput(): void {
    this.#nsenter.stdin?.end();
  }

  /** Sends a signal to the process itself; nothing happens when it is gone. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (this.#exited !== undefined) return;
    try {
      process.kill(this.#pid, signal);
      // nsenter stops itself when its child stops, and has to be woken as well.
      if (signal === 'SIGCONT') this.#nsenter.kill(signal);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
  }

  /** Sends `signal` and waits for the end; throws, with SIGKILL sent, when it takes longer than `timeoutMs`. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 5_000): Promise<ExitStatus> {
    this.kill(signal);
    try {
      return await within(
        this.exit,
        timeoutMs,
        () => `\`${this.argv.join(' ')}\` on ${this.place} to end on ${signal}: ${this.#tail()}`,
      );
    } catch (error) {
      this.kill('SIGKILL');
      throw error;
    }
  }

  async #ended(): Promise<ExitStatus> {
    const closed = once(this.#nsenter, 'close');
    const [code, signal] = await once(this.#nsenter, 'exit');
    // A child that it left behind may hold its output open for ever.
    await Promise.race([closed, sleep(LAST_OUTPUT_MS)]);
    this.#exited = { code, signal };
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#output[stream].rest !== '') this.#line(this.#output[stream].rest, stream);
    }
    return this.#exited;
  }

  #capture(stream: OutputStream, readable: Readable | null): void {
    readable?.setEncoding('utf8');
    readable?.on('data', (chunk: string) => {
      const output = this.#output[stream];
      if (output.text.length < MAX_CAPTURED_CHARACTERS) output.text += chunk;
      const lines = (output.rest + chunk).split('\n');
      output.rest = lines.pop() ?? '';
      for (const line of lines) this.#line(line, stream);
    });
  }

  #line(text: string, stream: OutputStream): void {
    this.#lines.push({ text, stream });
    for (const listener of this.#listeners) listener(text, stream);
  }

  #failure(what: string): LabCommandError {
    return new LabCommandError(this.place, this.argv, what, {
      code: this.#exited?.code ?? -1,
      stdout: this.stdout,
      stderr: this.stderr,
    });
  }

  #tail(): string {
    return JSON.stringify(this.#lines.slice(-10).map((line) => line.text));
  }
}

/** What the wrapper says on descriptor 3; undefined when it ends without a word. */
function toldPid(nsenter: ChildProcess): Promise<number | undefined> {
  const pipe = nsenter.stdio[3] as Readable;
  let text = '';
  return new Promise((resolve) => {
    pipe.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (text.endsWith('\n')) resolve(Number(text));
    });
    pipe.on('close', () => resolve(undefined));
  });
}

/** Runs a command to its end. Throws `LabCommandError` when it fails (unless `mayFail`) or takes too long. */
export async function runInside(
  entrance: Entrance,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = await LabProcess.start(entrance, argv, { ...options, stdin: options.stdin ?? '' });
  const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS;
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  const startedAt = performance.now();
  const status = await child.exit.finally(() => clearTimeout(timer));
  const result = { code: status.code ?? -1, stdout: child.stdout, stderr: child.stderr };
  if (status.signal === 'SIGKILL' && performance.now() - startedAt >= timeoutMs) {
    throw new LabCommandError(entrance.name, argv, `did not end within ${timeoutMs} ms`, result);
  }
  if (result.code !== 0 && options.mayFail !== true) {
    throw new LabCommandError(entrance.name, argv, `failed (${statusText(status)})`, result);
  }
  return result;
}

/**
 * A command that leads a session of its own, and gets ten times the processor of another one, as the systemd unit has it
 * for lbd by CPUWeight=1000: the kernel weighs sessions against each other (sched(7), autogroup), and priorities only
 * within one. On a kernel that does not, it is the command and no more.
 */
export function favoured(argv: readonly string[]): readonly string[] {
  return ['setsid', 'sh', '-c', FAVOUR, 'sh', ...argv];
}

/** A nice value: each step is a quarter more or less. */
const FAVOUR = '{ echo -10 >/proc/self/autogroup; } 2>/dev/null; exec "$@"';

function statusText(status: ExitStatus): string {
  return status.signal === null ? `exit status ${status.code}` : status.signal;
}
