import type { Member, MemberName } from './types.ts';

/** Below, nobody can tell whether it is itself or the other that was cut off (design section 5). */
const MAJORITY_FROM = 3;

/** How many hosts there are as far as this one knows, which decides what it makes of hearing nobody. */
export class Company {
  readonly #isolation: 'release' | 'hold' | 'auto';
  #count: number;

  constructor(isolation: 'release' | 'hold' | 'auto', count: number) {
    this.#isolation = isolation;
    this.#count = count;
  }

  get count(): number {
    return this.#count;
  }

  /** Whether an isolated host lets go of its addresses. */
  get releases(): boolean {
    return this.#isolation === 'auto' ? this.#count >= MAJORITY_FROM : this.#isolation === 'release';
  }

  /** To hear nobody may mean to be cut off, and does not end what a majority goes on with. */
  get hadCompany(): boolean {
    return this.releases && this.#count >= MAJORITY_FROM;
  }

  /**
   * It grows with who is seen alive at a time, and shrinks when somebody leaves for good: to all that have not left, dead
   * or not, as who is dead may be only out of reach. Returns whether it changed.
   */
  membersChanged(members: ReadonlyMap<MemberName, Member>, changed: readonly MemberName[]): boolean {
    const anyLeft = changed.some((name) => members.get(name)?.state === 'left');
    if (!anyLeft && members.size <= this.#count) return false;
    let living = 0;
    let remaining = 0;
    for (const { state } of members.values()) {
      if (state === 'alive' || state === 'suspect') living += 1;
      if (state !== 'left') remaining += 1;
    }
    const count = Math.max(living, anyLeft ? Math.min(this.#count, remaining) : this.#count);
    if (count === this.#count) return false;
    this.#count = count;
    return true;
  }
}
