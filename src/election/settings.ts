/** Times in milliseconds. What each trades is told in docs/election.md. */
export type ElectionSettings = {
  /** Between two heartbeats to a neighbour. */
  readonly heartbeatMs: number;
  /** So many in a row must be missing before a neighbour is asked for. */
  readonly missedHeartbeats: number;
  /** On top of the missed heartbeats, for the jitter of a busy host's timers. */
  readonly heartbeatSlackMs: number;
  /** How long a neighbour and others are asked before the verdict. */
  readonly inquiryMs: number;
  readonly inquiryEveryMs: number;
  /** Members that are asked to probe on one's behalf. */
  readonly indirect: number;
  /** No address of a silent owner is taken before so long after it was last heard. */
  readonly takeoverFloorMs: number;
  /** An owner that hears nobody for so long lets go. Less than `takeoverFloorMs` by what its kernel and timers take. */
  readonly isolationMs: number;
  readonly isolation: 'release' | 'hold';
  /** A timer this late means that this host was not running. */
  readonly overrunMs: number;
  readonly probeIntervalMs: number;
  readonly probeTimeoutMs: number;
  readonly suspicionMinMs: number;
  readonly suspicionMaxMs: number;
  readonly gossipIntervalMs: number;
  readonly gossipFanout: number;
  /** Times log10 of the number of members: how often an update is sent on. */
  readonly retransmitMult: number;
  readonly pushPullMs: number;
  /** How often one member that is dead is tried again. */
  readonly deadRetryMs: number;
  /** After the start, before anything is claimed. */
  readonly settleMs: number;
  /** After isolation, before anything of others is claimed. */
  readonly returnSettleMs: number;
  readonly handOverTimeoutMs: number;
  /** How long the old owner still answers after the new one has announced. */
  readonly handOverOverlapMs: number;
  /** Moves to rendezvous placement by itself. */
  readonly preempt: boolean;
};

const LAN: ElectionSettings = {
  heartbeatMs: 50,
  missedHeartbeats: 3,
  heartbeatSlackMs: 0,
  inquiryMs: 50,
  inquiryEveryMs: 10,
  indirect: 3,
  takeoverFloorMs: 220,
  isolationMs: 150,
  isolation: 'release',
  overrunMs: 50,
  probeIntervalMs: 500,
  probeTimeoutMs: 150,
  suspicionMinMs: 1_200,
  suspicionMaxMs: 6_000,
  gossipIntervalMs: 100,
  gossipFanout: 4,
  retransmitMult: 4,
  pushPullMs: 30_000,
  deadRetryMs: 1_000,
  settleMs: 2_000,
  returnSettleMs: 3_000,
  handOverTimeoutMs: 500,
  handOverOverlapMs: 20,
  preempt: false,
};

/** `lan`: one switched network. `fast`: a quiet one. `wan`: hosts whose packets take tens of milliseconds or get lost. */
export const PROFILES: Readonly<Record<'lan' | 'fast' | 'wan', ElectionSettings>> = {
  lan: LAN,
  fast: {
    ...LAN,
    heartbeatMs: 25,
    inquiryMs: 30,
    takeoverFloorMs: 120,
    isolationMs: 75,
    overrunMs: 30,
    suspicionMinMs: 800,
  },
  wan: {
    ...LAN,
    heartbeatMs: 200,
    missedHeartbeats: 5,
    inquiryMs: 500,
    inquiryEveryMs: 50,
    takeoverFloorMs: 1_800,
    isolationMs: 1_200,
    overrunMs: 200,
    probeIntervalMs: 1_000,
    probeTimeoutMs: 300,
    suspicionMinMs: 4_000,
    suspicionMaxMs: 20_000,
    gossipIntervalMs: 200,
  },
};
