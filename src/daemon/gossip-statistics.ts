import type { Report } from '../election/effects.ts';
import type { Entry, Silence } from '../election/types.ts';
import { after, type Instant } from '../lib/time.ts';

/** Two hosts of one name are spoken of for so long after the last sign of it. */
const NAME_CONFLICT_SHOWN_MS = 60_000;

type MemberChange = 'joined' | 'suspected' | 'died' | 'left' | 'returned' | 'refuted';

/** What happened among the members since the start, counted: totals for metrics, and what status speaks of for a while. */
export class GossipStatistics {
  readonly memberChanges: Record<MemberChange, number> = {
    joined: 0,
    suspected: 0,
    died: 0,
    left: 0,
    returned: 0,
    refuted: 0,
  };
  /** This host's own judgements of its neighbours. */
  readonly verdicts: Record<Silence['why'], number> = {
    silent: 0,
    'process-gone': 0,
    restarting: 0,
    isolated: 0,
  };
  /** Addresses that this host took, by how. */
  readonly taken: Record<Entry['kind'], number> = { first: 0, return: 0, 'hand-over': 0, 'take-over': 0 };
  /** Addresses that this host gave away by plan, and the sum of how long each took. */
  handedOver = 0;
  handedOverMs = 0;
  /** Addresses that this host lost to a higher epoch. */
  superseded = 0;
  released = 0;
  isolations = 0;
  pauses = 0;
  pausedMs = 0;
  udpLosses = 0;
  #nameConflict: { readonly endpoints: readonly string[]; readonly at: Instant } | undefined;

  count(report: Report, now: Instant): void {
    switch (report.kind) {
      case 'joined':
      case 'suspected':
      case 'died':
      case 'left':
      case 'returned':
      case 'refuted':
        this.memberChanges[report.kind] += 1;
        break;
      case 'name-conflict': {
        const endpoints = report.endpoints.map(({ ip, port }) => `${ip} port ${port}`);
        this.#nameConflict = { endpoints, at: now };
        break;
      }
      case 'verdict':
        this.verdicts[report.silence.why] += 1;
        break;
      case 'udp-lost':
        this.udpLosses += 1;
        break;
      case 'isolated':
        this.isolations += 1;
        break;
      case 'paused':
        this.pauses += 1;
        this.pausedMs += report.forMs;
        break;
      case 'superseded':
        this.superseded += 1;
        break;
      case 'released':
        this.released += 1;
        break;
      case 'handed-over':
        this.handedOver += 1;
        this.handedOverMs += report.tookMs;
        break;
      case 'reconnected':
      case 'claimed':
        break;
      default:
        report satisfies never;
    }
  }

  /** An address has come to be held. */
  took(how: Entry['kind']): void {
    this.taken[how] += 1;
  }

  /** Where two hosts of one name were seen; undefined when that was long ago. */
  nameConflict(now: Instant): readonly string[] | undefined {
    const known = this.#nameConflict;
    return known !== undefined && now < after(known.at, NAME_CONFLICT_SHOWN_MS) ? known.endpoints : undefined;
  }
}
