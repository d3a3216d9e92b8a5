import { lookup } from 'node:dns/promises';
import { errorText } from '../../lib/errors.ts';
import { type Ip, parseIp } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Random } from '../../lib/prng.ts';
import { doublingPauseMs } from '../../lib/time.ts';
import type { Endpoint } from '../types.ts';

/** A name is asked for again after so long, and after a failure after the first of these, doubled up to the last. */
const REFRESH_MS = 60_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
/** Up to so much earlier or later, so that a thousand hosts do not ask at once. */
const JITTER = 0.2;
/** What a headless Service of the largest cluster answers. */
const MAX_ADDRESSES_PER_NAME = 1_024;

/** An address or a name, and the port there. */
export type Seed = { readonly host: string; readonly port: number };

export type SeedResolverOptions = {
  readonly seeds: readonly Seed[];
  readonly random: Random;
  readonly logger: Logger;
  /** All that is known, at the start and whenever it changes; names that do not resolve keep what they last gave. */
  readonly onEndpoints: (endpoints: readonly Endpoint[]) => void;
  /** Every address of a name; default: the system's resolver, /etc/hosts included. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
};

type Name = {
  readonly seed: Seed;
  addresses: readonly Ip[];
  failures: number;
  timer: NodeJS.Timeout | undefined;
};

/** Turns the seeds of the configuration into endpoints, and goes on asking for those that are names. */
export class SeedResolver {
  readonly #options: SeedResolverOptions;
  readonly #fixed: readonly Endpoint[];
  readonly #names: readonly Name[];
  #reported: string | undefined;
  #isClosed = false;

  constructor(options: SeedResolverOptions) {
    this.#options = options;
    this.#fixed = options.seeds.flatMap(({ host, port }) => {
      const ip = parseIp(host);
      return ip === undefined ? [] : [{ ip, port }];
    });
    this.#names = options.seeds
      .filter(({ host }) => parseIp(host) === undefined)
      .map((seed) => ({ seed, addresses: [], failures: 0, timer: undefined }));
  }

  start(): void {
    this.#report();
    for (const name of this.#names) void this.#resolve(name);
  }

  close(): void {
    this.#isClosed = true;
    for (const name of this.#names) clearTimeout(name.timer);
  }

  async #resolve(name: Name): Promise<void> {
    const { logger, resolve = resolveBySystem } = this.#options;
    try {
      const found = (await resolve(name.seed.host)).flatMap((text) => parseIp(text) ?? []);
      if (found.length === 0) throw new Error('it has no address');
      if (name.failures > 0) logger.info({ seed: name.seed.host }, 'gossip.seed.resolved');
      name.failures = 0;
      name.addresses = found.slice(0, MAX_ADDRESSES_PER_NAME).sort();
    } catch (error) {
      name.failures++;
      // The first time it is news; after that, only that it goes on.
      if (name.failures === 1) {
        logger.warn({ seed: name.seed.host, error: errorText(error) }, 'gossip.seed.unresolved');
      }
    }
    if (this.#isClosed) return;
    this.#report();
    name.timer = setTimeout(() => void this.#resolve(name), this.#pauseMs(name));
  }

  #pauseMs({ failures }: Name): number {
    const pauseMs = failures === 0 ? REFRESH_MS : doublingPauseMs(failures, FIRST_RETRY_MS, LAST_RETRY_MS);
    return pauseMs * (1 - JITTER + 2 * JITTER * this.#options.random());
  }

  #report(): void {
    const endpoints = new Map<string, Endpoint>();
    for (const endpoint of this.#fixed) endpoints.set(`${endpoint.ip} ${endpoint.port}`, endpoint);
    for (const { seed, addresses } of this.#names) {
      for (const ip of addresses) endpoints.set(`${ip} ${seed.port}`, { ip, port: seed.port });
    }
    const text = [...endpoints.keys()].join();
    if (text === this.#reported) return;
    this.#reported = text;
    this.#options.onEndpoints([...endpoints.values()]);
  }
}

async function resolveBySystem(name: string): Promise<readonly string[]> {
  const found = await lookup(name, { all: true, order: 'verbatim' });
  return found.map(({ address }) => address);
}
