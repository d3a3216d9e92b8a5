import type { LocalState } from '../election/types.ts';
import { familyOf, type Ip } from '../lib/ip.ts';
import type { Entry } from './local-types.ts';

/** Where each wanted address stands, and what of that has changed since it was last told. */
export class Entries {
  readonly #entries = new Map<Ip, Entry>();
  #heldCount = 0;
  #heldV6Count = 0;
  readonly #touched = new Set<Ip>();
  /** Held, and not told so before the segment was: a former owner lets go at that word, and clients must know by then. */
  readonly #unannounced = new Set<Ip>();
  /** What was last told of each that is not absent. */
  readonly #told = new Map<Ip, LocalState>();

  get all(): ReadonlyMap<Ip, Entry> {
    return this.#entries;
  }

  get heldCount(): number {
    return this.#heldCount;
  }

  get heldV6Count(): number {
    return this.#heldV6Count;
  }

  get(ip: Ip): Entry | undefined {
    return this.#entries.get(ip);
  }

  set(ip: Ip, entry: Entry): void {
    if (this.#entries.get(ip)?.status === 'held') this.#countHeld(ip, -1);
    if (entry.status === 'held') this.#countHeld(ip, 1);
    else this.#unannounced.delete(ip);
    this.#entries.set(ip, entry);
    this.#touched.add(ip);
  }

  delete(ip: Ip): void {
    if (this.#entries.get(ip)?.status === 'held') this.#countHeld(ip, -1);
    this.#unannounced.delete(ip);
    if (this.#entries.delete(ip)) this.#touched.add(ip);
  }

  #countHeld(ip: Ip, by: 1 | -1): void {
    this.#heldCount += by;
    if (familyOf(ip) === 'v6') this.#heldV6Count += by;
  }

  /** `ip`, just held, counts as being taken until `announced()`. */
  keepBack(ip: Ip): void {
    this.#unannounced.add(ip);
  }

  announced(ip: Ip): void {
    if (this.#unannounced.delete(ip)) this.#touched.add(ip);
  }

  /** The addresses that have come to another state since the last call. */
  takeChanges(): readonly (readonly [Ip, LocalState])[] {
    if (this.#touched.size === 0) return [];
    const changes: (readonly [Ip, LocalState])[] = [];
    for (const ip of this.#touched) {
      const state = this.#unannounced.has(ip) ? 'taking' : localState(this.#entries.get(ip));
      if (state === (this.#told.get(ip) ?? 'absent')) continue;
      if (state === 'absent') this.#told.delete(ip);
      else this.#told.set(ip, state);
      changes.push([ip, state]);
    }
    this.#touched.clear();
    return changes;
  }
}

/** In the election's words. An address that belongs to this host itself is one that it cannot hold as a Service's. */
export function localState(entry: Entry | undefined): LocalState {
  if (entry === undefined) return 'absent';
  switch (entry.status) {
    case 'waiting':
      return entry.why === 'foreign' ? 'failed' : 'absent';
    case 'probing':
    case 'adding':
      return 'taking';
    case 'held':
    case 'conflict':
    case 'failed':
      return entry.status;
    default:
      return entry satisfies never;
  }
}
