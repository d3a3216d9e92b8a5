import { createLab, type Lab } from '../../support/lab.ts';
import type { LabHost } from '../../support/lab-host.ts';
import { type Image, imageOf, type Suite } from './image.ts';
import { Machine } from './machine.ts';

/** A lab with real machines in it: an API server, a client with the ARP prober, and machines beside them. */

export type MachineLabOptions = {
  /** Default `bookworm`. */
  readonly suite?: Suite;
  /** Their names; default one, `m1`. */
  readonly machines?: readonly string[];
};

const FIRST_MACHINE_NUMBER = 101;

export class MachineLab {
  readonly lab: Lab;
  readonly machines: readonly Machine[];
  readonly client: LabHost;

  private constructor(lab: Lab, machines: readonly Machine[]) {
    this.lab = lab;
    this.machines = machines;
    this.client = lab.host('client');
  }

  /** Resolves when the API server answers and all machines are booted. */
  static async start(options: MachineLabOptions = {}): Promise<MachineLab> {
    const image = await imageOf(options.suite ?? 'bookworm');
    const names = options.machines ?? ['m1'];
    const cabinets = names.map((name) => [name, { nics: { uplink: { addresses: [] } }, gateways: null }]);
    const lab = await createLab({ hosts: { server: {}, client: {}, ...Object.fromEntries(cabinets) } });
    try {
      const [machines] = await Promise.all([
        Promise.all(names.map((name, index) => bootOne(lab, image, name, index))),
        lab.startApiServer('server'),
      ]);
      return new MachineLab(lab, machines);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  machine(name = 'm1'): Machine {
    const machine = this.machines.find((candidate) => candidate.name === name);
    if (machine === undefined) throw new Error(`the lab has no machine ${name}`);
    return machine;
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

function bootOne(lab: Lab, image: Image, name: string, index: number): Promise<Machine> {
  const number = FIRST_MACHINE_NUMBER + index;
  return Machine.boot(lab.host(name), {
    image,
    address: `10.77.0.${number}/24`,
    gateway: '10.77.0.1',
    mac: `02:1b:d1:00:00:${number.toString(16)}`,
    server: lab.host('server').ip,
  });
}
