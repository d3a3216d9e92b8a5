import type { Message } from '../../../src/election/message.ts';
import type { Endpoint, PersistentState } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { ipFromNumber } from '../../../src/lib/ip.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';
import { SimKernel } from './kernel.ts';
import type { PortId } from './lan.ts';
import { HOSTS_FROM, type Link, NIC_INDEX } from './lan-plan.ts';
import { SimProcess, type SimProcessOptions } from './process.ts';
import type { Frame, Plan, World } from './world.ts';

export type SimHostOptions = SimProcessOptions;

const PORT = 7946;
/** A paused process finds this many packets waiting; the kernel drops what comes beyond. */
const SOCKET_BUFFER_PACKETS = 256;
const ARP_ANSWER_MS = 0.02;
/** Hosts are up for up to so long when a simulation begins: no two clocks show the same. */
const UPTIME_MS = 1e9;
/** Clocks that are not set by others run so much faster or slower at most. */
const DRIFT = 1e-4;

/** A machine: its kernel and NIC, and lbd while that runs. */
export class SimHost {
  readonly index: number;
  readonly name: string;
  readonly ip: Ip;
  readonly mac: Mac;
  /** On the segment that carries the Services' addresses. */
  readonly port: PortId;
  readonly managementPort: PortId | undefined;
  readonly managementIp: Ip;
  readonly managementMac: Mac;
  readonly #endpoint: Endpoint;
  readonly #managementEndpoint: Endpoint;
  readonly kernel: SimKernel;
  readonly world: World;
  process: SimProcess | undefined;
  /** As last known here, also by a process that starts anew. */
  plan: Plan;
  readonly #options: SimHostOptions;
  #power: 'on' | 'paused' | 'off' = 'on';
  #isStopped = false;
  #hasCarrier = true;
  /** What the clock showed when the simulation began, less what a paused virtual machine did not notice. */
  #clockFrom: number;
  readonly #clockRate: number;
  #pausedAt = 0;
  /** How long its process last did not run. */
  pausedMs = 0;
  /** How long it was last paused without its clock showing it. */
  unseenPauseMs = 0;
  #waiting: (() => void)[] = [];
  #waitingPackets = 0;
  /** What survives the process. */
  #disk: PersistentState | undefined;

  constructor(world: World, index: number, options: SimHostOptions) {
    this.world = world;
    this.index = index;
    this.name = `h${index}`;
    this.ip = ipFromNumber('v4', BigInt(HOSTS_FROM.data + index));
    this.managementIp = ipFromNumber('v4', BigInt(HOSTS_FROM.management + index));
    this.#endpoint = { ip: this.ip, port: PORT };
    this.#managementEndpoint = { ip: this.managementIp, port: PORT };
    this.mac = `02:00:00:00:${hex(index >> 8)}:${hex(index & 255)}` as Mac;
    this.managementMac = `02:00:00:01:${hex(index >> 8)}:${hex(index & 255)}` as Mac;
    this.port = world.lan.addPort();
    this.managementPort = world.management?.addPort();
    this.#clockFrom = UPTIME_MS * world.random();
    this.#clockRate = 1 + DRIFT * (2 * world.random() - 1);
    this.#options = options;
    this.plan = world.plan();
    this.kernel = new SimKernel({
      queue: world.queue,
      random: world.random,
      clock: () => this.clock(),
      simTime: (at) => this.simTime(at),
      isUp: () => this.isUp,
      onChange: (ip) => world.answersChanged(this, ip),
      onProgram: (request, isKnown) => world.invariants.programmed(this, request, isKnown),
      notify: (present, gone) => this.toProcess(() => this.process?.kernelChanged(present, gone)),
    });
  }

  /** The host's own monotonic clock. */
  clock(): Instant {
    return instant(this.#clockFrom + this.world.queue.now * this.#clockRate);
  }

  /** When the host's clock shows `at`, in the time of the simulation. */
  simTime(at: Instant): number {
    return (at - this.#clockFrom) / this.#clockRate;
  }

  get isUp(): boolean {
    return this.#power === 'on';
  }

  /** Runs and is not paused. */
  get isRunning(): boolean {
    return this.#power === 'on' && !this.#isStopped && this.process !== undefined;
  }

  portOn(link: Link): PortId {
    if (link === 'data') return this.port;
    if (this.managementPort === undefined) throw new Error(`${this.name} has no NIC for management`);
    return this.managementPort;
  }

  endpointOn(link: Link): Endpoint {
    return link === 'data' ? this.#endpoint : this.#managementEndpoint;
  }

  /** Of the NIC that carries the Services' addresses, as its kernel shows it. */
  get hasCarrier(): boolean {
    return this.#hasCarrier;
  }

  /** The cable is out, and the kernel knows it; a port that is dead behind a switch is `lan.setPort()`. */
  setCarrier(hasCarrier: boolean): void {
    this.#hasCarrier = hasCarrier;
    this.world.lan.setPort(this.port, { up: hasCarrier });
    if (!hasCarrier) this.world.invariants.carrierLost();
    this.toProcess(() => this.process?.hostChanged());
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
    this.world.invariants.started(this);
    this.process.start();
  }

  /** lbd is killed: its kernel keeps what it has, and ends its connections. */
  kill(): void {
    this.process?.end('killed');
    this.process = undefined;
    this.#isStopped = false;
    this.#waiting = [];
    this.#waitingPackets = 0;
  }

  /** lbd ends as planned; what is in the kernel stays for the next one. */
  stopForRestart(): void {
    this.process?.farewell('restarting');
    this.kill();
  }

  /** The process stops running while the kernel goes on: SIGSTOP, or a long garbage collection. */
  stopProcess(): void {
    this.#pausedAt = this.world.now;
    this.#isStopped = true;
  }

  continueProcess(): void {
    this.pausedMs = this.world.now - this.#pausedAt;
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
    if (!clockNotices) this.#clockFrom -= (this.world.now - this.#pausedAt) * this.#clockRate;
    this.#power = 'on';
    this.world.noteChange(this);
    // What no clock of its own shows it cannot know before a peer says so.
    this.pausedMs = clockNotices ? this.world.now - this.#pausedAt : 0;
    this.unseenPauseMs = clockNotices ? 0 : this.world.now - this.#pausedAt;
    this.kernel.resumed();
    this.#allChanged();
    this.#wake();
  }

  powerOff(): void {
    this.process?.end('vanished');
    this.process = undefined;
    this.#waiting = [];
    this.#waitingPackets = 0;
    this.#isStopped = false;
    const ips = [...this.kernel.addresses()];
    this.#power = 'off';
    this.kernel.clear();
    for (const ip of ips) this.world.answersChanged(this, ip);
  }

  powerOn(): void {
    this.#power = 'on';
  }

  /** What the API server says of Services comes in. */
  planned(plan: Plan): void {
    if (plan.version < this.plan.version) return;
    this.plan = plan;
    this.toProcess(() => this.process?.planned(plan));
  }

  /** Runs `task` in the process: now, or when it goes on. */
  toProcess(task: () => void): void {
    if (this.process === undefined || this.#power === 'off') return;
    if (this.#power === 'on' && !this.#isStopped) task();
    else this.#waiting.push(task);
  }

  /** The same for packets, of which only so many wait. */
  #packetToProcess(task: () => void): void {
    if (this.isRunning) return task();
    if (this.#waitingPackets >= SOCKET_BUFFER_PACKETS) return;
    this.#waitingPackets += 1;
    this.toProcess(task);
  }

  /** A datagram reaches the NIC: a paused machine does not take it. */
  deliver(task: () => void): void {
    if (this.#power === 'on') this.toProcess(task);
  }

  receive(frame: Frame): void {
    if (this.#power !== 'on') return;
    this.world.queue.note(this.index);
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
    this.#packetToProcess(() => this.process?.claimHeard(NIC_INDEX, claim));
  }

  /** A message arrives: the process gets it when it runs. */
  take(
    message: Message,
    from: SimHost,
    link: Link,
    connection: number | undefined,
    sentAt: number,
    isRoutine = false,
  ): void {
    if (this.isRunning) {
      this.world.invariants.heard(this, from, sentAt, link);
      this.process?.message(message, from, link, connection, isRoutine);
    } else if (this.#power === 'on')
      this.#packetToProcess(() => this.take(message, from, link, connection, sentAt, isRoutine));
  }

  #wake(): void {
    if (!this.isRunning) return;
    this.world.invariants.woke(this);
    const { process } = this;
    // Timers come before sockets in a turn of the event loop, unless that was on its way between the two.
    const isTimerFirst = this.world.random() < 0.5;
    if (isTimerFirst) process?.timePassed();
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingPackets = 0;
    for (const task of waiting) if (this.process === process) task();
    if (!isTimerFirst && this.process === process) process?.timePassed();
  }

  #allChanged(): void {
    for (const ip of this.kernel.addresses()) this.world.answersChanged(this, ip);
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
