import type { OwnerStatus, StatusDocument } from '../daemon/types.ts';
import type { AddressStatus } from '../iface/types.ts';
import { compareIps, type Ip } from '../lib/ip.ts';
import { OWNER_HEADER, ownerCells } from './render-owner.ts';
import { addressStateCell } from './render-status.ts';
import { type Cell, type Paint, renderTable } from './table.ts';
import { formatAge } from './text.ts';

/** One address of a Service: as it stands on this host, or as one that is on another. */
export type ListedAddress =
  | (AddressStatus & { readonly owner?: OwnerStatus | undefined })
  | {
      readonly ip: Ip;
      readonly services: readonly string[];
      /** `elsewhere`: another host owns it. `unowned`: nobody serves it now. */
      readonly state: 'elsewhere' | 'unowned';
      readonly owner: OwnerStatus;
    };

/** Every address of the Services in numeric order; where hosts gossip, those that are not here too. */
export function listAddresses(document: StatusDocument): readonly ListedAddress[] {
  const { addresses, election, services } = document;
  if (election === undefined) return addresses.toSorted((left, right) => compareIps(left.ip, right.ip));
  const users = new Map<Ip, string[]>();
  for (const service of services) {
    for (const ip of service.addresses) users.set(ip, [...(users.get(ip) ?? []), service.name]);
  }
  const owners = new Map(election.owners.map((owner) => [owner.ip, owner]));
  const here = new Set(addresses.map(({ ip }) => ip));
  const others = election.owners.filter(({ ip }) => !here.has(ip));
  const listed: ListedAddress[] = [
    ...addresses.map((address) => ({ ...address, owner: owners.get(address.ip) })),
    ...others.map((owner) => ({
      ip: owner.ip,
      services: users.get(owner.ip) ?? [],
      state: owner.state === 'theirs' ? ('elsewhere' as const) : ('unowned' as const),
      owner,
    })),
  ];
  return listed.sort((left, right) => compareIps(left.ip, right.ip));
}

/** The same as a table, one line each. */
export function renderAddresses(document: StatusDocument, paint: Paint): string {
  const listed = listAddresses(document);
  if (listed.length === 0) return 'no addresses\n';
  const gossips = document.election !== undefined;
  const header = [
    'ADDRESS',
    'KIND',
    'STATE',
    'INTERFACE',
    ...(gossips ? OWNER_HEADER : []),
    'HELD FOR',
    'LIFETIME LEFT',
    'ANNOUNCEMENTS',
    'SERVICES',
    'REASON',
  ];
  const rows = listed.map((address) => [
    ...(isHere(address) ? hereCells(address) : awayCells(address)),
    ...(gossips ? ownerCells(address.owner) : []),
    ...(isHere(address) ? heldCells(address) : ['-', '-', '-']),
    address.services.join(', '),
    (isHere(address) ? address.reason : undefined) ?? address.owner?.reason ?? '',
  ]);
  return renderTable(header, rows, paint)
    .map((line) => `${line}\n`)
    .join('');
}

type Here = Extract<ListedAddress, AddressStatus>;

function isHere(address: ListedAddress): address is Here {
  return 'announcements' in address;
}

function hereCells(address: Here): readonly Cell[] {
  return [
    address.prefixLength === undefined ? address.ip : `${address.ip}/${address.prefixLength}`,
    address.kind,
    addressStateCell(address.state),
    address.interface ?? '-',
  ];
}

function awayCells({ ip, state }: Exclude<ListedAddress, Here>): readonly Cell[] {
  return [ip, 'local', state === 'elsewhere' ? state : { text: state, style: 'red' }, '-'];
}

function heldCells(address: Here): readonly Cell[] {
  return [
    address.heldSinceMs === undefined ? '-' : formatAge(address.heldSinceMs),
    lifetimeText(address.lifetimeLeftMs),
    String(address.announcements),
  ];
}

function lifetimeText(lifetimeLeftMs: AddressStatus['lifetimeLeftMs']): string {
  if (lifetimeLeftMs === undefined) return '-';
  return lifetimeLeftMs === 'permanent' ? lifetimeLeftMs : formatAge(lifetimeLeftMs);
}
