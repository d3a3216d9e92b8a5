import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../../src/lib/prng.ts';
import { DATA, type Host, Network, STORAGE } from './watch-network.ts';

/** Faults of every kind, one after the other or at once, then peace: what must hold meanwhile, and afterwards. */

const ROUNDS = 12;
const SEEDS = Array.from({ length: 20 }, (_, seed) => seed * 48_271 + 11);

type Fault = (network: Network, host: Host, other: Host, forMs: number) => void;

const FAULTS: readonly Fault[] = [
  (network, host, _, forMs) => {
    network.pause(host);
    network.run(forMs);
    network.resume(host, forMs, false);
  },
  (network, host, _, forMs) => {
    network.pause(host);
    network.run(forMs);
    network.resume(host, forMs, true);
  },
  (network, host, _, forMs) => {
    network.kill(host);
    network.run(forMs);
    network.restart(host);
  },
  (network, host, _, forMs) => {
    network.killProcess(host, 'rst');
    network.run(forMs);
    network.restart(host, host.incarnation + 1);
  },
  (network, host, other, forMs) => {
    network.passes = ({ from, to }) => from !== host.name || to !== other.name;
    network.run(forMs);
  },
  (network, host, _, forMs) => {
    network.passes = ({ from }) => from !== host.name;
    network.run(forMs);
  },
  (network, host, _, forMs) => {
    network.passes = ({ to }) => to !== host.name;
    network.referencePasses = (name) => name !== host.name;
    network.run(forMs);
  },
  (network, host, _, forMs) => {
    network.passes = ({ from, to, tcp }) => tcp || (from !== host.name && to !== host.name);
    network.run(forMs);
  },
  (network, _host, _other, forMs) => {
    network.passes = ({ segment }) => segment !== DATA;
    network.run(forMs);
  },
  (network, host, other, forMs) => {
    const half = (name: string) => name < host.name || name === other.name;
    network.passes = ({ from, to }) => half(from) === half(to);
    network.run(forMs);
  },
  (network, host, _, forMs) => {
    network.tell(host, 'suspect');
    network.run(forMs);
    network.tell(host, 'alive');
  },
  (network, host, _, forMs) => {
    network.kill(host);
    network.tell(host, 'dead');
    network.run(forMs);
    network.restart(host, host.incarnation + 1);
    network.tell(host, 'alive');
  },
  (network, host, other, forMs) => {
    network.cutConnection(host, other, 'fin');
    network.loss = 0.2;
    network.run(forMs);
    network.loss = 0;
  },
];

test('Watch comes to rest after faults of every kind, and an isolated or unconfirmed host judges nobody', () => {
  for (const seed of SEEDS) {
    const random = seededRandom(seed);
    const hosts = 2 + Math.floor(random() * 7);
    const network = new Network({
      hosts,
      seed,
      reference: seed % 3 > 0,
      segments: [DATA, STORAGE],
      jitterMs: 4,
    });
    network.run(1_000);
    for (let round = 0; round < ROUNDS; round++) {
      const host = network.host(Math.floor(random() * hosts));
      const other = network.host((host.index + 1) % hosts);
      const fault = FAULTS[Math.floor(random() * FAULTS.length)];
      assert.ok(fault);
      fault(network, host, other, random() * random() * 8_000);
      network.passes = () => true;
      network.referencePasses = () => true;
      network.run(random() * random() * 1_000);
    }
    assertNoVerdictInDoubt(network);
    network.run(3_000);
    network.events.length = 0;
    const before = network.sent;
    network.run(10_000);
    assert.deepEqual(network.events, [], `seed ${seed}`);
    const edges = 2 * (hosts === 2 ? 1 : hosts);
    assert.ok(
      (network.sent - before) / 10 / edges < 43,
      `${(network.sent - before) / 10 / edges} packets a second`,
    );
    for (const { watch } of network.hosts) {
      assert.ok(watch.mayRenew(DATA) && watch.mayRenew(STORAGE));
      for (const peer of watch.peers()) {
        assert.ok(
          peer.armed && peer.connected && !peer.udpLost && peer.silence === undefined,
          `seed ${seed}`,
        );
      }
    }
  }
});

function assertNoVerdictInDoubt(network: Network): void {
  const doubts = new Set<string>();
  network.events.forEach((event, index) => {
    for (const { host, after } of network.restarts) {
      if (after === index) for (const key of [...doubts]) if (key.startsWith(`${host} `)) doubts.delete(key);
    }
    if (event.kind === 'vouched') return;
    const key = `${event.host} ${event.segment}`;
    if (event.kind === 'unconfirmed' || event.kind === 'isolated') doubts.add(key);
    if (event.kind === 'confirmed') doubts.delete(key);
    assert.ok(event.kind !== 'verdict' || !doubts.has(key), `${event.host} judged in doubt`);
  });
}

test('Watch of a host that everybody holds for dead is heard again as soon as its cable is back', () => {
  for (const hosts of [2, 5]) {
    const network = new Network({ hosts });
    network.run(1_000);
    const victim = network.host(0);
    const rest = network.hosts.slice(1);
    network.passes = ({ from, to }) => (from === victim.name) === (to === victim.name);
    network.run(1_000);
    network.tell(victim, 'dead', rest);
    for (const host of rest) network.tell(host, 'dead', [victim]);
    network.run(5_000);
    assert.equal(victim.watch.isIsolated(DATA), true);
    network.passes = () => true;
    network.run(110);
    assert.equal(victim.watch.isIsolated(DATA), false);
  }
});
