import { silenceWords } from '../daemon/election-problems.ts';
import type { ElectionOverview, MemberStatus, SegmentStatus } from '../daemon/types.ts';
import { type Cell, type Paint, renderTable, type Style } from './table.ts';
import { formatAge, plural } from './text.ts';

const MEMBER_HEADER = [
  'NAME',
  'STATE',
  'SINCE',
  'RTT',
  'VERSION',
  'CONFIG',
  'DRAINED',
  'ADDRESSES',
  'REASON',
];

/** The members as one host sees them, those in trouble last as first in the alphabet: a list to find a name in. */
export function renderMembers(election: ElectionOverview, paint: Paint): string {
  const blocks = [
    renderTable(MEMBER_HEADER, election.members.map(memberRow), paint),
    renderTable(['SEGMENT', 'OWN ADDRESS', 'STATE', 'NEIGHBOURS'], election.segments.map(segmentRow), paint),
  ];
  return blocks.map((lines) => `${lines.join('\n')}\n`).join('\n');
}

/** The line of `lbctl status`: how many are there, and what this host has to say of itself. */
export function membersCell(election: ElectionOverview): Cell {
  const others = election.members.filter(({ isSelf, state }) => !isSelf && state !== 'left');
  const alive = others.filter(({ state }) => state === 'alive').length;
  const parts = [
    others.length === 0 ? 'no other host' : `${alive} of ${plural(others.length, 'other host')} alive`,
    ...(election.drained
      ? [election.drainDone ? 'this host is drained' : 'this host drains: not all is gone yet']
      : []),
    ...(election.encrypted ? [] : ['without keys']),
  ];
  const text = parts.join(', ');
  return alive === others.length && !election.drained ? text : { text, style: 'yellow' };
}

const STATE_STYLES: Readonly<Record<MemberStatus['state'], Style>> = {
  alive: 'green',
  suspect: 'yellow',
  dead: 'red',
  left: 'dim',
};

function memberRow(member: MemberStatus): readonly Cell[] {
  const { drift } = member;
  return [
    member.isSelf ? `${member.name} (this host)` : member.name,
    { text: member.state, style: STATE_STYLES[member.state] },
    formatAge(member.sinceMs),
    rttText(member.rttMs),
    member.version,
    drift === undefined ? member.configDigest : { text: member.configDigest, style: 'yellow' },
    member.drained ? { text: 'yes', style: 'yellow' } : '-',
    String(member.addresses),
    reasonText(member),
  ];
}

/** Everything that there is to say against a member. */
function reasonText({ silence, udpLost, drift, state }: MemberStatus): string {
  const reasons = [
    silenceWords(silence),
    udpLost ? 'UDP to or from it is blocked' : undefined,
    drift === undefined || state === 'left' ? undefined : `its configuration: ${drift}`,
  ];
  return reasons.filter((reason) => reason !== undefined).join('; ');
}

function rttText(rttMs: number | undefined): string {
  if (rttMs === undefined) return '-';
  return `${rttMs < 10 ? rttMs.toFixed(1) : Math.round(rttMs)}ms`;
}

function segmentRow(segment: SegmentStatus): readonly Cell[] {
  return [segment.subnet, segment.ip, segmentCell(segment), segment.neighbours.join(', ') || '-'];
}

function segmentCell({ isolated, neverHeard, confirmed, mayRenew }: SegmentStatus): Cell {
  if (isolated) {
    const text = mayRenew ? 'isolated, holds its addresses' : 'isolated, let go of its addresses';
    return { text, style: 'red' };
  }
  if (neverHeard) return { text: 'nobody heard yet', style: 'yellow' };
  if (!confirmed) return { text: 'to be confirmed by a neighbour', style: 'yellow' };
  return { text: 'heard', style: 'green' };
}
