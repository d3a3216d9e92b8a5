import type { OwnerStatus, StatusDocument } from '../daemon/types.ts';
import type { AddressStatus } from '../iface/types.ts';
import { compareIps, type Family, familyOf, type Ip, parseRange, rangeContains } from '../lib/ip.ts';
import { OWNER_HEADER, ownerCells } from './render-owner.ts';
import { addressStateCell } from './render-status.ts';
import { type Cell, type Paint, renderTable } from './table.ts';
import { formatAge } from './text.ts';

type Origin = {
  readonly family: Family;
  /** The pool that it is from; undefined when a Service's status has it and no pool does. */
  readonly pool: string | undefined;
};

/** One address of a Service: as it stands on this host, or as one that is on another. */
export type ListedAddress = Origin & (HereAddress | AwayAddress);

type HereAddress = AddressStatus & { readonly owner?: OwnerStatus | undefined };

type AwayAddress = {
  readonly ip: Ip;
  readonly services: readonly string[];
  /** `elsewhere`: another host owns it. `unowned`: nobody serves it now. */
  readonly state: 'elsewhere' | 'unowned';
  readonly owner: OwnerStatus;
};

const FAMILY_NAMES: Readonly<Record<Family, string>> = { v4: 'IPv4', v6: 'IPv6' };

/** Every address of the Services in numeric order; where hosts gossip, those that are not here too. */
export function listAddresses(document: StatusDocument): readonly ListedAddress[] {
  const originOf = originsOf(document.pools);
  return allAddresses(document)
    .map((address) => ({ ...address, ...originOf(address.ip) }))
    .sort((left, right) => compareIps(left.ip, right.ip));
}

function originsOf(pools: StatusDocument['pools']): (ip: Ip) => Origin {
  const ranges = pools.flatMap(({ name, addresses }) =>
    addresses.flatMap((text) => {
      const range = parseRange(text);
      return range.ok ? [{ name, range: range.value }] : [];
    }),
  );
  return (ip) => ({
    family: familyOf(ip),
    pool: ranges.find(({ range }) => rangeContains(range, ip))?.name,
  });
}

function allAddresses({
  addresses,
  election,
  services,
}: StatusDocument): readonly (HereAddress | AwayAddress)[] {
  if (election === undefined) return addresses;
  const users = new Map<Ip, string[]>();
  for (const service of services) {
    for (const ip of service.addresses) users.set(ip, [...(users.get(ip) ?? []), service.name]);
  }
  const owners = new Map(election.owners.map((owner) => [owner.ip, owner]));
  const here = new Set(addresses.map(({ ip }) => ip));
  const others = election.owners.filter(({ ip }) => !here.has(ip));
  return [
    ...addresses.map((address) => ({ ...address, owner: owners.get(address.ip) })),
    ...others.map((owner) => ({
      ip: owner.ip,
      services: users.get(owner.ip) ?? [],
      state: owner.state === 'theirs' ? ('elsewhere' as const) : ('unowned' as const),
      owner,
    })),
  ];
}

/** The same as a table, one line each. */
export function renderAddresses(document: StatusDocument, paint: Paint): string {
  const listed = listAddresses(document);
  if (listed.length === 0) return 'no addresses\n';
  const gossips = document.election !== undefined;
  const header = [
    'ADDRESS',
    'FAMILY',
    'KIND',
    'STATE',
    'INTERFACE',
    ...(gossips ? OWNER_HEADER : []),
    'HELD FOR',
    'LIFETIME LEFT',
    'ANNOUNCEMENTS',
    'ORIGIN',
    'SERVICES',
    'REASON',
  ];
  const rows = listed.map((address) => [
    ...(isHere(address) ? hereCells(address) : awayCells(address)),
    ...(gossips ? ownerCells(address.owner) : []),
    ...(isHere(address) ? heldCells(address) : ['-', '-', '-']),
    address.pool === undefined ? 'no pool' : `pool ${address.pool}`,
    address.services.join(', '),
    (isHere(address) ? address.reason : undefined) ?? address.owner?.reason ?? '',
  ]);
  return renderTable(header, rows, paint)
    .map((line) => `${line}\n`)
    .join('');
}

function isHere(address: ListedAddress): address is Origin & HereAddress {
  return 'announcements' in address;
}

function hereCells(address: Origin & HereAddress): readonly Cell[] {
  return [
    address.prefixLength === undefined ? address.ip : `${address.ip}/${address.prefixLength}`,
    FAMILY_NAMES[address.family],
    address.kind,
    addressStateCell(address.state),
    address.interface ?? '-',
  ];
}

function awayCells({ ip, family, state }: Origin & AwayAddress): readonly Cell[] {
  return [
    ip,
    FAMILY_NAMES[family],
    'local',
    state === 'elsewhere' ? state : { text: state, style: 'red' },
    '-',
  ];
}

function heldCells(address: HereAddress): readonly Cell[] {
  return [
    address.heldSinceMs === undefined ? '-' : formatAge(address.heldSinceMs),
    lifetimeText(address.lifetimeLeftMs),
    announcementsText(address),
  ];
}

function announcementsText({ announcements, unsentFrames }: HereAddress): string {
  return unsentFrames > 0 ? `${announcements} (${unsentFrames} frames unsent)` : String(announcements);
}

function lifetimeText(lifetimeLeftMs: AddressStatus['lifetimeLeftMs']): string {
  if (lifetimeLeftMs === undefined) return '-';
  return lifetimeLeftMs === 'permanent' ? lifetimeLeftMs : formatAge(lifetimeLeftMs);
}
