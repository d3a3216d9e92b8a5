import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { type Seed, SeedResolver } from '../../../src/election/io/seeds.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { seededRandom } from '../../../src/lib/prng.ts';

type Answer = readonly string[] | Error;

const resolvers: SeedResolver[] = [];

afterEach(() => {
  for (const resolver of resolvers.splice(0)) resolver.close();
  mock.timers.reset();
});

/** A resolver whose name server gives these answers in turn, and what it reported. */
function resolver(seeds: readonly Seed[], answers: Record<string, Answer[]>) {
  mock.timers.enable({ apis: ['setTimeout'] });
  const reported: string[][] = [];
  const logged: string[] = [];
  const asked: string[] = [];
  const subject = new SeedResolver({
    seeds,
    random: seededRandom(1),
    logger: {
      ...SILENT_LOGGER,
      warn: (_fields, event) => logged.push(event),
      info: (_fields, event) => logged.push(event),
    },
    onEndpoints: (endpoints) => reported.push(endpoints.map(({ ip, port }) => `${ip} ${port}`)),
    resolve: (name) => {
      asked.push(name);
      const answer = answers[name]?.shift() ?? new Error('ENOTFOUND');
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  });
  resolvers.push(subject);
  return { subject, reported, logged, asked };
}

/** Lets the promises of what just happened settle. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function pass(ms: number): Promise<void> {
  mock.timers.tick(ms);
  await settle();
}

test('SeedResolver gives addresses at once, without asking anybody', async () => {
  const seeds = [
    { host: '192.0.2.1', port: 7946 },
    { host: '2001:db8:0::1', port: 7000 },
    { host: '192.0.2.1', port: 7946 },
  ];
  const { subject, reported, asked } = resolver(seeds, {});
  subject.start();
  await settle();
  assert.deepEqual(reported, [['192.0.2.1 7946', '2001:db8::1 7000']]);
  assert.deepEqual(asked, []);
});

test('SeedResolver asks for names again, and reports only what changed', async () => {
  const { subject, reported, asked } = resolver([{ host: 'lbd.example', port: 7946 }], {
    'lbd.example': [['192.0.2.2', '192.0.2.1'], ['192.0.2.1', '192.0.2.2'], ['192.0.2.3']],
  });
  subject.start();
  await settle();
  await pass(72_000);
  await pass(72_000);
  assert.deepEqual(reported, [[], ['192.0.2.1 7946', '192.0.2.2 7946'], ['192.0.2.3 7946']]);
  assert.equal(asked.length, 3);
});

test('SeedResolver goes on asking for a name that fails, ever more slowly, and keeps what it knew', async () => {
  const { subject, reported, logged, asked } = resolver([{ host: 'lbd.example', port: 7946 }], {
    'lbd.example': [['192.0.2.1'], new Error('timeout'), new Error('timeout'), [], ['192.0.2.1']],
  });
  subject.start();
  await settle();
  await pass(72_000);
  await pass(1_200);
  await pass(2_400);
  await pass(4_800);
  assert.equal(asked.length, 5);
  assert.deepEqual(reported, [[], ['192.0.2.1 7946']]);
  assert.deepEqual(logged, ['gossip.seed.unresolved', 'gossip.seed.resolved']);
});
