import type { Entry } from '../election/types.ts';
import type { NamedReport } from '../iface/io/local-driver.ts';
import type { DesiredAddress } from '../iface/types.ts';
import type { Allocation } from '../ipam/types.ts';
import type { EventNote, Service, ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';

/** Turns what happened to addresses into Events on the Services that use them, each said once as long as it holds. */
export class EventReporter {
  readonly #write: (note: EventNote) => void;
  readonly #host: string;
  /** The refusal last told of each Service, by uid; bounded by the Services that are refused now. */
  #refusals: ReadonlyMap<string, string> = new Map();
  /** The same of addresses that no host may have: by uid and address. */
  #homeless: ReadonlyMap<string, string> = new Map();
  /** Bounded by the Services. */
  #allocated = new Map<
    ServiceKey,
    { readonly reference: EventNote['service']; readonly addresses: readonly Ip[] }
  >();

  constructor(write: (note: EventNote) => void, host: string) {
    this.#write = write;
    this.#host = host;
  }

  /** All refusals that hold now. */
  refused(notes: readonly EventNote[]): void {
    for (const note of notes) if (this.#refusals.get(note.service.uid) !== note.note) this.#write(note);
    this.#refusals = new Map(notes.map((note) => [note.service.uid, note.note]));
  }

  /** All addresses that no host may have now, each with the Services that use it. */
  homeless(addresses: readonly HomelessAddress[]): void {
    const known = new Map<string, string>();
    for (const { ip, reason, services } of addresses) {
      const note = `${ip} is announced by nobody: ${reason}`;
      for (const { namespace, name, uid } of services) {
        const key = `${uid} ${ip}`;
        known.set(key, note);
        if (this.#homeless.get(key) === note) continue;
        const service = { namespace, name, uid };
        this.#write({ service, type: 'Warning', reason: 'NoEligibleHost', action: 'Announce', note });
      }
    }
    this.#homeless = known;
  }

  /** All that have an address now: of one that is gone since the last call, the address is free again. */
  allocated(allocations: readonly Allocation[], services: ReadonlyMap<ServiceKey, Service>): void {
    for (const [key, { reference, addresses }] of this.#allocated) {
      if (services.get(key)?.uid === reference.uid) continue;
      const note = `Released ${addresses.join(', ')}: the Service was deleted or is no LoadBalancer any more`;
      this.#write({ service: reference, type: 'Normal', reason: 'Released', action: 'Release', note });
    }
    this.#allocated = new Map();
    for (const allocation of allocations) {
      const service = allocation.kind === 'settled' ? services.get(allocation.service) : undefined;
      if (service === undefined || allocation.kind !== 'settled') continue;
      const reference = { namespace: service.namespace, name: service.name, uid: service.uid };
      this.#allocated.set(service.key, { reference, addresses: allocation.addresses });
    }
  }

  /** Another host allocates now, and tells what it gives and takes. */
  notAllocating(): void {
    this.#allocated.clear();
    this.#homeless = new Map();
  }

  /** Something happened to an address that `services` use; `entry` is how this host came to one that it holds now. */
  reported(named: NamedReport, services: readonly Service[], entry?: Entry): void {
    const told = wordsFor(named, this.#host, entry);
    if (told === undefined) return;
    for (const { namespace, name, uid } of services)
      this.#write({ service: { namespace, name, uid }, ...told });
  }
}

export type HomelessAddress = {
  readonly ip: Ip;
  readonly reason: string;
  readonly services: readonly Service[];
};

/** Those of `homeless` that are wanted, each with the Services that use it. */
export function homelessOf(
  homeless: readonly { readonly ip: Ip; readonly reason: string | undefined }[],
  desired: readonly DesiredAddress[],
  services: ReadonlyMap<ServiceKey, Service>,
): readonly HomelessAddress[] {
  const reasons = new Map(homeless.map(({ ip, reason = '' }) => [ip, reason]));
  return desired.flatMap(({ ip, services: keys }) => {
    const reason = reasons.get(ip);
    if (reason === undefined) return [];
    return [{ ip, reason, services: keys.flatMap((key) => services.get(key as ServiceKey) ?? []) }];
  });
}

/** Where an address came from that this host holds now, if it was another host's. */
function originOf(entry: Entry | undefined): string | undefined {
  switch (entry?.kind) {
    case 'hand-over':
      return `handed over by ${entry.from}`;
    case 'take-over':
      return `taken over from ${entry.predecessor.name}`;
    case 'first':
    case 'return':
    case undefined:
      return undefined;
    default:
      return entry satisfies never;
  }
}

function wordsFor(
  named: NamedReport,
  host: string,
  entry: Entry | undefined,
): Omit<EventNote, 'service'> | undefined {
  const { report } = named;
  const where = `on ${named.interface} of ${host}`;
  const warning = (reason: string, note: string) => ({
    type: 'Warning' as const,
    reason,
    action: 'Announce',
    note,
  });
  switch (report.kind) {
    case 'held': {
      if (report.how === 'adopted') return undefined;
      const origin = originOf(entry);
      const note = `Announced ${report.ip} ${where}`;
      return origin === undefined
        ? { type: 'Normal', reason: 'Announced', action: 'Announce', note }
        : { type: 'Normal', reason: 'OwnershipChanged', action: 'Announce', note: `${note}, ${origin}` };
    }
    case 'waiting':
      return warning('NotAnnounced', `${report.ip} is not announced by ${host}: ${report.reason}`);
    case 'conflict':
      return warning(
        'AddressConflict',
        `${report.ip} is not announced: ${report.mac} answers for it ${where}`,
      );
    case 'rival-heard':
      return warning('AddressConflict', `${report.mac} claims ${report.ip}, which is announced ${where}`);
    case 'add-failed':
      return warning('NotAnnounced', `${report.ip} could not be added ${where}: ${report.reason}`);
    case 'lost':
      return warning(
        'AddressLost',
        `${report.ip} ${where} was not renewed in time; it is probed and taken again`,
      );
    case 'repaired':
      return warning(
        'AddressRepaired',
        `${report.ip} was ${report.was} ${where} by ${named.by ?? 'somebody else'} and put ${report.was === 'removed' ? 'back' : 'right'}`,
      );
    case 'still-served':
    case 'renew-failed':
    case 'remove-failed':
    case 'dropped':
      return undefined;
    default:
      return report satisfies never;
  }
}
