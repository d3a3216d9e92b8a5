import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { errorText } from '../../lib/errors.ts';
import { parseIp } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import { makeDirectory } from '../../sys/directory.ts';
import { replaceFile } from '../../sys/replace-file.ts';
import { MAX_NAME_BYTES } from '../codec-fields.ts';
import type { Claim, Endpoint, MemberName, PersistentState } from '../types.ts';

const FILE_NAME = 'gossip.json';
const FORMAT = 1;
/** As many claims and members as there may be, in text. */
const MAX_FILE_BYTES = 16 * 1024 * 1024;
const MAX_PEERS = 4_096;
const MAX_CLAIMS = 65_536;
const DEBOUNCE_MS = 500;
/** After a write that took long, the next waits so many times longer. */
const REST_FACTOR = 50;
/** After a failure (a full disk) the next try. */
const RETRY_MS = 30_000;

export type StateFileOptions = {
  readonly directory: string;
  /** What to write, asked for when it is time. */
  readonly state: () => PersistentState;
  readonly logger: Logger;
};

/** What the election remembers across restarts: `gossip.json` in the state directory, always whole. */
export class StateFile {
  readonly #options: StateFileOptions;
  readonly #path: string;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #isDirty = false;
  #restUntilMs = 0;
  #problem: string | undefined;
  #written = '';

  constructor(options: StateFileOptions) {
    this.#options = options;
    this.#path = join(options.directory, FILE_NAME);
  }

  /** Why the file is not up to date; undefined when it is. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** What the last run left; undefined when there is nothing usable (a damaged file is reported). Never throws. */
  load(): PersistentState | undefined {
    const { logger } = this.#options;
    try {
      const { size } = statSync(this.#path);
      if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes, expected at most ${MAX_FILE_BYTES}`);
      return parseState(readFileSync(this.#path, 'utf8'));
    } catch (error) {
      const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (!isAbsent) logger.warn({ file: this.#path, problem: errorText(error) }, 'gossip.state.ignored');
      return undefined;
    }
  }

  /** Says that the state changed: the file follows in half a second. */
  changed(): void {
    this.#isDirty = true;
    if (this.#timer !== undefined || this.#writing !== undefined) return;
    const waitMs = Math.max(DEBOUNCE_MS, this.#restUntilMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#write();
    }, waitMs);
    this.#timer.unref();
  }

  /** Writes what is not written yet and ends. Never rejects. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#writing;
    clearTimeout(this.#timer);
    if (this.#isDirty) await this.#write();
    clearTimeout(this.#timer);
  }

  async #write(): Promise<void> {
    this.#isDirty = false;
    this.#writing = this.#attempt().finally(() => {
      this.#writing = undefined;
    });
    await this.#writing;
    if (this.#isDirty) this.changed();
  }

  async #attempt(): Promise<void> {
    const startedMs = performance.now();
    try {
      await this.#replace();
      if (this.#problem !== undefined)
        this.#options.logger.info({ file: this.#path }, 'gossip.state.recovered');
      this.#problem = undefined;
      const endedMs = performance.now();
      this.#restUntilMs = endedMs + (endedMs - startedMs) * REST_FACTOR;
    } catch (error) {
      this.#fail(`cannot write ${this.#path}: ${errorText(error)}`);
    }
  }

  #fail(problem: string): void {
    if (this.#problem !== problem) this.#options.logger.error({ problem }, 'gossip.state.failed');
    this.#problem = problem;
    this.#isDirty = true;
    this.#restUntilMs = performance.now() + RETRY_MS;
  }

  async #replace(): Promise<void> {
    const text = stateText(this.#options.state());
    if (text === this.#written) return;
    makeDirectory(this.#options.directory, 0o750);
    await replaceFile(this.#path, text, 0o640);
    this.#written = text;
  }
}

/** One line of JSON; addresses and claims as short lists, because there can be ten thousands of them. */
export function stateText({ incarnation, memberCount, peers, claims }: PersistentState): string {
  return `${JSON.stringify({
    format: FORMAT,
    incarnation,
    memberCount,
    peers: peers.slice(0, MAX_PEERS).map(({ ip, port }) => [ip, port]),
    claims: claims.slice(0, MAX_CLAIMS).map(({ ip, owner, epoch }) => [ip, owner ?? null, epoch]),
  })}\n`;
}

/** Throws when the text is no state at all; an entry of a list that is none is left out. */
export function parseState(text: string): PersistentState {
  const document: unknown = JSON.parse(text);
  if (typeof document !== 'object' || document === null) throw new Error('expected a JSON object');
  const { format, incarnation, memberCount, peers, claims } = document as Readonly<Record<string, unknown>>;
  if (format !== FORMAT) throw new Error(`expected format ${FORMAT}, got ${String(format)}`);
  if (!isCount(incarnation)) throw new Error(`expected an incarnation, got ${String(incarnation)}`);
  return {
    incarnation,
    memberCount: isCount(memberCount) ? memberCount : 0,
    peers: listOf(peers, MAX_PEERS).flatMap(toPeer),
    claims: listOf(claims, MAX_CLAIMS).flatMap(toClaim),
  };
}

function listOf(value: unknown, max: number): readonly (readonly unknown[])[] {
  return Array.isArray(value) ? value.slice(0, max).filter((entry) => Array.isArray(entry)) : [];
}

function toPeer([address, port]: readonly unknown[]): readonly Endpoint[] {
  const ip = typeof address === 'string' ? parseIp(address) : undefined;
  return ip !== undefined && isCount(port) && port >= 1 && port <= 65_535 ? [{ ip, port }] : [];
}

function toClaim([address, owner, epoch]: readonly unknown[]): readonly Claim[] {
  const ip = typeof address === 'string' ? parseIp(address) : undefined;
  if (ip === undefined || !isCount(epoch) || epoch < 1) return [];
  if (owner === null) return [{ ip, owner: undefined, epoch }];
  const isName = typeof owner === 'string' && /^[\x21-\x7e]+$/.test(owner) && owner.length <= MAX_NAME_BYTES;
  return isName ? [{ ip, owner: owner as MemberName, epoch }] : [];
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
