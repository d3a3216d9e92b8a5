import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { SOURCE_ENVIRONMENT } from '../../support/lab-source.ts';

const ROOT = new URL('../../../', import.meta.url);

export type Ended = {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** A process of its own for a piece of lbd: what it says is collected, and it goes with the test at the latest. */
export class Child {
  readonly process: ChildProcess;
  stdout = '';
  stderr = '';
  readonly #ended: Promise<Ended>;

  private constructor(t: TestContext, command: string, args: readonly string[]) {
    const env = { ...process.env, ...SOURCE_ENVIRONMENT };
    this.process = spawn(command, args, { cwd: ROOT, env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.#ended = once(this.process, 'close').then(([code, signal]) => {
      return { code, signal, stdout: this.stdout, stderr: this.stderr };
    });
    t.after(() => this.process.kill('SIGKILL'));
  }

  /** Runs `script`, the body of a module whose imports start at the project's root. */
  static script(t: TestContext, script: string): Child {
    return new Child(t, process.execPath, ['--input-type=module-typescript', '--eval', script]);
  }

  static run(t: TestContext, command: string, ...args: readonly string[]): Child {
    return new Child(t, command, args);
  }

  /** Resolves with the first line on stdout. */
  async firstLine(): Promise<string> {
    while (!this.stdout.includes('\n')) {
      const { stdout } = this.process;
      if (stdout === null) throw new Error('stdout is not ours');
      await Promise.race([once(stdout, 'data'), this.#ended]);
      if (this.process.exitCode !== null && !this.stdout.includes('\n')) {
        throw new Error(`ended with ${this.process.exitCode}: ${this.stderr}`);
      }
    }
    return this.stdout.slice(0, this.stdout.indexOf('\n'));
  }

  ended(): Promise<Ended> {
    return this.#ended;
  }
}
