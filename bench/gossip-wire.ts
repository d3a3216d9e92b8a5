import { randomBytes } from 'node:crypto';
import { Envelope } from '../src/election/io/envelope.ts';
import { newKey } from '../src/election/io/key-ring.ts';
import { Sealer } from '../src/election/io/sealer.ts';
import { GossipFuzz } from '../test/support/gossip-fuzz.ts';
import type { Figures } from './harness.ts';

/**
 * What a packet of gossip costs, with a key and without, and mutated ones through the decoder and on into a live election:
 * `FUZZ_PACKETS` of them (100,000; 10 million take 15 to 30 minutes), from the seed `FUZZ_SEED` (the time).
 */

const PACKETS = Number(process.env['FUZZ_PACKETS'] ?? 100_000);
const SEED = Number(process.env['FUZZ_SEED'] ?? Date.now() % 1_000_000);
/** Each election takes so many before the next seed begins, so that one odd state does not shape all the rest. */
const PACKETS_PER_ELECTION = 1_000_000;
/** What the tables of one election may take when they are full, and what the fuzz itself needs. */
const HEAP_LIMIT_MB = 256;
const LOOK_EVERY_PACKETS = 50_000;
const COST_ROUNDS = 40;
const COST_PACKETS = 2_000;
const MESSAGE = randomBytes(1_200);

export async function run(figures: Figures): Promise<void> {
  measureCosts(figures);
  fuzz(figures);
}

function measureCosts(figures: Figures): void {
  const envelope = new Envelope('default', [newKey(), newKey()]);
  const [alice, bob] = [1, 2].map(() => new Sealer<string>(envelope, () => performance.now()));
  if (alice === undefined || bob === undefined) throw new Error('two sealers');
  const seal = (): Buffer => Buffer.from(alice.seal(MESSAGE));
  const { challenge, echo } = introduce(alice, bob, seal());
  const carol = new Sealer<string>(envelope, () => performance.now());
  carol.open(challenge, '');
  const heard = seal();
  bob.open(heard, '');
  const cases: readonly (readonly [string, number | undefined, () => Buffer, Sealer<string>?])[] = [
    ['random bytes', 5, () => randomBytes(1_240)],
    ['header made up', 5, () => Buffer.concat([heard.subarray(0, 4), randomBytes(1_236)])],
    ['heard before, changed', 5, () => changed(heard)],
    ['heard before', 5, () => heard],
    ['taken off the wire, changed', 5, () => changed(seal())],
    ['authentic and new', undefined, seal],
    ['challenge heard before', 5, () => challenge, alice],
    ['challenge of another session, heard before', 5, () => challenge, carol],
    ['echo heard before', 5, () => echo],
    ['echo that nobody asked for', 5, () => echo, carol],
  ];
  for (const [name, target, make, to = bob] of cases) {
    figures.record({
      bench: 'gossip-wire',
      case: `packet: ${name}`,
      value: costUs(make, (packet) => to.open(packet, '')),
      unit: 'µs',
      target: target === undefined ? undefined : { atMost: target },
      against: '',
    });
  }
  const { proven, unproven } = bob.sessions;
  if (proven !== 1 || unproven !== 0) throw new Error('packets without a key left something behind');
}

function introduce(from: Sealer<string>, to: Sealer<string>, packet: Buffer) {
  const held = to.open(packet, '');
  if (held.kind !== 'held' || held.answer === undefined) throw new Error(`expected held, got ${held.kind}`);
  const challenge = Buffer.from(held.answer);
  const challenged = from.open(challenge, '');
  if (challenged.kind !== 'challenged') throw new Error(`expected challenged, got ${challenged.kind}`);
  const echo = Buffer.from(challenged.answer);
  to.open(echo, '');
  return { challenge, echo };
}

function changed(packet: Buffer): Buffer {
  const copy = Buffer.from(packet);
  copy[60] = (copy[60] ?? 0) ^ 1;
  return copy;
}

/** The best of some rounds, each the mean of many packets: what else the machine does is not the packet's cost. */
function costUs(make: () => Buffer, open: (packet: Buffer) => unknown): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < COST_ROUNDS; round++) {
    const packets = Array.from({ length: COST_PACKETS }, make);
    const startedMs = performance.now();
    for (const packet of packets) open(packet);
    best = Math.min(best, ((performance.now() - startedMs) / COST_PACKETS) * 1_000);
  }
  return best;
}

function fuzz(figures: Figures): void {
  process.stdout.write(`seed ${SEED}\n`);
  const startedMs = performance.now();
  const sums = { packets: 0, taken: 0, sent: 0 };
  const most = { members: 0, claims: 0, heapMb: 0 };
  for (let seed = SEED; sums.packets < PACKETS; seed++) {
    const one = new GossipFuzz(seed);
    const count = Math.min(PACKETS_PER_ELECTION, PACKETS - sums.packets);
    for (let done = 0; done < count; done += LOOK_EVERY_PACKETS) {
      one.live(Math.min(LOOK_EVERY_PACKETS, count - done));
      most.heapMb = Math.max(most.heapMb, process.memoryUsage().heapUsed / 1e6);
    }
    const { packets, taken, sent, members, claims } = one.result;
    sums.packets += packets;
    sums.taken += taken;
    sums.sent += sent;
    most.members = Math.max(most.members, members);
    most.claims = Math.max(most.claims, claims);
  }
  const elapsedMs = performance.now() - startedMs;
  const record = (name: string, value: number, unit: string, atMost?: number): void =>
    figures.record({
      bench: 'gossip-wire',
      case: `fuzz: ${name}`,
      value,
      unit,
      target: atMost === undefined ? undefined : { atMost },
      against: '',
    });
  record('mutated packets', sums.packets, 'packets');
  record('taken by the decoder, and into an election', sums.taken, 'packets');
  record('messages sent in turn', sums.sent, 'messages');
  record('members in a table', most.members, 'members', 4_096);
  record('claims in a table', most.claims, 'claims', 65_536);
  record('heap, at most', most.heapMb, 'MB', HEAP_LIMIT_MB);
  record('each packet', (elapsedMs / sums.packets) * 1_000, 'µs');
}
