import type { StatusDocument } from '../daemon/types.ts';
import type { AddressStatus } from '../iface/types.ts';
import { compareIps } from '../lib/ip.ts';
import { addressStateCell } from './render-status.ts';
import { type Cell, type Paint, renderTable } from './table.ts';
import { formatAge } from './text.ts';

const HEADER = [
  'ADDRESS',
  'STATE',
  'INTERFACE',
  'HELD FOR',
  'LIFETIME LEFT',
  'ANNOUNCEMENTS',
  'SERVICES',
  'REASON',
];

/** Every address of this host in numeric order, one line each. */
export function renderAddresses(document: StatusDocument, paint: Paint): string {
  if (document.addresses.length === 0) return 'no addresses\n';
  const sorted = document.addresses.toSorted((left, right) => compareIps(left.ip, right.ip));
  return renderTable(HEADER, sorted.map(addressRow), paint)
    .map((line) => `${line}\n`)
    .join('');
}

function addressRow(address: AddressStatus): readonly Cell[] {
  return [
    address.prefixLength === undefined ? address.ip : `${address.ip}/${address.prefixLength}`,
    addressStateCell(address.state),
    address.interface ?? '-',
    address.heldSinceMs === undefined ? '-' : formatAge(address.heldSinceMs),
    lifetimeText(address.lifetimeLeftMs),
    String(address.announcements),
    address.services.join(', '),
    address.reason ?? '',
  ];
}

function lifetimeText(lifetimeLeftMs: AddressStatus['lifetimeLeftMs']): string {
  if (lifetimeLeftMs === undefined) return '-';
  return lifetimeLeftMs === 'permanent' ? lifetimeLeftMs : formatAge(lifetimeLeftMs);
}
