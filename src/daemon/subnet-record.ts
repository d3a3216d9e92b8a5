import { readFileSync } from 'node:fs';
import type { RememberedSubnet } from '../iface/virtual-locality.ts';
import { errorText } from '../lib/errors.ts';
import { formatPrefix, parsePrefix } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import type { Instant } from '../lib/time.ts';
import { replaceFile } from '../sys/replace-file.ts';

/**
 * The subnets of this host and of the members, and the NICs that carried addresses, kept in the state directory: after a
 * boot, lbd may know the Services from its cache before the NICs have their addresses, and must not take an address of
 * another host for one of nobody.
 */
export type Remembered = {
  readonly subnets: readonly RememberedSubnet[];
  /** By name. */
  readonly nics: readonly string[];
};

const FORMAT = 1;
/** Far more than there may be. */
const FILE_BYTES_MAX = 1 << 20;
const SUBNETS_MAX = 4_096;
const NICS_MAX = 256;
const NIC_NAME = /^[^\s/]{1,15}$/;
const NOTHING: Remembered = { subnets: [], nics: [] };

export type SubnetRecordOptions = {
  readonly directory: string;
  readonly logger: Logger;
  /** The time of day in ms, which goes on while the host is off, unlike `Instant`. */
  readonly wallClock?: () => number;
};

export class SubnetRecord {
  readonly #file: string;
  readonly #logger: Logger;
  readonly #wallClock: () => number;
  #written = '';
  #isWriting = false;
  #problem: string | undefined;

  constructor({ directory, logger, wallClock = Date.now }: SubnetRecordOptions) {
    this.#file = `${directory}/subnets.json`;
    this.#logger = logger;
    this.#wallClock = wallClock;
  }

  /** What the last run left; nothing when there is nothing usable, which is logged unless the file is absent. */
  load(now: Instant): Remembered {
    try {
      const text = readFileSync(this.#file, 'utf8');
      if (text.length > FILE_BYTES_MAX)
        throw new Error(`expected at most ${FILE_BYTES_MAX} characters, got ${text.length}`);
      return parse(text, now - this.#wallClock());
    } catch (error) {
      const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (!isAbsent)
        this.#logger.warn({ file: this.#file, error: errorText(error) }, 'state.subnets-ignored');
      return NOTHING;
    }
  }

  /** Writes what is new. Never throws; what fails is logged once, and tried again with the next call. */
  save(remembered: Remembered, now: Instant): void {
    const key = JSON.stringify(remembered);
    if (this.#isWriting || key === this.#written) return;
    this.#isWriting = true;
    void this.#write(textOf(remembered, this.#wallClock() - now)).then((isWritten) => {
      this.#isWriting = false;
      if (isWritten) this.#written = key;
    });
  }

  async #write(text: string): Promise<boolean> {
    try {
      await replaceFile(this.#file, text, 0o640);
      this.#problem = undefined;
      return true;
    } catch (error) {
      const problem = errorText(error);
      if (problem !== this.#problem)
        this.#logger.warn({ file: this.#file, error: problem }, 'state.write-failed');
      this.#problem = problem;
      return false;
    }
  }
}

/** `wallAtZero` is the time of day at the instant 0. */
function textOf({ subnets, nics }: Remembered, wallAtZero: number): string {
  const entries = subnets.slice(-SUBNETS_MAX).map(({ subnet, goneAt }) => {
    return [formatPrefix(subnet), goneAt === undefined ? null : Math.round(goneAt + wallAtZero)];
  });
  return `${JSON.stringify({ format: FORMAT, subnets: entries, nics: nics.slice(0, NICS_MAX) })}\n`;
}

/** Throws when the text is no record at all; an entry of a list that is none is left out. */
function parse(text: string, zeroAtWall: number): Remembered {
  const document: unknown = JSON.parse(text);
  if (typeof document !== 'object' || document === null) throw new Error('expected a JSON object');
  const { format, subnets, nics } = document as Readonly<Record<string, unknown>>;
  if (format !== FORMAT) throw new Error(`expected format ${FORMAT}, got ${String(format)}`);
  return {
    subnets: listOf(subnets, SUBNETS_MAX).flatMap((entry) => toSubnet(entry, zeroAtWall)),
    nics: listOf(nics, NICS_MAX).filter(
      (name) => typeof name === 'string' && NIC_NAME.test(name),
    ) as string[],
  };
}

function listOf(value: unknown, max: number): readonly unknown[] {
  return Array.isArray(value) ? value.slice(0, max) : [];
}

function toSubnet(entry: unknown, zeroAtWall: number): readonly RememberedSubnet[] {
  if (!Array.isArray(entry) || typeof entry[0] !== 'string') return [];
  const parsed = parsePrefix(entry[0]);
  if (!parsed.ok) return [];
  const goneAtWall: unknown = entry[1];
  const goneAt = typeof goneAtWall === 'number' ? ((goneAtWall + zeroAtWall) as Instant) : undefined;
  return [{ subnet: parsed.value, goneAt }];
}
