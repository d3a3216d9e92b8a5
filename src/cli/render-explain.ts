import type { AddressExplanation, Explanation, OwnerStatus } from '../daemon/types.ts';
import { type Cell, type Paint, renderColumns, type Style } from './table.ts';
import { formatAge, printable } from './text.ts';

/** An explanation for a person: each Service with its why, then each of the addresses with every host's part in it. */
export function renderExplanation(explanation: Explanation, paint: Paint): string {
  const blocks = [
    ...explanation.services.map((service) => serviceBlock(service, paint)),
    ...explanation.addresses.map((address) => addressBlock(address, explanation, paint)),
  ];
  return blocks.map((lines) => `${lines.join('\n')}\n`).join('\n');
}

function serviceBlock(service: Explanation['services'][number], paint: Paint): readonly string[] {
  const { name, state, addresses, allocation, reason } = service;
  const rows: (readonly Cell[])[] = [
    ['  addresses', addresses.length === 0 ? 'none' : addresses.join(', ')],
    ['  why', allocation],
    ...(reason === undefined ? [] : [['  but', { text: reason, style: 'yellow' as const }]]),
  ];
  const title = paint('bold', printable(name));
  return [`${title}: ${state ?? 'not served by this lbd'}`, ...renderColumns(rows, paint)];
}

function addressBlock(
  address: AddressExplanation,
  explanation: Explanation,
  paint: Paint,
): readonly string[] {
  const { ip, pool, members } = address;
  const origin = pool === undefined ? 'of no pool here' : `of pool "${pool}"`;
  const rows: (readonly Cell[])[] = [
    ...ownerRows(address, explanation),
    ...hereRows(address, explanation),
    ...obstacleRows(address, explanation),
    ...members.map(({ name, role, reason }): readonly Cell[] => [
      name === explanation.host ? `  ${name} (this host)` : `  ${name}`,
      { text: role === 'ineligible' ? 'may not' : role, style: ROLE_STYLES[role] },
      reason,
    ]),
  ];
  return [`${paint('bold', ip)}, ${printable(origin)}`, ...renderColumns(rows, paint)];
}

const ROLE_STYLES: Readonly<Record<AddressExplanation['members'][number]['role'], Style>> = {
  owner: 'green',
  heir: 'bold',
  candidate: 'dim',
  ineligible: 'yellow',
};

function ownerRows({ owner, local }: AddressExplanation, { gossips, services }: Explanation): Cell[][] {
  if (local?.kind === 'virtual')
    return [['  owner', 'every eligible host', 'it is virtual: in no subnet of any host']];
  if (!gossips)
    return [['  owner', 'each host for itself', 'there is no [gossip]: every host takes what it can']];
  if (owner !== undefined) return [['  owner', owner.owner ?? 'nobody', ownerText(owner)]];
  if (services.length === 0 && local === undefined) return [['  owner', 'nobody', 'no Service has it']];
  return [['  owner', 'nobody', 'no host has a NIC that is up in a subnet with it']];
}

function ownerText({ state, epoch, sinceMs, heir, reason }: OwnerStatus): Cell {
  const parts = [
    ...(epoch === 0 ? [] : [`epoch ${epoch}`]),
    ...(sinceMs === undefined ? [] : [`for ${formatAge(sinceMs)}`]),
    heir === undefined ? 'nobody else may have it' : `${heir} is next`,
    ...(reason === undefined ? [] : [reason]),
  ];
  const text = parts.join('; ');
  return state === 'mine' || state === 'theirs' ? text : { text, style: 'red' };
}

function hereRows({ local }: AddressExplanation, { host }: Explanation): Cell[][] {
  if (local === undefined) return [];
  const { state, reason, lifetimeLeftMs } = local;
  const on = local.interface === undefined ? '' : ` on ${local.interface}`;
  const left =
    lifetimeLeftMs === undefined
      ? ''
      : lifetimeLeftMs === 'permanent'
        ? ', without an end'
        : `, ${formatAge(lifetimeLeftMs)} of its lifetime left`;
  const text = `${state === 'held' ? 'announced' : state}${on}${left}`;
  return [['  here', host, reason === undefined ? text : `${text}: ${reason}`]];
}

/** What is known against giving an address away matters where nobody has it. */
function obstacleRows({ obstacle, local, owner }: AddressExplanation, { services }: Explanation): Cell[][] {
  if (services.length > 0 || local !== undefined || owner !== undefined) return [];
  if (obstacle === undefined)
    return [['  use', 'free', 'nothing is known here against giving it to a Service']];
  return [['  use', { text: 'skipped', style: 'yellow' }, obstacle]];
}
