import type { NamedReport } from '../iface/io/local-driver.ts';
import type { Allocation } from '../ipam/types.ts';
import type { EventNote, Service, ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';

/** Turns what happened to addresses into Events on the Services that use them, each said once as long as it holds. */
export class EventReporter {
  readonly #write: (note: EventNote) => void;
  readonly #host: string;
  /** The refusal last told of each Service, by uid; bounded by the Services that are refused now. */
  #refusals: ReadonlyMap<string, string> = new Map();
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
  }

  /** Something happened to an address that `services` use. */
  reported(named: NamedReport, services: readonly Service[]): void {
    const told = wordsFor(named, this.#host);
    if (told === undefined) return;
    for (const { namespace, name, uid } of services)
      this.#write({ service: { namespace, name, uid }, ...told });
  }
}

function wordsFor(named: NamedReport, host: string): Omit<EventNote, 'service'> | undefined {
  const { report } = named;
  const where = `on ${named.interface} of ${host}`;
  const warning = (reason: string, note: string) => ({
    type: 'Warning' as const,
    reason,
    action: 'Announce',
    note,
  });
  switch (report.kind) {
    case 'held':
      if (report.how === 'adopted') return undefined;
      return {
        type: 'Normal',
        reason: 'Announced',
        action: 'Announce',
        note: `Announced ${report.ip} ${where}`,
      };
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
      return warning('AddressRepaired', `${report.ip} was removed ${where} by somebody else and put back`);
    case 'still-served':
    case 'renew-failed':
    case 'remove-failed':
    case 'dropped':
      return undefined;
    default:
      return report satisfies never;
  }
}
