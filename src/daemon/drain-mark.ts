import { statSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { makeDirectory } from '../sys/directory.ts';
import { replaceFile } from '../sys/replace-file.ts';

const FILE_NAME = 'drained';
const TEXT = 'lbd takes no address on this host until "lbctl undrain".\n';

/**
 * That an operator drained this host: the file `drained` in the state directory, which is there or not, so that a restart,
 * an upgrade and a reboot find the host as it was left.
 */
export class DrainMark {
  readonly #directory: string;
  readonly #path: string;
  readonly #logger: Logger;
  /** What the file says, as far as known; undefined after a failure. */
  #written: boolean | undefined;
  #problem: string | undefined;
  /** One change after the other, so that the last one stands. */
  #changing: Promise<void> = Promise.resolve();

  constructor(directory: string, logger: Logger) {
    this.#directory = directory;
    this.#path = join(directory, FILE_NAME);
    this.#logger = logger;
    this.#written = this.#read();
  }

  /** Whether the last life of this host was drained; false when that cannot be found out, which is logged. */
  get isSet(): boolean {
    return this.#written === true;
  }

  /** Why the next start would find something else than what was last asked for; undefined when it would not. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Resolves when it is on the disk, or cannot be: then `problem` says why. Never rejects. */
  set(isDrained: boolean): Promise<void> {
    this.#changing = this.#changing.then(() => this.#change(isDrained));
    return this.#changing;
  }

  #read(): boolean | undefined {
    try {
      return statSync(this.#path, { throwIfNoEntry: false }) !== undefined;
    } catch (error) {
      this.#fail(`cannot read ${this.#path}: ${errorText(error)}`);
      return undefined;
    }
  }

  async #change(isDrained: boolean): Promise<void> {
    if (isDrained === this.#written) return;
    this.#written = undefined;
    try {
      await (isDrained ? this.#write() : this.#remove());
      this.#written = isDrained;
      this.#problem = undefined;
    } catch (error) {
      const what = isDrained
        ? 'the drain would not survive a restart'
        : 'a restart would drain this host again';
      this.#fail(`${what}: cannot ${isDrained ? 'write' : 'remove'} ${this.#path}: ${errorText(error)}`);
    }
  }

  async #write(): Promise<void> {
    makeDirectory(this.#directory, 0o750);
    await replaceFile(this.#path, TEXT, 0o640);
  }

  async #remove(): Promise<void> {
    await rm(this.#path, { force: true });
    // Where there is no such directory there is nothing that a power cut could bring back.
    const isThere = statSync(this.#directory, { throwIfNoEntry: false }) !== undefined;
    const directory = isThere ? await open(this.#directory, 'r') : undefined;
    await directory?.sync().finally(() => directory.close());
  }

  #fail(problem: string): void {
    if (this.#problem !== problem) this.#logger.error({ problem }, 'gossip.drain-mark.failed');
    this.#problem = problem;
  }
}
