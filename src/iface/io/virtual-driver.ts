import { errorText } from '../../lib/errors.ts';
import type { Ip } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import { NEVER } from '../../lib/time.ts';
import { bootTimeMs } from '../../sys/clock.ts';
import { netlinkProcess } from '../../sys/netlink-process.ts';
import { isAddressRequest } from '../netlink-requests.ts';
import { addressKey, linkSubject, type ObservedChanges } from '../observed.ts';
import {
  type AddressStatus,
  type KernelAddress,
  type KernelRequest,
  LBD_PROTOCOL,
  type Link,
} from '../types.ts';
import { VirtualAddresses, type VirtualOutcome } from '../virtual-addresses.ts';
import { isVirtualLink } from '../virtual-link.ts';
import type { VirtualLinkStatus, VirtualReport, VirtualSettings } from '../virtual-types.ts';
import type { Ownership } from './ownership.ts';
import type { Rtnetlink } from './rtnetlink.ts';

export type VirtualDriverOptions = {
  readonly rtnetlink: Rtnetlink;
  readonly ownership: Ownership;
  readonly settings: VirtualSettings;
  readonly logger: Logger;
};

/** So many go to the kernel at once: what local addresses have to ask waits for no more than these. */
const BATCH_REQUESTS = 64;
/** After these, what is in the place of an address that was to be added, if anything, is not what was asked for. */
const REFUSALS: ReadonlySet<string> = new Set(['EEXIST', 'EPERM', 'EACCES', 'EINVAL', 'ENODEV']);
const TIMER_MAX_MS = 0x7fff_ffff;

/**
 * Carries out what the virtual addresses need. Level-triggered: whatever happens only leads to another look at what the
 * kernel has. Owns its timer and nothing else.
 */
export class VirtualDriver {
  readonly #options: VirtualDriverOptions;
  readonly #machine: VirtualAddresses;
  /** What is wanted changed since the last look. */
  #isOutdated = false;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Whose netlink requests changed the link, an address or routes of lbd's since the last look, by what they changed. */
  readonly #askers = new Map<'link' | 'routes' | Ip, number>();
  #closed = false;

  constructor(options: VirtualDriverOptions) {
    this.#options = options;
    const { settings, ownership } = options;
    this.#machine = new VirtualAddresses({
      settings,
      isOurs: (address) => ownership.isOurs(address),
      kernelTags: ownership.kernelTags,
    });
  }

  /** What is wanted from now on; see `VirtualAddresses.want()`. */
  plan(...wanted: Parameters<VirtualAddresses['want']>): void {
    if (!this.#machine.want(...wanted)) return;
    this.#isOutdated = true;
    this.#look();
  }

  kernelChanged({ links, addresses, routesChanged, askedBy }: ObservedChanges): void {
    const known = this.#options.rtnetlink.observed().links;
    const own = [...addresses.present, ...addresses.gone].filter(({ ifIndex }) => {
      const link = known.get(ifIndex);
      return link !== undefined && isVirtualLink(link);
    });
    const changed = [...links.present, ...links.gone];
    if (askedBy !== undefined) this.#noteAskers(changed.filter(isVirtualLink), own, askedBy);
    // It is looked at when what is under way has been answered.
    if (this.#running !== undefined) return;
    if (own.length > 0 || routesChanged || changed.length > 0) this.#look();
  }

  #noteAskers(
    links: readonly Link[],
    addresses: readonly KernelAddress[],
    askedBy: NonNullable<ObservedChanges['askedBy']>,
  ): void {
    const note = (what: 'link' | 'routes' | Ip, port: number | undefined) => {
      if (port !== undefined) this.#askers.set(what, port);
    };
    for (const link of links) note('link', askedBy.get(linkSubject(link)));
    for (const address of addresses)
      if (address.protocol === LBD_PROTOCOL) note(address.ip, askedBy.get(addressKey(address)));
    note('routes', askedBy.get('routes'));
  }

  statuses(): readonly AddressStatus[] {
    return this.#machine.statuses(this.#options.rtnetlink.observed(), bootTimeMs());
  }

  linkStatus(): VirtualLinkStatus {
    return this.#machine.linkStatus(this.#options.rtnetlink.observed());
  }

  /** Takes everything of ours off the host, the link included; resolves when the kernel has answered. */
  async removeAll(): Promise<void> {
    this.#machine.stop();
    this.#isOutdated = true;
    await this.#running;
    const requests = this.#machine.requests(this.#options.rtnetlink.observed(), bootTimeMs());
    await this.#apply(requests);
  }

  /** Everything stays where it is. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    if (this.#closed || this.#running !== undefined) return;
    this.#isOutdated = false;
    const requests = this.#machine.requests(this.#options.rtnetlink.observed(), bootTimeMs());
    this.#report(this.#machine.takeReports());
    this.#askers.clear();
    this.#arm();
    if (requests.length === 0) return;
    this.#running = this.#apply(requests).finally(() => {
      this.#running = undefined;
      if (!this.#isStopped()) this.#look();
    });
  }

  #isStopped(): boolean {
    return this.#closed || this.#machine.isStopped;
  }

  async #apply(requests: readonly KernelRequest[]): Promise<void> {
    const totals = { added: 0, removed: 0 };
    this.#isOutdated = false;
    for (let from = 0; from < requests.length && !this.#closed; from += BATCH_REQUESTS) {
      if (this.#isOutdated) break;
      const outcomes = await this.#applyBatch(requests.slice(from, from + BATCH_REQUESTS));
      this.#machine.answered(outcomes, bootTimeMs());
      for (const report of this.#machine.takeReports()) {
        if (report.kind !== 'programmed') this.#report([report]);
        else {
          totals.added += report.added;
          totals.removed += report.removed;
        }
      }
    }
    if (totals.added + totals.removed > 0) this.#report([{ kind: 'programmed', ...totals }]);
    // What the kernel did is observed by now; `kernelChanged()` comes with it in this turn, and has nothing new.
    await nextTurn();
  }

  async #applyBatch(asked: readonly KernelRequest[]): Promise<readonly VirtualOutcome[]> {
    const { rtnetlink, ownership } = this.#options;
    const refusal = ownership.claim(asked.filter(isAddressRequest).filter(({ kind }) => kind !== 'delete'));
    // Nothing new without memory of it; what is there already is removed all the same.
    const isRefused = (request: KernelRequest) => refusal !== undefined && request.kind === 'add';
    const requests = asked.filter((request) => !isRefused(request));
    const refused = asked.filter(isRefused).map((request) => failure(request, refusal ?? ''));
    try {
      const outcomes = await rtnetlink.apply(requests);
      ownership.refused(
        outcomes.flatMap((outcome) => {
          if (outcome.ok || outcome.request.kind !== 'add' || !REFUSALS.has(outcome.errno)) return [];
          return [outcome.request];
        }),
      );
      ownership.removed(
        outcomes.flatMap(({ ok, request }) => (ok && request.kind === 'delete' ? [request] : [])),
      );
      return [...refused, ...outcomes];
    } catch (error) {
      // Rtnetlink answers failures as values: a rejection is a bug there, but no reason to stop.
      this.#options.logger.error({ error: errorText(error) }, 'virtual.program-failed');
      return [...refused, ...requests.map((request) => failure(request, errorText(error)))];
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const deadline = this.#machine.deadline();
    if (deadline === NEVER) return;
    const pause = Math.min(TIMER_MAX_MS, Math.max(1, Math.ceil(deadline - bootTimeMs())));
    this.#timer = setTimeout(() => this.#look(), pause);
  }

  #report(reports: readonly VirtualReport[]): void {
    const { logger, settings } = this.#options;
    for (const report of reports) {
      const { kind, ...fields } = report;
      const level = kind === 'link-made' || kind === 'programmed' ? 'info' : 'warn';
      const asker = kind === 'repaired' ? this.#askerOf(report) : undefined;
      const by = asker === undefined ? {} : { by: netlinkProcess(asker) };
      logger[level]({ interface: settings.interface, ...fields, ...by }, `virtual.${kind}`);
    }
  }

  /** Who made a repair necessary: with the link all that is on it goes. */
  #askerOf({ link, example, routes }: Extract<VirtualReport, { kind: 'repaired' }>): number | undefined {
    return (
      (link ? this.#askers.get('link') : undefined) ??
      (example === undefined ? undefined : this.#askers.get(example)) ??
      (routes > 0 ? this.#askers.get('routes') : undefined)
    );
  }
}

function failure(request: KernelRequest, message: string): VirtualOutcome {
  return { ok: false, request, errno: 'EIO', message };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
