import type { LabHost } from './lab-host.ts';
import { favour, type LabProcess } from './lab-process.ts';
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
    const ping = await host.spawn(['setsid', 'ping', '-n', '-D', '-O', '-i', String(intervalMs / 1000), ip]);
    favour(ping.pid);
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

/** -D: when each answer came, in seconds since the epoch. */
function lossesIn(output: string, epochToLabMs: number): readonly PingLoss[] {
  const losses: PingLoss[] = [];
  let before: { readonly sequence: number; readonly atMs: number } | undefined;
  for (const [, seconds, number] of output.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from .*icmp_seq=(\d+)/gm)) {
    const answer = { sequence: Number(number), atMs: 1_000 * Number(seconds) + epochToLabMs };
    const pings = before === undefined ? 0 : answer.sequence - before.sequence - 1;
    if (before !== undefined && pings > 0) losses.push({ pings, fromMs: before.atMs, toMs: answer.atMs });
    if (before === undefined || answer.sequence > before.sequence) before = answer;
  }
  return losses;
}
