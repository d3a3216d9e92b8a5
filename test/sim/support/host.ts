import type { PersistentState } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { ipFromNumber } from '../../../src/lib/ip.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';
import { SimKernel } from './kernel.ts';
import type { PortId } from './lan.ts';
import { NIC_INDEX } from './lan-plan.ts';
import { SimProcess, type SimProcessOptions } from './process.ts';
import type { Frame, World } from './world.ts';

export type SimHostOptions = SimProcessOptions;

/** A paused process finds this many packets waiting; the kernel drops what comes beyond. */
const SOCKET_BUFFER_PACKETS = 256;
const ARP_ANSWER_MS = 0.02;

/** A machine: its kernel and NIC, and lbd while that runs. */
export class SimHost {
  readonly index: number;
  readonly name: string;
  readonly ip: Ip;
  readonly mac: Mac;
  readonly port: PortId;
  readonly kernel: SimKernel;
  readonly world: World;
  process: SimProcess | undefined;
  readonly #options: SimHostOptions;
  #power: 'on' | 'paused' | 'off' = 'on';
  #isStopped = false;
  /** What the clock of the host is behind the simulation's: a paused virtual machine may not notice. */
  #clockBehindMs = 0;
  #pausedAt = 0;
  #waiting: (() => void)[] = [];
  /** What survives the process. */
  #disk: PersistentState | undefined;

  constructor(world: World, index: number, options: SimHostOptions) {
    this.world = world;
    this.index = index;
    this.name = `h${index}`;
    this.ip = ipFromNumber('v4', BigInt(0x0a000000 + 0x10000 + index));
    this.mac = `02:00:00:00:${hex(index >> 8)}:${hex(index & 255)}` as Mac;
    this.port = world.lan.addPort();
    this.#options = options;
    this.kernel = new SimKernel({
      queue: world.queue,
      random: world.random,
      clock: () => this.clock(),
      onChange: (ip) => world.answersChanged(this, ip),
      notify: (present, gone) => this.toProcess(() => this.process?.kernelChanged(present, gone)),
    });
  }

  /** The host's own monotonic clock. */
  clock(): Instant {
    return instant(this.world.queue.now - this.#clockBehindMs);
  }

  /** When the host's clock shows `at`, in the time of the simulation. */
  simTime(at: Instant): number {
    return at + this.#clockBehindMs;
  }

  get isUp(): boolean {
    return this.#power === 'on';
  }

  /** Runs and is not paused. */
  get isRunning(): boolean {
    return this.#power === 'on' && !this.#isStopped && this.process !== undefined;
  }

  answersFor(ip: Ip): boolean {
    return this.#power === 'on' && this.kernel.has(ip);
  }

  save(state: PersistentState): void {
    this.#disk = state;
  }

  /** The state directory is lost, or was not written in time. */
  forget(): void {
    this.#disk = undefined;
  }

  /** Starts lbd; `seeds` are hosts that it knows by configuration. */
  start(seeds: readonly SimHost[]): void {
    if (this.process !== undefined || this.#power !== 'on') throw new Error(`${this.name} cannot start lbd`);
    this.process = new SimProcess(this, this.#options, this.#disk, seeds);
    this.process.start();
  }

  /** lbd is killed: its kernel keeps what it has, and ends its connections. */
  kill(): void {
    this.process?.end('killed');
    this.process = undefined;
    this.#isStopped = false;
    this.#waiting = [];
  }

  /** lbd ends as planned; what is in the kernel stays for the next one. */
  stopForRestart(): void {
    this.process?.farewell('restarting');
    this.kill();
  }

  /** The process stops running while the kernel goes on: SIGSTOP, or a long garbage collection. */
  stopProcess(): void {
    this.#isStopped = true;
  }

  continueProcess(): void {
    this.#isStopped = false;
    this.#wake();
  }

  /** The whole machine stops, kernel and all. */
  pause(): void {
    this.#power = 'paused';
    this.#pausedAt = this.world.now;
    this.#allChanged();
  }

  /** @param clockNotices whether the machine's clock shows how long it was. */
  resume(clockNotices: boolean): void {
    if (!clockNotices) this.#clockBehindMs += this.world.now - this.#pausedAt;
    this.#power = 'on';
    this.#allChanged();
    this.#wake();
  }

  powerOff(): void {
    this.process?.end('vanished');
    this.process = undefined;
    this.#waiting = [];
    this.#isStopped = false;
    const ips = [...this.kernel.addresses()];
    this.#power = 'off';
    this.kernel.clear();
    for (const ip of ips) this.world.answersChanged(this, ip);
  }

  powerOn(): void {
    this.#power = 'on';
  }

  wantedChanged(): void {
    this.toProcess(() => this.process?.wantedChanged());
  }

  /** Runs `task` in the process: now, or when it goes on. */
  toProcess(task: () => void): void {
    if (this.process === undefined || this.#power === 'off') return;
    if (this.#power === 'on' && !this.#isStopped) task();
    else if (this.#waiting.length < SOCKET_BUFFER_PACKETS) this.#waiting.push(task);
  }

  /** A datagram reaches the NIC: a paused machine does not take it. */
  deliver(task: () => void): void {
    if (this.#power === 'on') this.toProcess(task);
  }

  receive(frame: Frame): void {
    if (this.#power !== 'on') return;
    if (frame.kind === 'ask' && (this.kernel.has(frame.ip) || frame.ip === this.ip)) {
      const answer: Frame = {
        kind: 'tell',
        ip: frame.ip,
        senderIp: frame.ip,
        senderMac: this.mac,
        to: frame.senderMac,
      };
      this.world.queue.in(ARP_ANSWER_MS, () => this.world.transmit(this, answer));
    }
    const { process } = this;
    if (process === undefined) return;
    const claim = {
      ip: frame.kind === 'tell' ? frame.ip : (frame.senderIp ?? frame.ip),
      mac: frame.senderMac,
      kind: frame.kind === 'tell' || frame.senderIp !== undefined ? ('has' as const) : ('wants' as const),
    };
    if (!process.isInterestedIn(claim.ip)) return;
    this.toProcess(() => this.process?.claimHeard(NIC_INDEX, claim));
  }

  #wake(): void {
    if (!this.isRunning) return;
    const { process } = this;
    // Timers come before sockets in a turn of the event loop.
    process?.timePassed();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const task of waiting) if (this.process === process) task();
  }

  #allChanged(): void {
    for (const ip of this.kernel.addresses()) this.world.answersChanged(this, ip);
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
