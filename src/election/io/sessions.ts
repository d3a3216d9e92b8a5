/**
 * Which authentic packets are also new: neither heard before nor kept back by somebody on the way.
 *
 * Each process seals under a session of its own, a random number, and numbers its packets. What is heard of a session
 * for the first time is held until the session has proven that it lives, by sending back a random number that it was sent:
 *
 *   unknown ──packet──► held, challenged ──its echo──► proven ──late packet──► held, challenged
 *
 * In a proven session each number counts once within a window. Each packet also tells the time of its sender since the session
 * began; the least difference to the clock here is how long a packet takes at best, and one that is later than that by
 * LATE_MS was kept back, or one of both hosts did not run: the session proves itself again, and the difference starts anew.
 * No clock is ever compared with another's, and to forget a session is always safe: it costs a round trip.
 */

export const REPLAY_WINDOW = 1_024;
/** A packet that is later than the quickest of its session by so much says nothing about now. */
export const LATE_MS = 3_000;
/** Two clocks drift apart: so much a millisecond is no delay. Clocks that differ by more prove themselves now and then. */
const DRIFT = 0.000_5;
/** An echo that takes longer proves nothing, and a new number is sent. */
const CHALLENGE_VALID_MS = 2_000;
const CHALLENGE_PAUSE_MS = 50;
/** One for each member that there can be. */
export const MAX_PROVEN = 4_096;
export const MAX_UNPROVEN = 1_024;
/** Packets of a session that wait for its proof, and of all. The oldest goes first. */
export const MAX_HELD_PER_SESSION = 8;
export const MAX_HELD = 2_048;

export type Arrival =
  | { readonly kind: 'fresh' | 'replayed' }
  /** Kept until the session proves itself; the challenge is to be sent, unless one was just sent. */
  | { readonly kind: 'held'; readonly challenge: Uint8Array | undefined };

type Session<Item> = {
  proven: boolean;
  heardAtMs: number;
  /** The highest packet number, and a bit for each of the REPLAY_WINDOW numbers up to it. */
  highest: number;
  readonly window: Uint32Array;
  /** The least clock difference, and when that was. */
  differenceMs: number;
  differenceAtMs: number;
  challenge: Uint8Array | undefined;
  challengedAtMs: number;
  challengeSentAtMs: number;
  held: { readonly sentAtMs: number; readonly item: Item }[];
};

const FRESH = { kind: 'fresh' } as const;
const REPLAYED = { kind: 'replayed' } as const;

export class Sessions<Item> {
  readonly #randomBytes: () => Uint8Array;
  readonly #proven = new Map<string, Session<Item>>();
  readonly #unproven = new Map<string, Session<Item>>();
  #held = 0;
  #lateCount = 0;

  /** `randomBytes` gives a number that nobody can guess. */
  constructor(randomBytes: () => Uint8Array) {
    this.#randomBytes = randomBytes;
  }

  get size(): { readonly proven: number; readonly unproven: number; readonly held: number } {
    return { proven: this.#proven.size, unproven: this.#unproven.size, held: this.#held };
  }

  /** Packets that were held and turned out to be late, or had no room. */
  get lateCount(): number {
    return this.#lateCount;
  }

  /** Whether a packet of that number was heard already: asked before it is decrypted. */
  isReplay(id: string, number: number): boolean {
    const session = this.#find(id);
    return session !== undefined && isSeen(session, number);
  }

  /** Whether an echo of the session is awaited. */
  isChallenged(id: string): boolean {
    return this.#find(id)?.challenge !== undefined;
  }

  /** An authentic packet: its number is spent from here on. */
  arrive(id: string, number: number, sentAtMs: number, item: Item, nowMs: number): Arrival {
    const session = this.#find(id) ?? this.#add(id, number);
    if (isSeen(session, number)) return REPLAYED;
    mark(session, number);
    session.heardAtMs = nowMs;
    if (session.proven && latenessMs(session, sentAtMs, nowMs) <= LATE_MS) return FRESH;
    session.proven = false;
    this.#hold(session, sentAtMs, item);
    return { kind: 'held', challenge: this.#challenge(session, nowMs) };
  }

  /** The session sent back `echo`: the held packets that are not late, in their order; undefined when it proves nothing. */
  prove(id: string, number: number, sentAtMs: number, echo: Uint8Array, nowMs: number): Item[] | undefined {
    const session = this.#find(id);
    if (session === undefined || isSeen(session, number)) return undefined;
    mark(session, number);
    const { challenge } = session;
    if (challenge === undefined || nowMs - session.challengedAtMs > CHALLENGE_VALID_MS) return undefined;
    if (!challenge.every((byte, index) => byte === echo[index]) || echo.length !== challenge.length) {
      return undefined;
    }
    session.challenge = undefined;
    session.proven = true;
    session.heardAtMs = nowMs;
    session.differenceMs = nowMs - sentAtMs;
    session.differenceAtMs = nowMs;
    if (this.#unproven.delete(id)) this.#remember(id, session);
    return this.#release(session, nowMs);
  }

  #find(id: string): Session<Item> | undefined {
    return this.#proven.get(id) ?? this.#unproven.get(id);
  }

  #add(id: string, number: number): Session<Item> {
    if (this.#unproven.size >= MAX_UNPROVEN) this.#forgetOldestUnproven();
    const session: Session<Item> = {
      proven: false,
      heardAtMs: 0,
      highest: number - 1,
      // Numbers before the first may have been heard in an earlier life of this record.
      window: new Uint32Array(REPLAY_WINDOW / 32).fill(0xffff_ffff),
      differenceMs: Number.POSITIVE_INFINITY,
      differenceAtMs: 0,
      challenge: undefined,
      challengedAtMs: 0,
      challengeSentAtMs: 0,
      held: [],
    };
    this.#unproven.set(id, session);
    return session;
  }

  #forgetOldestUnproven(): void {
    for (const [id, session] of this.#unproven) {
      this.#drop(session);
      this.#unproven.delete(id);
      return;
    }
  }

  #remember(id: string, session: Session<Item>): void {
    if (this.#proven.size >= MAX_PROVEN) this.#forgetQuietest();
    this.#proven.set(id, session);
  }

  #forgetQuietest(): void {
    let quietest: string | undefined;
    let heardAtMs = Number.POSITIVE_INFINITY;
    for (const [id, session] of this.#proven) {
      if (session.heardAtMs >= heardAtMs) continue;
      quietest = id;
      heardAtMs = session.heardAtMs;
    }
    if (quietest === undefined) return;
    const session = this.#proven.get(quietest);
    if (session !== undefined) this.#drop(session);
    this.#proven.delete(quietest);
  }

  #drop(session: Session<Item>): void {
    this.#held -= session.held.length;
    this.#lateCount += session.held.length;
    session.held = [];
  }

  #hold(session: Session<Item>, sentAtMs: number, item: Item): void {
    if (session.held.length >= MAX_HELD_PER_SESSION) {
      session.held.shift();
      this.#held--;
      this.#lateCount++;
    }
    if (this.#held >= MAX_HELD) {
      this.#lateCount++;
      return;
    }
    session.held.push({ sentAtMs, item });
    this.#held++;
  }

  /** The same number as long as it is valid, so that a slow echo of an earlier challenge counts. */
  #challenge(session: Session<Item>, nowMs: number): Uint8Array | undefined {
    if (session.challenge === undefined || nowMs - session.challengedAtMs > CHALLENGE_VALID_MS) {
      session.challenge = this.#randomBytes();
      session.challengedAtMs = nowMs;
    } else if (nowMs - session.challengeSentAtMs < CHALLENGE_PAUSE_MS) return undefined;
    session.challengeSentAtMs = nowMs;
    return session.challenge;
  }

  #release(session: Session<Item>, nowMs: number): Item[] {
    const { held } = session;
    session.held = [];
    this.#held -= held.length;
    const released = held.filter(({ sentAtMs }) => latenessMs(session, sentAtMs, nowMs) <= LATE_MS);
    this.#lateCount += held.length - released.length;
    return released.map(({ item }) => item);
  }
}

/** How much later than the quickest packet of its session. */
function latenessMs<Item>(session: Session<Item>, sentAtMs: number, nowMs: number): number {
  const differenceMs = nowMs - sentAtMs;
  const leastMs = session.differenceMs + (nowMs - session.differenceAtMs) * DRIFT;
  if (differenceMs < leastMs) {
    session.differenceMs = differenceMs;
    session.differenceAtMs = nowMs;
    return 0;
  }
  return differenceMs - leastMs;
}

function isSeen<Item>(session: Session<Item>, number: number): boolean {
  if (number > session.highest) return false;
  if (number <= session.highest - REPLAY_WINDOW) return true;
  const word = session.window[(number % REPLAY_WINDOW) >>> 5] ?? 0;
  return (word & (1 << (number & 31))) !== 0;
}

function mark<Item>(session: Session<Item>, number: number): void {
  const { window } = session;
  if (number > session.highest) {
    // The numbers in between take the places of those that leave the window, unheard so far.
    if (number - session.highest >= REPLAY_WINDOW) window.fill(0);
    else for (let next = session.highest + 1; next < number; next++) clear(window, next);
    session.highest = number;
  }
  const at = (number % REPLAY_WINDOW) >>> 5;
  window[at] = (window[at] ?? 0) | (1 << (number & 31));
}

function clear(window: Uint32Array, number: number): void {
  const at = (number % REPLAY_WINDOW) >>> 5;
  window[at] = (window[at] ?? 0) & ~(1 << (number & 31));
}
