import { createLab, type Lab } from '../test/support/lab.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import type { LabProcess } from '../test/support/lab-process.ts';

/** Two hosts that share one address by VRRP version 3 (keepalived), to measure lbd beside what people use today. */

export const VRRP_VIP = '10.77.0.200';

export class VrrpPair {
  readonly lab: Lab;
  readonly client: LabHost;
  readonly hosts: readonly LabHost[];
  readonly #advertS: number;
  readonly #processes = new Map<LabHost, LabProcess>();

  private constructor(lab: Lab, advertS: number) {
    this.lab = lab;
    this.client = lab.host('client');
    this.hosts = [lab.host('v1'), lab.host('v2'), lab.host('v3')];
    this.#advertS = advertS;
  }

  static async start(advertS: number): Promise<VrrpPair> {
    const lab = await createLab({ hosts: { v1: {}, v2: {}, v3: {}, client: {} } });
    const pair = new VrrpPair(lab, advertS);
    for (const host of pair.hosts) await pair.run(host);
    return pair;
  }

  /** Starts keepalived on the host; all are BACKUP of equal standing but for their priority, and none preempts. */
  async run(host: LabHost): Promise<void> {
    const priority = 100 - this.hosts.indexOf(host);
    await host.writeFile('/etc/keepalived.conf', config(host.name, priority, this.#advertS));
    const process = await host.spawn([
      'keepalived',
      '--dont-fork',
      '--vrrp',
      '--log-console',
      '--use-file=/etc/keepalived.conf',
      `--pid=/run/keepalived-${host.name}.pid`,
      `--vrrp_pid=/run/vrrp-${host.name}.pid`,
    ]);
    this.#processes.set(host, process);
  }

  process(host: LabHost): LabProcess {
    const process = this.#processes.get(host);
    if (process === undefined) throw new Error(`no keepalived on ${host.name}`);
    return process;
  }

  /** The process that does VRRP: the parent only watches it. */
  async worker(host: LabHost): Promise<number> {
    const { stdout } = await host.run(['pgrep', '-P', String(this.process(host).pid)], { mayFail: true });
    return Number(stdout.trim().split('\n')[0] ?? 0);
  }

  close(): Promise<void> {
    return this.lab.close();
  }
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
    ${VRRP_VIP}/24
  }
}
`;
}
