import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { LbdError } from '../../src/lib/errors.ts';
import type { Entrance } from './lab-process.ts';
import { within } from './wait.ts';

const BOOT_TIMEOUT_MS = 20_000;
/** ip, nft and bridge are in sbin, which is not on everybody's path. */
export const COMMAND_PATH = `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`;
const SCRIPTS = fileURLToPath(new URL('.', import.meta.url));

/**
 * The process that a lab lives in: PID 1 of its PID namespace (`lab-init.sh`), whose network namespace is the switch.
 * It ends when the pipe from this process does, so a killed test run leaves nothing behind.
 */
export class LabKeeper {
  readonly #unshare: ChildProcess;
  readonly #up = new Map<string, PromiseWithResolvers<number>>();
  readonly #down = new Map<string, PromiseWithResolvers<void>>();
  readonly #ended: Promise<void>;
  #stderr = '';
  #pid = 0;

  private constructor(name: string) {
    this.#unshare = spawn(
      'setpriv',
      // biome-ignore format: one command line
      ['--pdeathsig', 'KILL', 'unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--',
        'sh', `${SCRIPTS}lab-init.sh`, SCRIPTS],
      { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: COMMAND_PATH, LBD_LAB: name } },
    );
    this.#unshare.stdin?.on('error', () => {});
    this.#unshare.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    this.#readReports();
    this.#ended = once(this.#unshare, 'close').then(() => this.#failWaiting('the lab has ended'));
    this.#ended.catch(() => {});
  }

  /** `name` is in the environment of every process of the lab, as LBD_LAB. */
  static async start(name: string): Promise<LabKeeper> {
    if (process.getuid?.() !== 0) throw new LbdError('lab.not-root', 'a lab needs root, to make namespaces');
    if (SCRIPTS.startsWith('/run/'))
      throw new LbdError('lab.place', `a lab hides /run, so it cannot run from ${SCRIPTS}`);
    const keeper = new LabKeeper(name);
    keeper.#pid = await keeper.#expectUp('switch');
    return keeper;
  }

  /** The real pid of PID 1 of the lab. */
  get pid(): number {
    return this.#pid;
  }

  /** The network namespace that the bridges are in. Its processes are not in the lab's PID namespace. */
  get switchEntrance(): Entrance {
    return {
      name: 'switch',
      nsenter: [`--target=${this.#pid}`, '--net', '--mount'],
      env: { PATH: COMMAND_PATH },
    };
  }

  /** Starts the namespaces of a host; resolves with the real pid of its PID 1. */
  boot(name: string): Promise<number> {
    this.#down.set(name, Promise.withResolvers());
    const up = this.#expectUp(name);
    this.#unshare.stdin?.write(`host ${name}\n`);
    return up;
  }

  /** Resolves when PID 1 of the host has ended. */
  async gone(name: string): Promise<void> {
    const down = this.#down.get(name);
    if (down !== undefined) await within(down.promise, BOOT_TIMEOUT_MS, () => `host ${name} to end`);
  }

  /** Ends the lab: when it resolves, none of its processes is left. */
  async close(): Promise<void> {
    this.#unshare.stdin?.end();
    await within(this.#ended, BOOT_TIMEOUT_MS, () => 'the lab to end');
  }

  /** Lets this process end although the lab is up; the lab then ends with it. */
  unref(): void {
    this.#unshare.unref();
    for (const stream of [this.#unshare.stdin, this.#unshare.stdout, this.#unshare.stderr]) {
      if (stream !== null && 'unref' in stream && typeof stream.unref === 'function') stream.unref();
    }
  }

  #expectUp(name: string): Promise<number> {
    const up = Promise.withResolvers<number>();
    this.#up.set(name, up);
    return within(up.promise, BOOT_TIMEOUT_MS, () => `${name} of the lab to come up: ${this.#stderr}`);
  }

  #readReports(): void {
    let rest = '';
    this.#unshare.stdout?.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const [verb, name = '', pid] = line.split(' ');
        if (verb === 'up') this.#up.get(name)?.resolve(Number(pid));
        if (verb !== 'down') continue;
        this.#down.get(name)?.resolve();
        this.#up.get(name)?.reject(this.#failure(`host ${name} did not come up`));
      }
    });
  }

  #failWaiting(what: string): void {
    for (const up of this.#up.values()) {
      up.promise.catch(() => {});
      up.reject(this.#failure(what));
    }
    for (const down of this.#down.values()) down.resolve();
  }

  #failure(what: string): LbdError {
    return new LbdError('lab.boot', `${what}: ${this.#stderr.trim() || '(no output)'}`);
  }
}
