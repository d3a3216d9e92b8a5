import { LbdError } from '../../../src/lib/errors.ts';
import type { LabHost } from '../../support/lab-host.ts';
import { LabCommandError, type LabProcess, type RunResult } from '../../support/lab-process.ts';
import { labTimeMs } from '../../support/lab-time.ts';
import { waitFor, within } from '../../support/wait.ts';
import type { Image } from './image.ts';
import { askMonitor } from './monitor.ts';

/**
 * A machine of the lab: QEMU in software, with Debian's kernel and systemd, on the lab's segment.
 *
 * QEMU runs inside a host of the lab whose only NIC, `uplink`, is bridged to the machine's: what cuts that host off
 * cuts the machine off, and the machine ends with the lab. Commands go through a virtio port to an agent in the
 * machine (`root/usr/local/sbin/lab-agent`), so they need no network. The disk is a layer over the image, in memory.
 */

export type MachineOptions = {
  readonly image: Image;
  /** With prefix length. */
  readonly address: string;
  readonly gateway: string;
  readonly mac: string;
  /** The host of the lab that serves packages: `lab-server` in the machine's /etc/hosts. */
  readonly server: string;
  /** Default 512. */
  readonly memoryMb?: number;
};

export type MachineRunOptions = {
  /** Default 3 min: everything takes ten times as long as on a processor, and longer on a busy one. */
  readonly timeoutMs?: number;
  /** Resolve whatever the exit status is; without it, any but 0 throws. */
  readonly mayFail?: boolean;
};

type Answer = RunResult & { readonly answeredAtMs: number };

/** The tests are guests here: whatever else measures something on this machine goes first. */
const NICENESS = process.env['VM_NICE'] ?? '10';
/**
 * The machine's clock goes by the instructions that it runs, 2 ns each, and by real time only while it has nothing to do. So
 * its own lifetimes, timeouts and watchdogs do not depend on how busy this machine is; it takes three times as long as
 * it notices, or more.
 */
const CLOCK = 'shift=1,sleep=on';
const SNAPSHOT = 'booted';
const BOOT_TIMEOUT_MS = 240_000;
const WAKE_TIMEOUT_MS = 180_000;
const RUN_TIMEOUT_MS = 180_000;
const WAIT_TIMEOUT_MS = 120_000;
const CONSOLE_TAIL_CHARACTERS = 2_000;

export class Machine {
  readonly name: string;
  readonly host: LabHost;
  readonly ip: string;
  readonly mac: string;
  readonly #options: MachineOptions;
  readonly #answers = new Map<number, (answer: Answer) => void>();
  #qemu: LabProcess | undefined;
  /** The boot that the agent speaks from. */
  #bootId: string | undefined;
  #booted = Promise.withResolvers<void>();
  #lastId = 0;

  private constructor(host: LabHost, options: MachineOptions) {
    this.name = host.name;
    this.host = host;
    this.ip = options.address.split('/')[0] ?? '';
    this.mac = options.mac;
    this.#options = options;
  }

  /** Makes its disk and cable and powers it on; resolves when systemd says that the boot is done. */
  static async boot(host: LabHost, options: MachineOptions): Promise<Machine> {
    const machine = new Machine(host, options);
    await machine.#plug();
    await host.run(
      // biome-ignore format: one command line
      ['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', options.image.disk, machine.#path('disk.qcow2')],
    );
    await machine.powerOn();
    return machine;
  }

  /** As `boot()`, from the memory of a machine that has booted (`saveMemory()`): seconds instead of a boot. */
  static async wake(host: LabHost, saved: string, options: MachineOptions): Promise<Machine> {
    const machine = new Machine(host, options);
    await machine.#plug();
    await host.run(['cp', '--sparse=always', saved, machine.#path('disk.qcow2')]);
    await machine.#start([], ['-loadvm', SNAPSHOT]);
    await machine.#becomeItself();
    return machine;
  }

  /** Keeps disk and memory in `file`, which `wake()` takes, and ends the machine. */
  async saveMemory(file: string): Promise<void> {
    await this.run('sync; echo 3 >/proc/sys/vm/drop_caches; fstrim /');
    await this.#monitor(`savevm ${SNAPSHOT}`);
    await this.powerCut();
    await this.host.run(['cp', '--sparse=always', this.#path('disk.qcow2'), file]);
  }

  /** Runs a script by bash as root; throws `LabCommandError` when it fails, unless `mayFail`. */
  async run(script: string, options: MachineRunOptions = {}): Promise<RunResult> {
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#lastId += 1;
    const id = this.#lastId;
    this.#answers.set(id, resolve);
    this.#running.write(`run ${id} ${Buffer.from(script).toString('hex')}\n`);
    const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS;
    const answer = await within(promise, timeoutMs, () => `\`${script}\` on ${this.name}`).finally(() =>
      this.#answers.delete(id),
    );
    if (answer.code !== 0 && options.mayFail !== true)
      throw new LabCommandError(this.name, [script], `failed (exit status ${answer.code})`, answer);
    return answer;
  }

  /** Standard output of a script, without the last newline. */
  async output(script: string, options?: MachineRunOptions): Promise<string> {
    return (await this.run(script, options)).stdout.trimEnd();
  }

  /** Types commands as a person does, one after the other; the first that fails throws. */
  async type(commands: readonly string[], options?: MachineRunOptions): Promise<readonly RunResult[]> {
    const results: RunResult[] = [];
    await this.setClock();
    for (const command of commands) results.push(await this.run(command, options));
    return results;
  }

  async writeFile(path: string, content: string, mode = '644'): Promise<void> {
    const encoded = Buffer.from(content).toString('base64');
    await this.run(
      `mkdir -p "$(dirname ${path})" && base64 -d <<<${encoded} >${path} && chmod ${mode} ${path}`,
    );
  }

  /** Polls a script until it succeeds and `predicate` agrees with its output; resolves with that output. */
  waitFor(
    script: string,
    options: {
      readonly describe: string;
      readonly predicate?: (stdout: string) => boolean;
      readonly timeoutMs?: number;
    },
  ): Promise<string> {
    return waitFor(
      async () => {
        const { code, stdout, stderr } = await this.run(script, { mayFail: true });
        const agrees = code === 0 && (options.predicate ?? (() => true))(stdout);
        if (!agrees) throw new LbdError('vm.not-yet', `status ${code}: ${stdout}${stderr}`);
        return { stdout };
      },
      {
        describe: `${options.describe} on ${this.name}`,
        timeoutMs: options.timeoutMs ?? WAIT_TIMEOUT_MS,
        // Each look is work for the one processor that is to get there.
        everyMs: 500,
      },
    ).then(({ stdout }) => stdout);
  }

  /** `systemctl reboot`; resolves when the machine is up again. */
  async reboot(): Promise<void> {
    const before = this.#bootId;
    this.#booted = Promise.withResolvers();
    this.#running.write(`run 0 ${Buffer.from('systemctl reboot').toString('hex')}\n`);
    await this.#waitForBoot();
    if (this.#bootId === before) throw new LbdError('vm.boot', `${this.name} did not reboot`);
  }

  /** As if somebody pulled the plug: what the machine had not yet written to its disk is lost. */
  async powerCut(): Promise<void> {
    await this.#running.stop('SIGKILL');
    this.#qemu = undefined;
  }

  /** `kernelArguments` are added for this boot only. */
  async powerOn(kernelArguments: readonly string[] = []): Promise<void> {
    await this.#start(kernelArguments);
    await this.#waitForBoot();
  }

  async #start(kernelArguments: readonly string[], qemuArguments: readonly string[] = []): Promise<void> {
    this.#booted = Promise.withResolvers();
    this.#booted.promise.catch(() => {});
    const argv = [...this.#commandLine(kernelArguments), ...qemuArguments];
    const qemu = await this.host.spawn(['nice', '-n', NICENESS, ...argv]);
    this.#qemu = qemu;
    qemu.onLine((line, stream) => {
      if (stream === 'stdout') this.#take(line);
    });
    qemu.exit.then((status) => {
      this.#booted.reject(
        new LbdError('vm.qemu', `QEMU of ${this.name} ended (${JSON.stringify(status)}): ${qemu.stderr}`),
      );
    });
  }

  /** A machine that woke is the one that was saved: it gets the name, the address and the time of this one. */
  async #becomeItself(): Promise<void> {
    const { address, gateway, server } = this.#options;
    await this.setClock();
    await this.run(
      `set -e
      [ "$(cat /etc/lab-name)" != ${this.name} ] || exit 0
      echo ${this.name} | tee /etc/hostname >/etc/lab-name
      hostname ${this.name}
      printf '127.0.0.1 localhost\n127.0.1.1 %s\n%s lab-server\n' ${this.name} ${server} >/etc/hosts
      ifdown eth0
      sed -i 's|^  address .*|  address ${address}|; s|^  gateway .*|  gateway ${gateway}|' /etc/network/interfaces
      ip link set eth0 address ${this.mac}
      ifup eth0`,
      { timeoutMs: WAKE_TIMEOUT_MS },
    );
  }

  /** Sets its clock, which falls behind while it works, to the time of the lab. */
  async setClock(): Promise<void> {
    await this.run(`date --set @${(Date.now() / 1000).toFixed(3)} >/dev/null`);
  }

  /** Pulls the cable of its NIC out, or puts it back in. */
  async setCable(isIn: boolean): Promise<void> {
    await this.#monitor(`set_link nic0 ${isIn ? 'on' : 'off'}`);
  }

  #monitor(command: string): Promise<string> {
    return askMonitor(this.host.outside(this.#path('monitor')), command);
  }

  /** The last that the kernel and systemd said on the serial console. */
  async consoleTail(): Promise<string> {
    const text = await this.host.readFile(this.#path('console.log')).catch(() => '(no console)');
    return text.slice(-CONSOLE_TAIL_CHARACTERS);
  }

  /** The journal of a unit since the boot, for the message of a failure. */
  async journal(unit = 'lbd', lines = 40): Promise<string> {
    const command = `journalctl --no-pager -o cat -b -u ${unit} -n ${lines}`;
    return (await this.run(command, { mayFail: true })).stdout;
  }

  async close(): Promise<void> {
    await this.#qemu?.stop('SIGKILL');
  }

  get #running(): LabProcess {
    if (this.#qemu === undefined) throw new LbdError('vm.off', `machine ${this.name} is powered off`);
    return this.#qemu;
  }

  #path(file: string): string {
    return `/run/lab/hosts/${this.name}/${file}`;
  }

  async #plug(): Promise<void> {
    await this.host.run(['ip', 'addr', 'flush', 'dev', 'uplink']);
    await this.host.ipBatch([
      'link add cable type bridge forward_delay 0 stp_state 0 mcast_snooping 0',
      'link set uplink master cable',
      'tuntap add tap0 mode tap',
      'link set tap0 master cable up',
      'link set cable up',
    ]);
  }

  async #waitForBoot(): Promise<void> {
    try {
      await within(this.#booted.promise, BOOT_TIMEOUT_MS, () => `${this.name} to boot`);
      // `degraded` is a boot that is done as well; a test that minds asks for failed units.
      await this.run('systemctl is-system-running --wait', { mayFail: true, timeoutMs: BOOT_TIMEOUT_MS });
    } catch (error) {
      throw new LbdError('vm.boot', `${this.name}; its console: ${await this.consoleTail()}`, {
        cause: error,
      });
    }
  }

  #take(line: string): void {
    const [verb, id = '', status = '', stdout = '', stderr = ''] = line.split(' ');
    if (verb === 'up') {
      this.#bootId = id;
      this.#booted.resolve();
    }
    if (verb !== 'done') return;
    this.#answers.get(Number(id))?.({
      code: Number(status),
      stdout: fromHex(stdout),
      stderr: fromHex(stderr),
      answeredAtMs: labTimeMs(),
    });
  }

  // biome-ignore format: one command line
  #commandLine(kernelArguments: readonly string[]): readonly string[] {
    const { image, address, gateway, mac, server, memoryMb } = this.#options;
    const kernel = [
      'console=ttyS0', 'root=/dev/vda', 'net.ifnames=0', 'mitigations=off', 'tsc=reliable', 'no_timer_check',
      'systemd.show_status=1', `lab.name=${this.name}`, `lab.address=${address}`, `lab.gateway=${gateway}`,
      `lab.server=${server}`, ...kernelArguments,
    ];
    return [
      'qemu-system-x86_64',
      // Never KVM: a guest of it hangs on some machines.
      '-accel', 'tcg,tb-size=256', '-cpu', 'Nehalem', '-smp', '1', '-m', String(memoryMb ?? 512),
      '-icount', CLOCK,
      '-machine', 'q35', '-nodefaults', '-no-user-config', '-display', 'none',
      '-monitor', `unix:${this.#path('monitor')},server=on,wait=off`,
      '-kernel', image.kernel, '-initrd', image.initrd, '-append', kernel.join(' '),
      '-drive', `file=${this.#path('disk.qcow2')},if=virtio,format=qcow2,cache=writeback,discard=unmap`,
      '-netdev', 'tap,id=net0,ifname=tap0,script=no,downscript=no',
      '-device', `virtio-net-pci,id=nic0,netdev=net0,mac=${mac},romfile=`,
      '-device', 'virtio-rng-pci',
      '-device', 'virtio-serial-pci', '-chardev', 'stdio,id=agent,signal=off',
      '-device', 'virtserialport,chardev=agent,name=lab',
      '-chardev', `file,id=console,append=on,path=${this.#path('console.log')}`, '-serial', 'chardev:console',
    ];
  }
}

function fromHex(text: string): string {
  return text === '-' ? '' : Buffer.from(text, 'hex').toString();
}
