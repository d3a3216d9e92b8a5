import { waitFor } from '../../support/wait.ts';
import type { Machine } from './machine.ts';
import type { MachineLab } from './machine-lab.ts';
import { VIP } from './story.ts';

/** The managers of a machine's NIC, and a record of what they do to its addresses. */

/** What the DHCP server gives: a client renews after half of it, and a slow one must not lose it in a restart. */
const LEASE_SECONDS = 40;
const OWN_BY_DHCP = /inet 10\.77\.0\.15\d\/24 /;
/** Under emulation a manager needs seconds to start. */
const TIMEOUT_MS = 180_000;

const LOG = '/run/address-changes';

/** Gives 10.77.0.150 to 10.77.0.159 to whoever asks on the segment, while the lab lives. */
export async function startDhcpServer({ client }: MachineLab): Promise<void> {
  const lines = [
    'interface eth0',
    'start 10.77.0.150',
    'end 10.77.0.159',
    'option subnet 255.255.255.0',
    'option router 10.77.0.1',
    `option lease ${LEASE_SECONDS}`,
    'min_lease 10',
    'lease_file /run/udhcpd.leases',
    'pidfile /run/udhcpd.pid',
  ];
  await client.writeFile('/run/udhcpd.conf', `${lines.join('\n')}\n`);
  await client.writeFile('/run/udhcpd.leases', '');
  const server = await client.spawn(['busybox', 'udhcpd', '-f', '/run/udhcpd.conf']);
  await server.waitForLine(/started/);
}

/** systemd-networkd in the place of ifupdown, with an address by DHCP. */
export async function manageByNetworkd(machine: Machine): Promise<void> {
  await machine.run(
    `set -e
    ifdown eth0
    printf 'auto lo\\niface lo inet loopback\\n' >/etc/network/interfaces
    printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n' >/etc/systemd/network/10-eth0.network
    systemctl start systemd-networkd`,
    { timeoutMs: TIMEOUT_MS },
  );
  await networkdIsDone(machine);
}

/** Waits until systemd-networkd has configured the NIC. */
export async function networkdIsDone(machine: Machine): Promise<void> {
  const command = '/usr/lib/systemd/systemd-networkd-wait-online --interface eth0 --timeout 60';
  await machine.run(command, { timeoutMs: TIMEOUT_MS });
}

/** NetworkManager in the place of systemd-networkd, with an address by DHCP. */
export async function manageByNetworkManager(machine: Machine): Promise<void> {
  const profile = [
    '[connection]',
    'id=eth0',
    'type=ethernet',
    'interface-name=eth0',
    '[ipv4]',
    'method=auto',
    '[ipv6]',
    'method=disabled',
  ];
  await machine.run(
    'systemctl stop systemd-networkd.socket systemd-networkd && rm -r /etc/systemd/network/*',
  );
  // Without it NetworkManager would adopt the NIC as it is, and not apply the profile.
  await machine.run('ip addr flush dev eth0; ip link set eth0 down');
  const file = '/etc/NetworkManager/system-connections/eth0.nmconnection';
  await machine.writeFile(file, `${profile.join('\n')}\n`, '600');
  await machine.run('systemctl start NetworkManager', { timeoutMs: TIMEOUT_MS });
  await networkManagerIsDone(machine);
}

/** Waits until NetworkManager has configured the NIC. */
export async function networkManagerIsDone(machine: Machine): Promise<void> {
  await machine.waitFor('nmcli --get-values GENERAL.STATE,GENERAL.CONNECTION device show eth0', {
    describe: 'eth0 connected by its profile',
    predicate: (text) => text === '100 (connected)\neth0\n',
    timeoutMs: TIMEOUT_MS,
  });
}

/** ifupdown with dhclient in the place of NetworkManager. */
export async function manageByIfupdown(machine: Machine): Promise<void> {
  await machine.run(
    `nmcli connection down eth0
    systemctl stop NetworkManager
    rm -rf /etc/NetworkManager/system-connections/* /run/NetworkManager
    ip addr flush dev eth0; ip link set eth0 down
    printf 'auto lo\\niface lo inet loopback\\nauto eth0\\niface eth0 inet dhcp\\n' >/etc/network/interfaces
    ifup eth0`,
    { timeoutMs: TIMEOUT_MS },
  );
}

export type AddressChange = {
  /** In ms, by the machine's own clock. */
  readonly atMs: number;
  readonly kind: 'added' | 'removed';
  /** As `ip -o` writes the address, from its family on. */
  readonly text: string;
};

/** Every change of the machine's addresses, as the kernel notified it. */
export class AddressLog {
  readonly #machine: Machine;
  #from = 1;

  private constructor(machine: Machine) {
    this.#machine = machine;
  }

  static async start(machine: Machine): Promise<AddressLog> {
    await machine.run(
      `systemd-run --quiet --unit address-changes --property StandardOutput=append:${LOG} ip -ts -o monitor address`,
    );
    const log = new AddressLog(machine);
    await log.mark();
    return log;
  }

  /** From now on nothing that happened before counts. */
  async mark(): Promise<void> {
    this.#from = Number(await this.#machine.output(`cat ${LOG} 2>/dev/null | wc -l`)) + 1;
  }

  /** The changes since the mark. */
  async changes(): Promise<readonly AddressChange[]> {
    const text = await this.#machine.output(`tail -n +${this.#from} ${LOG}`);
    return text.split('\n').flatMap((line) => {
      const [, time, deleted, rest] = /^\[([^\]]+)\] (Deleted )?\d+: \S+ +(.*)$/.exec(line) ?? [];
      if (time === undefined || rest === undefined) return [];
      return [
        {
          atMs: Date.parse(`${time.slice(0, 23)}Z`),
          kind: deleted === undefined ? 'added' : 'removed',
          text: rest,
        },
      ];
    });
  }

  /** How often the Service's address was taken off since the mark, and how long each time until it was back, in ms. */
  async repairsMs(): Promise<readonly number[]> {
    const about = (await this.changes()).filter(({ text }) => text.startsWith(`inet ${VIP}/`));
    return about.flatMap(({ kind, atMs }, index) => {
      if (kind === 'added') return [];
      const back = about.slice(index).find((later) => later.kind === 'added');
      return [back === undefined ? Number.POSITIVE_INFINITY : back.atMs - atMs];
    });
  }

  /** Waits for the next renewal of the machine's lease. */
  async leaseRenewed(): Promise<void> {
    const before = (await this.changes()).length;
    await waitFor(
      async () => {
        const news = (await this.changes()).slice(before);
        return news.some(({ kind, text }) => kind === 'added' && OWN_BY_DHCP.test(text));
      },
      { describe: 'a renewed lease', timeoutMs: 4 * LEASE_SECONDS * 1_000, everyMs: 500 },
    );
  }
}
