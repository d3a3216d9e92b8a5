import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Child } from './child.ts';

const LOGGER = "import { createLogger } from './src/daemon/logger.ts';\n";

type Line = Readonly<Record<string, unknown>>;

function lines(text: string): readonly Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

test('createLogger() writes one JSON line on stderr for each event, with its level, time and fields', async (t) => {
  const child = Child.script(
    t,
    `${LOGGER}
     const log = createLogger('info');
     log.info({ ip: '192.0.2.1', services: ['a/b'], text: 'two\\nlines' }, 'address.held');
     log.warn({}, 'address.conflict');
     log.error({ error: 'no' }, 'daemon.crashed');`,
  );
  const { stderr, stdout } = await child.ended();
  assert.equal(stdout, '');
  const [info, warn, error] = lines(stderr);
  assert.equal(lines(stderr).length, 3);
  const { time, ...rest } = info ?? {};
  assert.deepEqual(rest, {
    level: 'info',
    ip: '192.0.2.1',
    services: ['a/b'],
    text: 'two\nlines',
    event: 'address.held',
  });
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual([warn?.['level'], warn?.['event']], ['warn', 'address.conflict']);
  assert.deepEqual([error?.['level'], error?.['error']], ['error', 'no']);
});

test('setLevel() takes effect at once, both ways', async (t) => {
  const child = Child.script(
    t,
    `${LOGGER}
     const log = createLogger('info');
     const all = (round) => { for (const level of ['debug', 'info', 'warn', 'error']) log[level]({ round }, level); };
     all(1);
     log.setLevel('error');
     all(2);
     log.setLevel('trace');
     all(3);`,
  );
  const { stderr } = await child.ended();
  assert.deepEqual(
    lines(stderr).map((line) => `${line['round']} ${line['event']}`),
    ['1 info', '1 warn', '1 error', '2 error', '3 debug', '3 info', '3 warn', '3 error'],
  );
});

test('fields that JSON has no form for are written somehow, and throw nothing', async (t) => {
  const child = Child.script(
    t,
    `${LOGGER}
     const log = createLogger('info');
     const round = {}; round.self = round;
     log.info({ big: 2n ** 64n, round, error: new Error('x'), none: undefined }, 'odd');
     log.flush();`,
  );
  const { stderr, code } = await child.ended();
  assert.equal(code, 0);
  assert.equal(lines(stderr)[0]?.['event'], 'odd');
});

test('a process that ends right after flush() has written everything', async (t) => {
  const child = Child.script(
    t,
    `${LOGGER}
     const log = createLogger('info');
     for (let n = 0; n < 2000; n++) log.info({ n }, 'event');
     log.flush();
     process.exit(3);`,
  );
  const { stderr, code } = await child.ended();
  assert.equal(code, 3);
  assert.equal(lines(stderr).length, 2_000);
});

test('a reader of stderr that is gone does not end the process', async (t) => {
  const child = Child.script(
    t,
    `${LOGGER}
     const log = createLogger('info');
     process.stdout.write('ready\\n');
     process.stdin.once('data', async () => {
       for (let n = 0; n < 100; n++) {
         log.info({ n }, 'event');
         await new Promise((resolve) => setImmediate(resolve));
       }
       log.flush();
       process.exit(0);
     });`,
  );
  await child.firstLine();
  child.process.stderr?.destroy();
  child.process.stdin?.write('go\n');
  assert.equal((await child.ended()).code, 0);
});

test('a reader of stderr that stands still costs a bounded amount of memory and blocks nothing', async (t) => {
  const child = Child.script(
    t,
    `${LOGGER}
     const log = createLogger('info');
     const text = 'x'.repeat(1000);
     const before = process.memoryUsage().rss;
     for (let n = 0; n < 50_000; n++) {
       log.info({ text }, 'event');
       if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
     }
     process.stdout.write(\`\${Math.round((process.memoryUsage().rss - before) / 1e6)}\\n\`, () => process.exit(0));`,
  );
  child.process.stderr?.pause();
  const grownMb = Number(await child.firstLine());
  // 50 MB of lines were logged; 1 MB of them may wait.
  assert.ok(grownMb < 40, `${grownMb} MB more`);
});
