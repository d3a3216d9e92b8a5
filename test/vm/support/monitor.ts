import { connect } from 'node:net';
import { within } from '../../support/wait.ts';

const TIMEOUT_MS = 60_000;
const PROMPT = '(qemu) ';

/** A command of QEMU's own monitor, which listens on the unix socket `path`; resolves with what it says. */
export async function askMonitor(path: string, command: string): Promise<string> {
  const socket = connect(path);
  let text = '';
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  socket.on('error', reject);
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    // The greeting ends with a prompt, and so does the answer.
    if (text.split(PROMPT).length > 2) resolve(text);
  });
  socket.write(`${command}\n`);
  try {
    return await within(promise, TIMEOUT_MS, () => `QEMU's ${command}: ${text}`);
  } finally {
    socket.destroy();
  }
}
