import type {
  ElectionOverview,
  ElectionStatus,
  MemberStatus,
  OwnerStatus,
} from '../../../../src/daemon/types.ts';
import { ip } from './status-document.ts';

/** Election status for tests: healthy, changed by `fields`. */

export function member(name: string, fields: Partial<MemberStatus> = {}): MemberStatus {
  return {
    name,
    state: 'alive',
    isSelf: false,
    incarnation: 1,
    sinceMs: 65_000,
    rttMs: 0.42,
    heardMsAgo: 10,
    isNeighbour: true,
    udpLost: false,
    silence: undefined,
    version: '0.1.0',
    node: name,
    endpoint: { ip: ip('192.0.2.1'), port: 7946 },
    segments: ['192.0.2.0/24'],
    macs: ['02:00:00:00:00:01'],
    drained: false,
    weight: 100,
    configDigest: 'abcd0123',
    drift: undefined,
    addresses: 0,
    ...fields,
  };
}

export function overview(fields: Partial<ElectionOverview> = {}): ElectionOverview {
  return {
    name: 'edge-1',
    incarnation: 1,
    drained: false,
    drainDone: false,
    encrypted: true,
    stateProblem: undefined,
    healthScore: 0,
    segments: [
      {
        subnet: '192.0.2.0/24',
        ip: ip('192.0.2.1'),
        isolated: false,
        mayRenew: true,
        neverHeard: false,
        confirmed: true,
        neighbours: ['edge-2', 'edge-3'],
      },
    ],
    members: [member('edge-1', { isSelf: true, rttMs: undefined }), member('edge-2'), member('edge-3')],
    nameConflict: undefined,
    traffic: { sent: 0, sentBytes: 0, received: 0, receivedBytes: 0, refused: {} },
    ...fields,
  };
}

export function electionStatus(fields: Partial<ElectionStatus> = {}): ElectionStatus {
  return { ...overview(), owners: [], ...fields };
}

export function owner(address: string, fields: Partial<OwnerStatus> = {}): OwnerStatus {
  return {
    ip: ip(address),
    state: 'theirs',
    owner: 'edge-2',
    epoch: 3,
    sinceMs: 125_000,
    heir: 'edge-1',
    reason: undefined,
    ...fields,
  };
}
