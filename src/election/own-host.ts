import type { Place } from './eligibility.ts';
import { segmentKey } from './segment-key.ts';
import type { MemberMeta, MemberName, SegmentKey } from './types.ts';

/** This host: what it says of itself, which of its segments it hears, and how good its view of the cluster is. */
export class OwnHost {
  readonly name: MemberName;
  /** Whether what the API server said is still current. */
  isViewFresh = false;
  readonly #isolated = new Set<SegmentKey>();
  readonly #deaf = new Set<SegmentKey>();
  #segments: ReadonlySet<SegmentKey> = new Set();
  #meta: MemberMeta;

  constructor(name: MemberName, meta: MemberMeta) {
    this.name = name;
    this.#meta = meta;
    this.setMeta(meta);
  }

  get meta(): MemberMeta {
    return this.#meta;
  }

  setMeta(meta: MemberMeta): void {
    this.#meta = meta;
    this.#segments = new Set(meta.segments.map(({ subnet }) => segmentKey(subnet)));
  }

  /** Returns whether that is news. */
  setIsolated(segment: SegmentKey, isIsolated: boolean): boolean {
    if (this.#isolated.has(segment) === isIsolated) return false;
    if (isIsolated) this.#isolated.add(segment);
    else this.#isolated.delete(segment);
    return true;
  }

  /** Nobody is heard there, and what is held is held on. Returns whether that is news. */
  setDeaf(segment: SegmentKey, isDeaf: boolean): boolean {
    if (this.#deaf.has(segment) === isDeaf) return false;
    if (isDeaf) this.#deaf.add(segment);
    else this.#deaf.delete(segment);
    return true;
  }

  /** Whether nobody is heard in any of its subnets that hold the address. */
  isDeafTo(place: Place): boolean {
    return this.segmentsOf(place).every((key) => this.#deaf.has(key));
  }

  /** Its subnets that hear somebody. */
  heard(): readonly SegmentKey[] {
    return [...this.#segments].filter((key) => !this.#isolated.has(key));
  }

  /** Those that hold the address. */
  segmentsOf(place: Place): readonly SegmentKey[] {
    const keys: SegmentKey[] = [];
    for (const { key } of place.groups)
      if (this.#segments.has(key) && !this.#isolated.has(key)) keys.push(key);
    return keys;
  }

  /** A NIC of this host that is up and hears somebody is in the address's subnet. */
  reaches(place: Place): boolean {
    return this.segmentsOf(place).length > 0;
  }
}
