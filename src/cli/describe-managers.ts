import { basename } from 'node:path';
import { formatDuration } from '../config/duration.ts';
import { note, type Remark, type Section, unseen, warning } from './check-report.ts';
import type { ManagedNic } from './network-managers.ts';
import type { Keeps, NetworkSettings } from './networkd-file.ts';

/** What the managers of the host's network do to addresses of Services, and how to have them leave those alone. Pure. */
export function describeManagers(managed: readonly ManagedNic[], lifetimeMs: number): Section {
  return { title: 'Network manager', remarks: managed.flatMap((each) => describeManager(each, lifetimeMs)) };
}

function describeManager(managed: ManagedNic, lifetimeMs: number): readonly Remark[] {
  const { nic } = managed;
  switch (managed.manager) {
    case 'systemd-networkd':
      return describeNetworkd(nic, managed.file, managed.settings, lifetimeMs);
    case 'NetworkManager':
      return [
        note(
          `${nic} is managed by NetworkManager. It leaves addresses of Services alone when it is restarted or reloaded and when ` +
            'it renews a lease. Applying a profile anew (nmcli connection up, nmcli device reapply) removes them, and lbd puts ' +
            'them back at once.',
        ),
      ];
    case 'ifupdown':
      return [
        note(
          `${nic} is managed by ifupdown. ifdown, and with it "systemctl restart networking", takes the addresses of Services ` +
            'off with the NIC; lbd puts them back once ifup has given it its own address.',
        ),
      ];
    default:
      return managed satisfies never;
  }
}

function describeNetworkd(
  nic: string,
  file: string,
  settings: NetworkSettings | string,
  lifetimeMs: number,
): readonly Remark[] {
  const who = `${nic} is managed by systemd-networkd with ${file}`;
  if (typeof settings === 'string') {
    return [unseen(`whether ${who.replace(' is ', ', ')}, keeps addresses of Services: ${settings}.`)];
  }
  const { keeps, saidBy, hasDhcp } = settings;
  const needed = lifetimeMs > 0 ? 'dynamic' : 'static';
  if (saidBy !== undefined && (keeps === needed || keeps === 'everything')) {
    return [note(`${who}. It leaves addresses of Services alone, by ${saidBy}.`)];
  }
  const value = valueFor(keeps, needed);
  const leases = value !== 'static' && hasDhcp;
  return [
    warning(
      `${who}, ${why(saidBy, keeps, lifetimeMs)}. So it removes the addresses of Services when it is restarted or applies a ` +
        'changed file, and lbd has to put them back each time.',
    ),
    note(`To have it leave them alone: ${remedy(file, value)}`),
    ...(leases
      ? [note(`With that, ${nic} keeps an address by DHCP also when its lease is not renewed.`)]
      : []),
  ];
}

function why(saidBy: string | undefined, keeps: Keeps, lifetimeMs: number): string {
  if (saidBy === undefined) return 'which has no KeepConfiguration=';
  if (keeps === 'static')
    return `whose ${saidBy} spares only addresses without a lifetime, and those of lbd have one of ${formatDuration(lifetimeMs)}`;
  if (keeps === 'dynamic')
    return `whose ${saidBy} spares only addresses with a lifetime, and [local] lifetime = 0 gives those of lbd none`;
  return `whose ${saidBy} spares no address that it did not set itself`;
}

/** The least that keeps what is needed and what is kept already. `dhcp` is known to every systemd, `dynamic` since 257. */
function valueFor(keeps: Keeps, needed: 'static' | 'dynamic'): string {
  if (keeps !== 'nothing') return 'yes';
  return needed === 'dynamic' ? 'dhcp' : 'static';
}

/** A drop-in of its own survives whatever generates the file itself, as netplan does. */
function remedy(file: string, value: string): string {
  const directory = `/etc/systemd/network/${basename(file)}.d`;
  return (
    `mkdir -p ${directory} && printf '[Network]\\nKeepConfiguration=${value}\\n' >${directory}/lbd.conf && ` +
    'networkctl reload'
  );
}
