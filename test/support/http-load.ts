import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A program for a host of the lab: `node http-load.ts <ip> <requests per second>`. Every request on a connection of its
 * own; one JSON line for each, `{"at": lab time in ms, "ms": …, "by"?: what was answered, "error"?: …}`, until SIGINT.
 */

const [ip = '', rate = '200'] = process.argv.slice(2);
const intervalMs = 1_000 / Number(rate);
const TIMEOUT_MS = 2_000;
const LONGEST_ANSWER = 100;

function labTimeMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function once(): void {
  const at = labTimeMs();
  let by = '';
  const done = (error?: string): void => {
    const outcome = error === undefined ? { by } : { error };
    process.stdout.write(`${JSON.stringify({ at, ms: labTimeMs() - at, ...outcome })}\n`);
  };
  const asked = request({ host: ip, port: 80, agent: false, timeout: TIMEOUT_MS }, (response) => {
    response.setEncoding('latin1');
    response.on('data', (text: string) => {
      if (by.length < LONGEST_ANSWER) by += text;
    });
    response.on('end', () => done(response.statusCode === 200 ? undefined : `HTTP ${response.statusCode}`));
    response.on('error', (error) => done(error.message));
  });
  asked.on('timeout', () => asked.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
  asked.on('error', (error) => done(error.message));
  asked.end();
}

process.once('SIGINT', () => {
  running = false;
});
let running = true;
process.stdout.write('started\n');
let next = labTimeMs();
while (running) {
  once();
  next += intervalMs;
  await sleep(Math.max(0, next - labTimeMs()));
}
