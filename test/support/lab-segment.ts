import { LbdError } from '../../src/lib/errors.ts';
import type { LabHost } from './lab-host.ts';
import { type Entrance, runInside } from './lab-process.ts';
import type { Segment } from './lab-topology.ts';

export type DropOptions = {
  /** Frames that this host sends; without it, whoever sends them. */
  readonly from?: LabHost;
  /** Frames on their way to this host; without it, to whomever. */
  readonly to?: LabHost;
  /** An nftables match of the bridge family, such as `udp dport 7946` or `ether type arp`; without it, all frames. */
  readonly match?: string;
  /** How many of 100 frames are lost, at random. Default 100. */
  readonly percent?: number;
};

/** A fault in force; `remove()` ends it. */
export type Fault = { remove(): Promise<void> } & AsyncDisposable;

/** One broadcast domain of a lab, and what can go wrong with it. */
export class LabSegment {
  readonly name: string;
  readonly segment: Segment;
  readonly #switch: Entrance;
  /** The switch's ends of all cables of this segment. */
  readonly #allPorts: readonly string[];

  constructor(segment: Segment, switchEntrance: Entrance, hosts: readonly LabHost[]) {
    this.name = segment.name;
    this.segment = segment;
    this.#switch = switchEntrance;
    this.#allPorts = hosts.flatMap((host) => portsOn(host, segment));
  }

  /** From now on no frame passes between `host` and the others; its NIC notices nothing. */
  async disconnect(host: LabHost): Promise<void> {
    await this.#eachPort(host, (port) => ['bridge', 'link', 'set', 'dev', port, 'state', '0']);
  }

  async connect(host: LabHost): Promise<void> {
    await this.#eachPort(host, (port) => ['bridge', 'link', 'set', 'dev', port, 'state', '3']);
  }

  /** Pulls the cable: the NIC of `host` loses its carrier. */
  async carrierDown(host: LabHost): Promise<void> {
    await this.#eachPort(host, (port) => ['ip', 'link', 'set', port, 'down']);
  }

  async carrierUp(host: LabHost): Promise<void> {
    await this.#eachPort(host, (port) => ['ip', 'link', 'set', port, 'up']);
  }

  /** Loses frames between hosts, until the fault is removed. Faults add up. */
  async drop(options: DropOptions): Promise<Fault> {
    const percent = options.percent ?? 100;
    const rule = [
      `iifname ${portSet(options.from === undefined ? this.#allPorts : this.#ports(options.from))}`,
      ...(options.to === undefined ? [] : [`oifname ${portSet(this.#ports(options.to))}`]),
      ...(options.match === undefined ? [] : [options.match]),
      ...(percent === 100 ? [] : [`numgen random mod 100 < ${percent}`]),
      'drop',
    ].join(' ');
    const added = await runInside(this.#switch, ['nft', '-e', '-a', '-f', '-'], {
      stdin: `add rule bridge faults forward ${rule}\n`,
    });
    const handle = /# handle (\d+)/.exec(added.stdout)?.[1];
    if (handle === undefined) throw new LbdError('lab.fault', `nft told no handle: ${added.stdout}`);
    let removed: Promise<unknown> | undefined;
    const remove = async () => {
      removed ??= runInside(this.#switch, ['nft', `delete rule bridge faults forward handle ${handle}`]);
      await removed;
    };
    return { remove, [Symbol.asyncDispose]: remove };
  }

  async #eachPort(host: LabHost, argv: (port: string) => readonly string[]): Promise<void> {
    for (const port of this.#ports(host)) await runInside(this.#switch, argv(port));
  }

  #ports(host: LabHost): readonly string[] {
    const ports = portsOn(host, this.segment);
    if (ports.length === 0) {
      throw new LbdError('lab.unknown', `host ${host.name} has no NIC on segment ${this.name}`);
    }
    return ports;
  }
}

function portsOn(host: LabHost, segment: Segment): readonly string[] {
  return host.plan.nics.filter((nic) => nic.segment === segment.name).map((nic) => nic.port);
}

function portSet(ports: readonly string[]): string {
  return `{ ${ports.map((port) => `"${port}"`).join(', ')} }`;
}
