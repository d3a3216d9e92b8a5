import assert from 'node:assert/strict';
import type { LabProcess } from '../../support/lab-process.ts';
import { labTimeMs } from '../../support/lab-time.ts';
import { Prober } from '../../support/prober.ts';
import type { Machine } from './machine.ts';
import { MachineLab, type MachineLabOptions } from './machine-lab.ts';
import { buildRepository } from './package.ts';
import { CONFIG, configure, holds, serve, startWebServer, VIP } from './story.ts';

/** What a kernel takes to answer at worst on a machine that others use: 0.04 to 0.12 s were seen. It is half of what lbd hangs for. */
const LATE_MS = 5_000;

/** One machine with lbd running, a Service with an address, and the prober asking for it: where most tests begin. */
export class Session {
  readonly lab: MachineLab;
  readonly machine: Machine;
  readonly prober: Prober;
  #watchedFrom = 1;
  #since = 0;

  private constructor(lab: MachineLab, prober: Prober) {
    this.lab = lab;
    this.machine = lab.machine();
    this.prober = prober;
  }

  /** `prepare` runs before lbd is started. */
  static async start(
    prepare?: (lab: MachineLab) => Promise<unknown>,
    options: Omit<MachineLabOptions, 'installed'> = {},
  ): Promise<Session> {
    const lab = await MachineLab.start({ ...options, installed: await buildRepository('0.1.0') });
    try {
      await prepare?.(lab);
      return await Session.begin(lab);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** On a machine with lbd installed and not yet configured. */
  static async begin(lab: MachineLab): Promise<Session> {
    const machine = lab.machine();
    await configure(lab, machine);
    await startWebServer(machine);
    await machine.run('systemctl enable --now lbd');
    assert.equal(await serve(lab), VIP);
    await holds(machine, VIP);
    const prober = await Prober.start(lab.client, { addresses: [VIP] });
    await prober.firstAnswer(VIP);
    const session = new Session(lab, prober);
    await session.mark();
    return session;
  }

  /** From now on nothing that happened before counts. */
  async mark(): Promise<void> {
    // The watch goes on from test to test, and only a boot ends it.
    const lines = await this.machine.output(
      `systemctl is-active --quiet watch || systemd-run --quiet --unit watch -p StandardOutput=append:/run/watched \\
        ip -o monitor address && wc -l </run/watched`,
    );
    this.#watchedFrom = Number(lines) + 1;
    this.#since = labTimeMs();
  }

  /**
   * Since the mark the address was never taken off the NIC, nor answered by anybody else, nor by nobody. Resolves with the
   * longest gap in ms.
   */
  async neverGone(): Promise<number> {
    const changes = await this.machine.output(`tail -n +${this.#watchedFrom} /run/watched`);
    const removals = changes.split('\n').filter((line) => line.startsWith('Deleted') && line.includes(VIP));
    assert.deepEqual(removals, [], 'the address was taken off the NIC');
    assert.deepEqual(this.prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
    const gapMs = this.longestGapMs();
    assert.ok(gapMs < LATE_MS, `nobody answered for ${gapMs} ms`);
    return gapMs;
  }

  /** The longest time since the mark in which nobody answered for the address. */
  longestGapMs(): number {
    return Math.round(
      this.prober.longestGap(VIP, { fromMs: this.#since, toMs: labTimeMs() })?.ms ?? Number.POSITIVE_INFINITY,
    );
  }

  /** As it was at the start, whatever a test left behind. */
  async restore(): Promise<void> {
    await this.machine.writeFile('/etc/lbd.toml', CONFIG);
    await this.machine.run(
      'systemctl is-active --quiet lbd || { systemctl reset-failed lbd; systemctl start lbd; }',
      { mayFail: true },
    );
    await holds(this.machine, VIP);
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** A request that got its page, and how long that took. */
const ANSWERED = /^200 ([0-9.]+)$/;

/** Requests of the web page at the address, one after the other, from the client. */
export class Traffic {
  readonly #loop: LabProcess;

  private constructor(loop: LabProcess) {
    this.#loop = loop;
  }

  static async start(session: Session): Promise<Traffic> {
    const script = `while :; do
      said=$(curl -s -o /dev/null --max-time 60 -w '%{http_code} %{time_total}' http://${VIP}/) &&
        echo "$said" || echo "failed $? $said"
      sleep 0.1
    done`;
    const loop = await session.lab.client.spawn(['bash', '-c', script]);
    await loop.waitForLine(ANSWERED, { timeoutMs: 60_000 });
    return new Traffic(loop);
  }

  /** Resolves with the requests since the start: how many were answered, the slowest of them, and every other one as curl saw it. */
  async stop(): Promise<{
    readonly answered: number;
    readonly slowestMs: number;
    readonly lost: readonly string[];
  }> {
    await this.#loop.stop('SIGKILL');
    const lines = this.#loop.lines.map(({ text }) => text);
    const seconds = lines.flatMap((line) => ANSWERED.exec(line)?.[1] ?? []);
    return {
      answered: seconds.length,
      slowestMs: Math.round(Math.max(...seconds.map(Number)) * 1_000),
      lost: lines.filter((line) => !ANSWERED.test(line)),
    };
  }
}
