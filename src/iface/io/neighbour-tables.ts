import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../lib/logger.ts';
import { after, type Instant } from '../../lib/time.ts';

/**
 * Whether the kernel's tables of neighbours overflow. It makes an entry for whoever asks it for an address, and answers
 * nobody for whom there is no room (arp_process in net/ipv4/arp.c, ndisc_recv_ns in net/ipv6/ndisc.c): the addresses are
 * there, and new clients do not reach them. The tables are those of the whole machine, so a network namespace sees none.
 */

const LOOK_INTERVAL_MS = 5_000;
/** A table that refused somebody counts as full for so long: it has room for others in between, as entries end. */
const FULL_MS = 60_000;

const TABLES = [
  { family: 'IPv4', file: 'net/stat/arp_cache', limit: 'net/ipv4/neigh/default/gc_thresh3' },
  { family: 'IPv6', file: 'net/stat/ndisc_cache', limit: 'net/ipv6/neigh/default/gc_thresh3' },
] as const;

type Table = (typeof TABLES)[number];

/** `refused` since the boot, of which those since `before` count now. */
type State = { readonly refused: number; readonly before: number; readonly fullUntil: Instant };

export type NeighbourTablesOptions = {
  readonly logger: Logger;
  readonly now: () => Instant;
  /** In place of /proc, for tests. */
  readonly root?: string;
};

export class NeighbourTables {
  readonly #logger: Logger;
  readonly #now: () => Instant;
  readonly #root: string;
  readonly #states = new Map<Table, State>();
  readonly #timer: NodeJS.Timeout;

  constructor({ logger, now, root = '/proc' }: NeighbourTablesOptions) {
    this.#logger = logger;
    this.#now = now;
    this.#root = root;
    this.look();
    this.#timer = setInterval(() => this.look(), LOOK_INTERVAL_MS);
    this.#timer.unref();
  }

  look(): void {
    for (const table of TABLES) {
      const refused = columnSum(this.#read(table.file), 'table_fulls');
      if (refused !== undefined) this.#states.set(table, this.#next(table, refused));
    }
  }

  /** A sentence for each table that is full. */
  problems(): readonly string[] {
    const now = this.#now();
    return [...this.#states].flatMap(([{ family, limit }, { refused, before, fullUntil }]) => {
      if (now >= fullUntil) return [];
      const size = this.#read(`sys/${limit}`)?.trim() ?? 'unknown';
      return [
        `the kernel's table of ${family} neighbours is full: it refused ${refused - before} of them, which this host neither ` +
          `answers nor reaches; raise ${limit.replaceAll('/', '.')} (now ${size})`,
      ];
    });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #next(table: Table, refused: number): State {
    const now = this.#now();
    // What was refused before lbd came may be long ago.
    const known = this.#states.get(table) ?? { refused, before: refused, fullUntil: now };
    if (refused <= known.refused) return { ...known, refused };
    const isNews = now >= known.fullUntil;
    const before = isNews ? known.refused : known.before;
    if (isNews) this.#logger.warn({ family: table.family, refused: refused - before }, 'neighbours.full');
    return { refused, before, fullUntil: after(now, FULL_MS) };
  }

  #read(path: string): string | undefined {
    try {
      return readFileSync(join(this.#root, path), 'utf8');
    } catch {
      // No such table: in a network namespace, and without IPv6.
      return undefined;
    }
  }
}

/** Of /proc/net/stat: a line of names, then one of hexadecimal numbers for each processor. */
function columnSum(text: string | undefined, name: string): number | undefined {
  const [names = [], ...rows] = (text ?? '')
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  const column = names.indexOf(name);
  if (column < 0) return undefined;
  return rows.reduce((sum, row) => sum + Number.parseInt(row[column] ?? '0', 16), 0);
}
