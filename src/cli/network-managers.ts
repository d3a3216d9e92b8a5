import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { errorText } from '../lib/errors.ts';
import { type NetworkFile, type NetworkSettings, networkSettings } from './networkd-file.ts';

/** Who else sets addresses on the NICs of this host. Read from files that every user may read; changes nothing. */

/** A NIC and what manages it. */
export type ManagedNic =
  | {
      readonly manager: 'systemd-networkd';
      readonly nic: string;
      /** The .network file that applies. */
      readonly file: string;
      /** What it and its drop-ins say, or why they cannot be read. */
      readonly settings: NetworkSettings | string;
    }
  | { readonly manager: 'NetworkManager'; readonly nic: string }
  | { readonly manager: 'ifupdown'; readonly nic: string };

/** In the order of precedence: of two drop-ins with one name, the first directory's counts (systemd.network(5)). */
const NETWORK_DIRECTORIES = [
  '/etc/systemd/network',
  '/run/systemd/network',
  '/usr/local/lib/systemd/network',
  '/usr/lib/systemd/network',
];

/** @param root in place of `/`, for tests. */
export function findManagers(
  nics: readonly { readonly name: string; readonly ifIndex: number }[],
  root = '/',
): readonly ManagedNic[] {
  return nics.flatMap(({ name, ifIndex }) => [
    ...networkdOf(name, ifIndex, root),
    ...networkManagerOf(name, ifIndex, root),
    ...ifupdownOf(name, root),
  ]);
}

function networkdOf(nic: string, ifIndex: number, root: string): readonly ManagedNic[] {
  if (!isActive('systemd-networkd.service', root)) return [];
  const state = readState(join(root, `/run/systemd/netif/links/${ifIndex}`));
  const file = state.get('NETWORK_FILE');
  // `pending` is a NIC that networkd has not looked at yet.
  if (file === undefined || file === '' || ['unmanaged', 'pending'].includes(state.get('ADMIN_STATE') ?? ''))
    return [];
  return [{ manager: 'systemd-networkd', nic, file, settings: readNetworkFiles(file, root) }];
}

/** As the files are now, which is as networkd takes them at its next start or reload. */
function readNetworkFiles(file: string, root: string): NetworkSettings | string {
  try {
    const paths = [file, ...dropInsOf(file, root)];
    return networkSettings(
      paths.map((path): NetworkFile => ({ path, text: readFileSync(join(root, path), 'utf8') })),
    );
  } catch (error) {
    return errorText(error);
  }
}

function dropInsOf(file: string, root: string): readonly string[] {
  const byName = new Map<string, string>();
  for (const directory of NETWORK_DIRECTORIES) {
    const dropIns = `${directory}/${basename(file)}.d`;
    for (const name of namesIn(join(root, dropIns)))
      if (name.endsWith('.conf') && !byName.has(name)) byName.set(name, `${dropIns}/${name}`);
  }
  return [...byName.keys()].sort().flatMap((name) => byName.get(name) ?? []);
}

function networkManagerOf(nic: string, ifIndex: number, root: string): readonly ManagedNic[] {
  if (!isActive('NetworkManager.service', root)) return [];
  const state = readState(join(root, `/run/NetworkManager/devices/${ifIndex}`));
  return state.get('managed') === 'true' ? [{ manager: 'NetworkManager', nic }] : [];
}

/** ifup(8) notes here which stanza a NIC is up by, and ifdown(8) empties it. */
function ifupdownOf(nic: string, root: string): readonly ManagedNic[] {
  const state = readIfAny(join(root, `/run/network/ifstate.${nic}`));
  return state === undefined || state.trim() === '' ? [] : [{ manager: 'ifupdown', nic }];
}

/** systemd keeps a link here for each unit that is active; those files of a service that was stopped may still lie about. */
function isActive(unit: string, root: string): boolean {
  return (
    lstatSync(join(root, `/run/systemd/units/invocation:${unit}`), { throwIfNoEntry: false }) !== undefined
  );
}

/** The lines `KEY=value` of a file; none when it is not there. */
function readState(path: string): ReadonlyMap<string, string> {
  const lines = (readIfAny(path) ?? '').split('\n');
  return new Map(
    lines.flatMap((line) => {
      const [, key = '', value = ''] = /^([^=#]+)=(.*)$/.exec(line) ?? [];
      return key === '' ? [] : [[key, value.replace(/^"(.*)"$/, '$1')]];
    }),
  );
}

function readIfAny(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // What cannot be read tells of no manager; the NIC's own sentences do not depend on it.
    return undefined;
  }
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
