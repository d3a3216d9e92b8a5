import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LbdError } from '../../src/lib/errors.ts';
import { type Entrance, LabProcess, type RunOptions, type RunResult, runInside } from './lab-process.ts';
import { firstOfFamily, type HostPlan, type Nic, nicCommands, routeCommands } from './lab-topology.ts';

/** What a host needs of the lab that it is in. */
export type HostCables = {
  /** Starts the host's PID 1 and resolves with its real pid. */
  boot(name: string): Promise<number>;
  /** Resolves when the host's PID 1 is gone. */
  gone(name: string): Promise<void>;
  /** Joins `nic` of the host whose PID 1 is `pid` to its segment. */
  plug(nic: Nic, pid: number): Promise<void>;
  /** Removes the cable; the interface in the host goes with it. */
  unplug(nic: Nic): Promise<void>;
  readonly environment: Readonly<Record<string, string>>;
};

/** One host of a lab. Its files are reached by the paths that they have on the host. */
export class LabHost {
  readonly name: string;
  readonly plan: HostPlan;
  readonly #cables: HostCables;
  #pid: number | undefined;

  constructor(plan: HostPlan, cables: HostCables, pid: number) {
    this.name = plan.name;
    this.plan = plan;
    this.#cables = cables;
    this.#pid = pid;
  }

  /** The real pid of the host's PID 1: killing it is pulling the plug. Throws while the host is off. */
  get pid(): number {
    if (this.#pid === undefined) throw new LbdError('lab.host-off', `host ${this.name} is powered off`);
    return this.#pid;
  }

  /** The first configured v4 address of the host; throws when it has none. */
  get ip(): string {
    return this.#configured('v4');
  }

  get ip6(): string {
    return this.#configured('v6');
  }

  /** For a person: enters the host from a root shell on the machine, while the lab lives. */
  get enterCommand(): string {
    return `nsenter --target ${this.pid} --net --mount --uts --ipc --pid`;
  }

  get entrance(): Entrance {
    return {
      name: this.name,
      nsenter: [`--target=${this.pid}`, '--net', '--mount', '--uts', '--ipc', '--pid'],
      env: { ...this.#cables.environment, HOME: `/run/lab/hosts/${this.name}/home` },
    };
  }

  nic(name: string): Nic {
    const nic = this.plan.nics.find((candidate) => candidate.name === name);
    if (nic === undefined) throw new LbdError('lab.unknown', `host ${this.name} has no NIC ${name}`);
    return nic;
  }

  /** Runs a command to its end; throws `LabCommandError` when it fails, unless `mayFail`. */
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    return runInside(this.entrance, argv, options);
  }

  /** Starts a command that goes on; it dies with the lab at the latest. */
  spawn(argv: readonly string[], options?: RunOptions): Promise<LabProcess> {
    return LabProcess.start(this.entrance, argv, options);
  }

  /** Several `ip` commands at once, without the word `ip`. */
  async ipBatch(commands: readonly string[]): Promise<void> {
    await this.run(['ip', '-batch', '-'], { stdin: `${commands.join('\n')}\n` });
  }

  /** The path by which this process, outside, reaches `path` of the host: files and unix sockets alike. */
  outside(path: string): string {
    return join(`/proc/${this.pid}/root`, path);
  }

  async writeFile(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
    await mkdir(dirname(this.outside(path)), { recursive: true });
    await writeFile(this.outside(path), content, { mode });
  }

  readFile(path: string): Promise<string> {
    return readFile(this.outside(path), 'utf8');
  }

  /** Administratively down, as `ip link set down` does it: the kernel drops routes and v6 addresses. */
  async linkDown(nicName = 'eth0'): Promise<void> {
    await this.ipBatch([`link set ${nicName} down`]);
  }

  /** Up again, with the addresses and routes that a network manager would restore. */
  async linkUp(nicName = 'eth0'): Promise<void> {
    await this.ipBatch([...nicCommands(this.nic(nicName)), ...routeCommands(this.plan)]);
  }

  /** Takes the NIC out of the host, as when its driver is unloaded. */
  async removeNic(nicName = 'eth0'): Promise<void> {
    await this.#cables.unplug(this.nic(nicName));
  }

  /** Puts a removed NIC back, with another interface index and the same addresses. */
  async restoreNic(nicName = 'eth0'): Promise<void> {
    await this.#cables.plug(this.nic(nicName), this.pid);
    await this.linkUp(nicName);
  }

  /** Gives the NICs their addresses, and the host its sysctls and routes. */
  async configure(): Promise<void> {
    for (const [key, value] of Object.entries(this.plan.sysctls)) {
      await this.run(['sh', '-c', 'echo "$2" >"/proc/sys/$1"', 'sh', key.replaceAll('.', '/'), value]);
    }
    const commands = [...this.plan.nics.flatMap(nicCommands), ...routeCommands(this.plan)];
    if (commands.length > 0) await this.ipBatch(commands);
  }

  /** Power failure: every process of the host is killed and its NICs are gone. /etc and /var/lib/lbd remain. */
  async powerOff(): Promise<void> {
    const gone = this.#cables.gone(this.name);
    process.kill(this.pid, 'SIGKILL');
    this.#pid = undefined;
    await gone;
    // The kernel removes a dead namespace's cables in its own time.
    for (const nic of this.plan.nics) await this.#cables.unplug(nic);
  }

  async powerOn(): Promise<void> {
    const pid = await this.#cables.boot(this.name);
    this.#pid = pid;
    for (const nic of this.plan.nics) await this.#cables.plug(nic, pid);
    await this.configure();
  }

  #configured(family: 'v4' | 'v6'): string {
    for (const nic of this.plan.nics) {
      const address = firstOfFamily(nic.addresses, family);
      if (address !== undefined) return address;
    }
    throw new LbdError('lab.unknown', `host ${this.name} has no ${family} address`);
  }
}
