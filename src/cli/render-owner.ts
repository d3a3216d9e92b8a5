import type { OwnerStatus } from '../daemon/types.ts';
import type { Cell } from './table.ts';
import { formatAge } from './text.ts';

/** Columns about the owner of an address, the same in every table. */
export const OWNER_HEADER = ['OWNER', 'EPOCH', 'SINCE', 'HEIR'] as const;

/** `undefined` for an address that no host has in a subnet, or that no Service has. */
export function ownerCells(owner: OwnerStatus | undefined): readonly Cell[] {
  if (owner === undefined) return ['-', '-', '-', '-'];
  const { epoch, sinceMs, heir } = owner;
  return [
    ownerCell(owner),
    epoch === 0 ? '-' : String(epoch),
    sinceMs === undefined ? '-' : formatAge(sinceMs),
    heir ?? '-',
  ];
}

function ownerCell({ state, owner }: OwnerStatus): Cell {
  switch (state) {
    case 'mine':
    case 'theirs':
      return owner ?? '-';
    case 'orphaned':
      return { text: `${owner} (gone)`, style: 'yellow' };
    case 'free':
      return { text: 'nobody yet', style: 'yellow' };
    case 'nobody':
      return { text: owner === undefined ? 'nobody' : `${owner} (gone)`, style: 'red' };
    default:
      return state satisfies never;
  }
}
