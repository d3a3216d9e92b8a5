import { setTimeout as sleep } from 'node:timers/promises';
import { parseDuration } from '../config/duration.ts';
import type { DrainStatus } from '../daemon/types.ts';
import { LbdError } from '../lib/errors.ts';
import { type CliIo, EXIT_FAILURE, EXIT_OK } from './cli-io.ts';
import { command, fetchDrain, fetchExplanation, fetchMembers } from './control-client.ts';
import { renderExplanation } from './render-explain.ts';
import { renderMembers } from './render-members.ts';
import { colourPaint, plainPaint } from './table.ts';

/** The commands about members and owners, see docs/election.md. */

const LOOK_EVERY_MS = 50;
/** A batch of addresses takes some 100 ms to move. */
const DEFAULT_WAIT = '60s';

/** `lbctl members`. */
export async function showMembers(socket: string, json: boolean, io: CliIo): Promise<void> {
  const document = await fetchMembers(socket);
  io.out(json ? toJson(document) : renderMembers(document.election, paintOf(io)));
}

/** `lbctl explain`. */
export async function showExplanation(
  socket: string,
  subject: string,
  json: boolean,
  io: CliIo,
): Promise<void> {
  const explanation = await fetchExplanation(socket, subject);
  io.out(json ? toJson(explanation) : renderExplanation(explanation, paintOf(io)));
}

/** `lbctl drain`; with `wait`, which is a duration or `true`, until nothing is left here. Resolves with the exit status. */
export async function drain(
  socket: string,
  wait: string | true | undefined,
  json: boolean,
  io: CliIo,
): Promise<number> {
  const limitMs = wait === undefined ? 0 : waitMs(wait);
  let status = await command(socket, 'drain');
  const deadline = performance.now() + limitMs;
  while (!status.done && status.drained && performance.now() < deadline) {
    await sleep(LOOK_EVERY_MS);
    status = await fetchDrain(socket);
  }
  const isDone = wait === undefined || status.done;
  if (json) io.out(toJson(status));
  else if (isDone) io.out(`${drainText(status)}\n`);
  if (!json && !isDone) io.err(`lbctl: ${drainText(status)}, after ${limitMs / 1000} s\n`);
  if (status.homelessCount > 0) io.err(`lbctl: ${homelessText(status)}\n`);
  if (status.problem !== undefined) io.err(`lbctl: ${status.problem}\n`);
  return isDone ? EXIT_OK : EXIT_FAILURE;
}

/** `lbctl undrain`. */
export async function undrain(socket: string, json: boolean, io: CliIo): Promise<void> {
  const status = await command(socket, 'undrain');
  const text =
    'this host may own addresses again; what others own stays there ("lbctl rebalance" moves it)\n';
  io.out(json ? toJson(status) : text);
  if (status.problem !== undefined) io.err(`lbctl: ${status.problem}\n`);
}

/** `lbctl rebalance`. */
export async function rebalance(socket: string, json: boolean, io: CliIo): Promise<void> {
  const status = await command(socket, 'rebalance');
  const text =
    'this host gives and takes what ranks differently, some addresses at a time; for a whole cluster, run it on each host\n';
  io.out(json ? toJson(status) : text);
}

function waitMs(wait: string | true): number {
  const text = wait === true ? DEFAULT_WAIT : wait;
  const duration = parseDuration(text);
  if (duration.ok) return duration.value;
  throw new LbdError('cli.bad-duration', `--wait: ${duration.error}, got "${text}"`);
}

function drainText({ drained, done, left }: DrainStatus): string {
  if (!drained) return 'this host is not drained any more: somebody else has undrained it';
  if (done) return 'this host is drained: it owns no address';
  return `this host drains: ${left === 1 ? '1 address is' : `${left} addresses are`} still here`;
}

function homelessText({ homeless, homelessCount }: DrainStatus): string {
  const rest = homelessCount > homeless.length ? ` and ${homelessCount - homeless.length} more` : '';
  return `no host may have ${homeless.join(', ')}${rest} now; see "lbctl explain"`;
}

function paintOf(io: CliIo): typeof plainPaint {
  return io.colour ? colourPaint : plainPaint;
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
