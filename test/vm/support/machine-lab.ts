import { existsSync } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createLab, type Lab } from '../../support/lab.ts';
import type { LabHost } from '../../support/lab-host.ts';
import { type Image, imageOf, type Suite } from './image.ts';
import { Machine, type MachineOptions } from './machine.ts';
import { INSTALL_COMMANDS, type Repository, serveRepository } from './package.ts';

/** A lab with real machines in it: an API server, a client with the ARP prober, and machines beside them. */

export type MachineLabOptions = {
  /** Default `bookworm`. */
  readonly suite?: Suite;
  /** Their names; default one, `m1`. */
  readonly machines?: readonly string[];
  /** With this lbd installed by apt, and not yet configured; default: without. */
  readonly installed?: Repository;
};

/** The host of the lab that a machine runs in. */
const CABINET = { nics: { uplink: { addresses: [] } }, gateways: null };
const FIRST_MACHINE_NUMBER = 101;
const REMOVED_AFTER_MS = 3_600_000;

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
    const saved = await savedMachine(image, options.installed);
    const names = options.machines ?? ['m1'];
    const cabinets = names.map((name) => [name, CABINET]);
    const lab = await createLab({ hosts: { server: {}, client: {}, ...Object.fromEntries(cabinets) } });
    try {
      const [machines] = await Promise.all([
        Promise.all(names.map((name, index) => wake(lab, image, saved, name, index))),
        lab.startApiServer('server'),
      ]);
      // A certificate of the API server must not be from their future.
      await Promise.all(machines.map((machine) => machine.setClock()));
      return new MachineLab(lab, machines);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** Makes what all machines of a suite begin as, unless it is there. */
  static async prepare(suite: Suite): Promise<void> {
    await savedMachine(await imageOf(suite), undefined);
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

function wake(lab: Lab, image: Image, saved: string, name: string, index: number): Promise<Machine> {
  return Machine.wake(lab.host(name), saved, optionsOf(lab, image, index));
}

function optionsOf(lab: Lab, image: Image, index: number): MachineOptions {
  const number = FIRST_MACHINE_NUMBER + index;
  return {
    image,
    address: `10.77.0.${number}/24`,
    gateway: '10.77.0.1',
    mac: `02:1b:d1:00:00:${number.toString(16)}`,
    server: lab.host('server').ip,
  };
}

/** Disk and memory of a machine that has booted, with the package if asked: made once, for all tests that need one. */
async function savedMachine(image: Image, repository: Repository | undefined): Promise<string> {
  if (!existsSync(image.booted)) await removeSaved(join(dirname(image.booted), 'booted'));
  const booted = await saved(image.booted, (lab) => Machine.boot(lab.host('m1'), optionsOf(lab, image, 0)));
  if (repository === undefined) return booted;
  const file = `${image.booted}-${repository.hash}`;
  if (!existsSync(file)) await removeSaved(`${image.booted}-`);
  return saved(file, async (lab) => {
    const machine = await wake(lab, image, booted, 'm1', 0);
    await serveRepository(lab, repository);
    await machine.type(INSTALL_COMMANDS, { timeoutMs: 300_000 });
    return machine;
  });
}

/** Of builds before this one; what is new may be another test's. */
async function removeSaved(prefix: string): Promise<void> {
  for (const name of await readdir(dirname(prefix))) {
    const path = join(dirname(prefix), name);
    if (!path.startsWith(prefix)) continue;
    const status = await stat(path).catch(() => undefined);
    if (status !== undefined && Date.now() - status.mtimeMs > REMOVED_AFTER_MS)
      await rm(path, { force: true });
  }
}

async function saved(file: string, make: (lab: Lab) => Promise<Machine>): Promise<string> {
  if (existsSync(file)) return file;
  const unfinished = `${file}.${process.pid}`;
  await using lab = await createLab({ hosts: { server: {}, m1: CABINET } });
  const machine = await make(lab);
  await machine.saveMemory(unfinished);
  await rename(unfinished, file);
  return file;
}
