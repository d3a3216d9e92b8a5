import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../test/support/cluster.ts';
import { setEndpoints } from '../test/support/endpoints.ts';
import { followedAfterMs, HttpLoad } from '../test/support/http-requests.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import { type Figures, median, percentile } from './harness.ts';

/**
 * How soon a client's requests are answered where the endpoints are, when the only endpoint of a Service with
 * externalTrafficPolicy Local moves to another host: from the answer to the change of the EndpointSlice to the first request
 * from which on all are answered there. Three hosts, real binary, 200 requests a second on connections of their own.
 */

const BENCH = 'network-policy';
const ROUNDS = Number(process.env['ROUNDS'] ?? 20);
const FOLLOWS_MS = 100;

export async function run(figures: Figures): Promise<void> {
  const cluster = await Cluster.start({ hosts: 3 });
  try {
    await Promise.all([cluster.startAll(), cluster.startWebServers()]);
    const moves = await movesOf(cluster);
    const record = (name: string, value: number, unit: string, atMost?: number): void =>
      figures.record({
        bench: BENCH,
        case: `endpoint of a Local Service moves: ${name}`,
        value,
        unit,
        target: atMost === undefined ? undefined : { atMost },
        against: `${moves.length} times`,
      });
    const followed = moves.map(({ followedMs }) => followedMs);
    record('requests follow after, median', median(followed), 'ms', FOLLOWS_MS);
    record('requests follow after, 90th percentile', percentile(followed, 0.9), 'ms');
    record('requests follow after, max', Math.max(...followed), 'ms');
    record('requests that failed', Math.max(...moves.map(({ failed }) => failed)), 'at most in one move');
  } finally {
    await cluster.close();
  }
}

type Move = { readonly followedMs: number; readonly failed: number };

async function movesOf(cluster: Cluster): Promise<readonly Move[]> {
  const { api } = cluster.lab;
  const [first] = cluster.hosts;
  if (first === undefined) throw new Error('no hosts');
  await setEndpoints(api, 'follow', [first]);
  const { ip } = await cluster.serve({ name: 'follow', spec: { externalTrafficPolicy: 'Local' } });
  const moves: Move[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const to = cluster.hosts[round % cluster.hosts.length] as LabHost;
    const load = await HttpLoad.start(cluster.client, ip, 200);
    await sleep(300 + 200 * Math.random());
    const { answeredAtMs } = await setEndpoints(api, 'follow', [to]);
    await sleep(1_500);
    const requests = await load.stop();
    const followedMs = followedAfterMs(requests, to.name, answeredAtMs) ?? Number.POSITIVE_INFINITY;
    moves.push({ followedMs, failed: requests.filter(({ error }) => error !== undefined).length });
  }
  return moves;
}
