import type { LabHost } from './lab-host.ts';
import { favoured, type LabProcess } from './lab-process.ts';
import { labTimeMs } from './lab-time.ts';

/** Pings in a row that were not answered. Times are `labTimeMs`: of the answer before them, and of the one after. */
export type PingLoss = { readonly pings: number; readonly fromMs: number; readonly toMs: number };

export type PingResult = {
  readonly sent: number;
  readonly received: number;
  readonly losses: readonly PingLoss[];
  /** The longest time without an answer while pings were lost; 0 when none was. */
  readonly longestLossMs: number;
};

/** `ping` at a steady interval from a host of the lab: whether packets get through, where the prober asks who answers. */
export class PingLoop {
  readonly #ping: LabProcess;

  private constructor(ping: LabProcess) {
    this.#ping = ping;
  }

  /** Resolves at the first answer. */
  static async start(host: LabHost, ip: string, intervalMs = 10): Promise<PingLoop> {
    const ping = await host.spawn(favoured(['ping', '-n', '-D', '-O', '-i', String(intervalMs / 1000), ip]));
    await ping.waitForLine(/bytes from/);
    return new PingLoop(ping);
  }

  async stop(): Promise<PingResult> {
    await this.#ping.stop('SIGINT');
    const { stdout } = this.#ping;
    const sent = Number(/(\d+) packets transmitted/.exec(stdout)?.[1] ?? 0);
    const received = Number(/ (\d+) received/.exec(stdout)?.[1] ?? 0);
    const losses = lossesIn(stdout, labTimeMs() - Date.now());
    const longestLossMs = Math.max(0, ...losses.map(({ fromMs, toMs }) => toMs - fromMs));
    return { sent, received, losses, longestLossMs };
  }
}

type PingAnswer = { readonly sequence: number; readonly atMs: number };

/** -D: when each answer came, in seconds since the epoch. */
function lossesIn(output: string, epochToLabMs: number): readonly PingLoss[] {
  const answers: PingAnswer[] = [];
  for (const [, seconds, number] of output.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from .*icmp_seq=(\d+)/gm)) {
    answers.push({ sequence: Number(number), atMs: 1_000 * Number(seconds) + epochToLabMs });
  }
  // Answers of two hosts may come in another order than the questions.
  answers.sort((left, right) => left.sequence - right.sequence);
  const losses: PingLoss[] = [];
  let before: PingAnswer | undefined;
  for (const answer of answers) {
    const pings = before === undefined ? 0 : answer.sequence - before.sequence - 1;
    if (before !== undefined && pings > 0) losses.push({ pings, fromMs: before.atMs, toMs: answer.atMs });
    before = answer;
  }
  return losses;
}
