import { fileURLToPath } from 'node:url';
import type { LabHost } from './lab-host.ts';
import { favoured, type LabProcess } from './lab-process.ts';
import { SOURCE_ENVIRONMENT } from './lab-source.ts';

const PROGRAM = fileURLToPath(new URL('http-load.ts', import.meta.url));

/** One request. Times are `labTimeMs`. */
export type HttpRequest = {
  readonly at: number;
  /** How long it took. */
  readonly ms: number;
  /** What was answered: the name of the host, from the servers of `cluster.ts`. */
  readonly by?: string;
  /** Why it failed; undefined when it was answered. */
  readonly error?: string;
};

export type Failures = {
  /** Of requests that were under way when both hosts had the address, or began then. */
  readonly atSwitch: readonly HttpRequest[];
  readonly others: readonly HttpRequest[];
};

/** A client of the lab that sends HTTP requests at a steady rate, each on a connection of its own. */
export class HttpLoad {
  readonly #program: LabProcess;

  private constructor(program: LabProcess) {
    this.#program = program;
  }

  /** Resolves when the first requests are sent. */
  static async start(client: LabHost, ip: string, perSecond = 200): Promise<HttpLoad> {
    const program = await client.spawn(favoured([process.execPath, PROGRAM, ip, String(perSecond)]), {
      env: SOURCE_ENVIRONMENT,
    });
    await program.waitForLine(/started/);
    return new HttpLoad(program);
  }

  /** Resolves when the last request has its answer. */
  async stop(): Promise<readonly HttpRequest[]> {
    await this.#program.stop('SIGINT');
    return this.#program.stdout
      .split('\n')
      .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
  }
}

/** Those that failed, by whether they met the time in which both hosts had the address. */
export function failuresOf(
  requests: readonly HttpRequest[],
  overlap: { readonly fromMs: number; readonly toMs: number },
): Failures {
  const failed = requests.filter(({ error }) => error !== undefined);
  const met = Map.groupBy(failed, ({ at, ms }) => at <= overlap.toMs && at + ms >= overlap.fromMs);
  return { atSwitch: met.get(true) ?? [], others: met.get(false) ?? [] };
}

/**
 * How long after `fromMs` the requests had gone over to the host `to`: until the first answer of it to one of those requests
 * since which none was answered by another or not at all. Undefined when they never did.
 */
export function followedAfterMs(
  requests: readonly HttpRequest[],
  to: string,
  fromMs: number,
): number | undefined {
  const since = requests.filter(({ at, ms }) => at + ms >= fromMs).sort((left, right) => left.at - right.at);
  const over = since.slice(since.findLastIndex(({ by }) => by !== to) + 1);
  return over.length === 0 ? undefined : Math.min(...over.map(({ at, ms }) => at + ms)) - fromMs;
}
