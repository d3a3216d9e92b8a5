import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { createInterface } from 'node:readline';
import type { AgentReport, AgentRequest } from './lab-api.ts';
import { labTimeMs } from './lab-time.ts';

/**
 * `node lab-api-agent.ts ADMIN-KUBECONFIG`: inside a lab, speaks to the API server for a test outside of it. Requests
 * come as JSON lines on standard input; answers and the events of one watch of all Services go to standard output,
 * each with the time at which it was sent or came (`labTimeMs`).
 */

const MAX_CONNECTIONS = 16;
const WATCH_RETRY_MS = 100;
const SERVICES = '/api/v1/services';

const [kubeconfigPath = ''] = process.argv.slice(2);
const kubeconfig = readFileSync(kubeconfigPath, 'utf8');
const server = field('server');
const token = field('token');
const credentials = {
  ca: base64(field('certificate-authority-data')),
  cert: base64(field('client-certificate-data')),
  key: base64(field('client-key-data')),
};
const agent = new Agent({ keepAlive: true, maxSockets: MAX_CONNECTIONS, ...credentials });
const watchAgent = new Agent({ ...credentials });

/** The kubeconfigs of the lab have one cluster and one user, and every field on a line of its own. */
function field(name: string): string | undefined {
  return new RegExp(`^\\s+${name}: (.+)$`, 'm').exec(kubeconfig)?.[1];
}

function base64(text: string | undefined): string | undefined {
  return text === undefined ? undefined : Buffer.from(text, 'base64').toString();
}

function report(message: AgentReport): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function open(method: string, path: string, body: string | undefined, contentType: string, via: Agent) {
  const headers: Record<string, string | number> = { Accept: 'application/json' };
  if (token !== undefined) headers['Authorization'] = `Bearer ${token}`;
  if (body !== undefined) {
    headers['Content-Type'] = contentType;
    headers['Content-Length'] = Buffer.byteLength(body);
  }
  return new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = httpsRequest(`${server}${path}`, { method, headers, agent: via }, resolve);
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

async function serve(asked: AgentRequest): Promise<void> {
  const body = asked.body === undefined ? undefined : JSON.stringify(asked.body);
  const sentAtMs = labTimeMs();
  try {
    const response = await open(
      asked.method,
      asked.path,
      body,
      asked.contentType ?? 'application/json',
      agent,
    );
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const answeredAtMs = labTimeMs();
    report({ kind: 'answer', id: asked.id, code: response.statusCode ?? 0, text, sentAtMs, answeredAtMs });
  } catch (error) {
    report({
      kind: 'answer',
      id: asked.id,
      code: 0,
      text: String(error),
      sentAtMs,
      answeredAtMs: labTimeMs(),
    });
  }
}

/** One watch from the current state on; whoever reads knows each Service by its last event. */
async function watchOnce(): Promise<void> {
  const response = await open('GET', `${SERVICES}?watch=1`, undefined, '', watchAgent);
  if (response.statusCode !== 200) {
    response.resume();
    return;
  }
  report({ kind: 'watching' });
  let rest = '';
  response.setEncoding('utf8');
  for await (const chunk of response) {
    const atMs = labTimeMs();
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const { type, object } = JSON.parse(line);
      if (type === 'ERROR') return;
      report({ kind: 'event', atMs, type, object });
    }
  }
}

async function watchForever(): Promise<void> {
  for (;;) {
    await watchOnce().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, WATCH_RETRY_MS));
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => serve(JSON.parse(line)))
  .on('close', () => process.exit(0));
watchForever();
