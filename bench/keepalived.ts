import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Clients, type SeenByClients } from '../test/support/clients.ts';
import { createLab, type Lab } from '../test/support/lab.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import { favoured, type LabProcess } from '../test/support/lab-process.ts';
import { labTimeMs } from '../test/support/lab-time.ts';

/**
 * Three hosts that share one address by VRRP version 3 (keepalived), to measure lbd beside what people use today: the same
 * client, the same prober, the same faults.
 */

const VIP = '10.77.0.200';

export type VrrpFault = 'host cut off' | 'SIGTERM' | 'SIGKILL';

export class VrrpHosts {
  readonly #lab: Lab;
  readonly #hosts: readonly LabHost[];
  readonly #advertS: number;
  readonly #processes = new Map<LabHost, LabProcess>();

  private constructor(lab: Lab, advertS: number) {
    this.#lab = lab;
    this.#hosts = ['v1', 'v2', 'v3'].map((name) => lab.host(name));
    this.#advertS = advertS;
  }

  static async start(advertS: number): Promise<VrrpHosts> {
    const lab = await createLab({ hosts: { v1: {}, v2: {}, v3: {}, client: {}, judge: {} } });
    const hosts = new VrrpHosts(lab, advertS);
    for (const host of hosts.#hosts) await hosts.#run(host);
    return hosts;
  }

  /** What clients see of the address while its owner suffers `fault`, and comes back. */
  async round(
    fault: VrrpFault,
    probe: { readonly probeMs: number; readonly pingMs: number },
  ): Promise<SeenByClients> {
    const [judge, client] = [this.#lab.host('judge'), this.#lab.host('client')];
    // The last round may have left the client with the MAC of a host that has let go and told nobody.
    await client.run(['ip', 'neigh', 'flush', 'dev', 'eth0']);
    const clients = await Clients.start({ prober: judge, pings: client }, VIP, {
      ...probe,
      daemons: () => [...this.#processes.values()].map(({ pid }) => pid),
    });
    const { mac } = await clients.prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
    const owner = this.#hosts.find((host) => host.nic('eth0').mac === mac);
    if (owner === undefined) throw new Error(`nobody has ${mac}`);
    await sleep(1_000 * Math.random());
    const fromMs = labTimeMs();
    await this.#suffer(owner, fault);
    await clients.firstOther(mac, fromMs, 30_000);
    await sleep(500 + 500 * Math.random());
    await this.#recover(owner, fault);
    await this.#agreed();
    const seen = await clients.stop(fromMs);
    await this.#clean(owner, fault);
    return seen;
  }

  close(): Promise<void> {
    return this.#lab.close();
  }

  /** Starts keepalived on the host; all are BACKUP of equal standing but for their priority, and none preempts. */
  async #run(host: LabHost): Promise<void> {
    const priority = 100 - this.#hosts.indexOf(host);
    const [parent, child] = pidFiles(host);
    await host.writeFile('/etc/keepalived.conf', config(host.name, priority, this.#advertS));
    const process = await host.spawn(
      favoured([
        'keepalived',
        '--dont-fork',
        '--vrrp',
        '--log-console',
        '--use-file=/etc/keepalived.conf',
        `--pid=${parent}`,
        `--vrrp_pid=${child}`,
      ]),
    );
    this.#processes.set(host, process);
  }

  async #suffer(owner: LabHost, fault: VrrpFault): Promise<void> {
    if (fault === 'host cut off') return this.#lab.segment().disconnect(owner);
    const keepalived = this.#processes.get(owner);
    if (keepalived === undefined) throw new Error(`no keepalived on ${owner.name}`);
    if (fault !== 'SIGKILL') return keepalived.kill('SIGTERM');
    killAll(keepalived.pid);
    // What waits for it outside of the lab stopped with it, and would never see its end.
    keepalived.kill('SIGCONT');
    await keepalived.exit;
  }

  async #recover(owner: LabHost, fault: VrrpFault): Promise<void> {
    if (fault === 'host cut off') await this.#lab.segment().connect(owner);
    else if (fault === 'SIGTERM') {
      await this.#processes.get(owner)?.exit;
      await this.#run(owner);
    }
  }

  /** Its kernel has kept the address of a keepalived that was killed. */
  async #clean(owner: LabHost, fault: VrrpFault): Promise<void> {
    if (fault !== 'SIGKILL') return;
    await owner.run(['ip', 'addr', 'del', `${VIP}/24`, 'dev', 'eth0'], { mayFail: true });
    // Left behind by one that was killed, they keep the next from starting.
    await owner.run(['rm', '-f', ...pidFiles(owner)]);
    await this.#run(owner);
    await this.#agreed();
  }

  /** Until they are of one mind again: the next advert of the one of higher priority tells the other. */
  async #agreed(): Promise<void> {
    await sleep(500 + 2_000 * this.#advertS);
  }
}

/** Of the process and of its child. */
function pidFiles(host: LabHost): readonly [string, string] {
  return [`/run/keepalived-${host.name}.pid`, `/run/vrrp-${host.name}.pid`];
}

/** The process watches a child that does VRRP, and each acts on the death of the other: neither gets to run. */
function killAll(pid: number): void {
  process.kill(pid, 'SIGSTOP');
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').map(Number);
  for (const one of children) process.kill(one, 'SIGSTOP');
  for (const one of [...children, pid]) process.kill(one, 'SIGKILL');
}

function config(name: string, priority: number, advertS: number): string {
  return `global_defs {
  router_id ${name}
  vrrp_version 3
  vrrp_garp_master_delay 0
}
vrrp_instance vip {
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority ${priority}
  advert_int ${advertS}
  virtual_ipaddress {
    ${VIP}/24
  }
}
`;
}
