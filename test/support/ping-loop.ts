import type { LabHost } from './lab-host.ts';
import type { LabProcess } from './lab-process.ts';

export type PingResult = {
  readonly sent: number;
  readonly received: number;
  /** The longest time between two answers, less the interval. */
  readonly longestLossMs: number;
};

/** `ping` at a steady interval from a host of the lab: whether packets get through, where the prober asks who answers. */
export class PingLoop {
  readonly #ping: LabProcess;
  readonly #intervalMs: number;

  private constructor(ping: LabProcess, intervalMs: number) {
    this.#ping = ping;
    this.#intervalMs = intervalMs;
  }

  /** Resolves at the first answer. */
  static async start(host: LabHost, ip: string, intervalMs = 10): Promise<PingLoop> {
    const ping = await host.spawn(['ping', '-n', '-D', '-O', '-i', String(intervalMs / 1000), ip]);
    await ping.waitForLine(/bytes from/);
    return new PingLoop(ping, intervalMs);
  }

  async stop(): Promise<PingResult> {
    await this.#ping.stop('SIGINT');
    const { stdout } = this.#ping;
    const sent = Number(/(\d+) packets transmitted/.exec(stdout)?.[1] ?? 0);
    // -D: when each answer came, in seconds since the epoch.
    const answered = [...stdout.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from/gm)].map(
      ([, seconds]) => 1_000 * Number(seconds),
    );
    let longest = 0;
    for (const [index, atMs] of answered.entries())
      longest = Math.max(longest, atMs - (answered[index - 1] ?? atMs) - this.#intervalMs);
    return { sent, received: answered.length, longestLossMs: Math.round(longest) };
  }
}
