/** Keeps `services.json` in the state directory: read once at start, written behind changes, always whole. */

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { makeDirectory } from '../../sys/directory.ts';
import { replaceFile } from '../../sys/replace-file.ts';
import type { Item } from '../objects.ts';
import { cacheText, LARGEST_CACHE_BYTES, parseCache } from '../service-cache.ts';
import type { Service } from '../types.ts';

const FILE_NAME = 'services.json';
const DEBOUNCE_MS = 1_000;
/** After a write that took long (10,000 Services on a slow disk), the next waits so many times longer. */
const REST_FACTOR = 50;
/** After a failure (a full disk) the next try. */
const RETRY_MS = 30_000;

export type ServiceCacheFileOptions = {
  readonly directory: string;
  /** Of which cluster the Services are. */
  readonly server: string;
  /** What to write, asked for when it is time. */
  readonly services: () => Iterable<Service>;
  readonly logger: Logger;
};

export class ServiceCacheFile {
  readonly #options: ServiceCacheFileOptions;
  readonly #path: string;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #dirty = false;
  #restUntil = 0;
  #problem: string | undefined;
  #written = '';

  constructor(options: ServiceCacheFileOptions) {
    this.#options = options;
    this.#path = join(options.directory, FILE_NAME);
  }

  /** Why the file is not up to date; undefined when it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** The Services of the last run; none when there is no usable file (a damaged one is reported). Never throws. */
  load(): readonly Item<Service>[] {
    const { logger, server } = this.#options;
    try {
      const { size } = statSync(this.#path);
      if (size > LARGEST_CACHE_BYTES)
        throw new Error(`it has ${size} bytes, expected at most ${LARGEST_CACHE_BYTES}`);
      const parsed = parseCache(readFileSync(this.#path, 'utf8'), server);
      if (parsed.ok) return parsed.value;
      logger.warn({ file: this.#path, problem: parsed.error }, 'kube.cache.ignored');
    } catch (error) {
      const absent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (!absent) logger.warn({ file: this.#path, problem: errorText(error) }, 'kube.cache.ignored');
    }
    return [];
  }

  /** Says that the Services changed: the file follows within about a second. */
  changed(): void {
    this.#dirty = true;
    if (this.#timer !== undefined || this.#writing !== undefined) return;
    const waitMs = Math.max(DEBOUNCE_MS, this.#restUntil - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#write();
    }, waitMs);
    this.#timer.unref();
  }

  /** Writes what is not written yet and ends. Never rejects. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#writing;
    clearTimeout(this.#timer);
    if (this.#dirty) await this.#write();
    clearTimeout(this.#timer);
  }

  async #write(): Promise<void> {
    this.#dirty = false;
    this.#writing = this.#attempt().finally(() => {
      this.#writing = undefined;
    });
    await this.#writing;
    if (this.#dirty) this.changed();
  }

  async #attempt(): Promise<void> {
    const started = performance.now();
    try {
      await this.#replace();
      if (this.#problem !== undefined)
        this.#options.logger.info({ file: this.#path }, 'kube.cache.recovered');
      this.#problem = undefined;
      const ended = performance.now();
      this.#restUntil = ended + (ended - started) * REST_FACTOR;
    } catch (error) {
      this.#fail(`cannot write ${this.#path}: ${errorText(error)}`);
    }
  }

  #fail(problem: string): void {
    if (this.#problem !== problem) this.#options.logger.error({ problem }, 'kube.cache.failed');
    this.#problem = problem;
    this.#dirty = true;
    this.#restUntil = performance.now() + RETRY_MS;
  }

  async #replace(): Promise<void> {
    const { text, omitted } = cacheText(this.#options.services(), this.#options.server);
    if (text === this.#written) return;
    if (omitted > 0) this.#options.logger.warn({ file: this.#path, omitted }, 'kube.cache.full');
    makeDirectory(this.#options.directory, 0o750);
    await replaceFile(this.#path, text, 0o640);
    this.#written = text;
  }
}
