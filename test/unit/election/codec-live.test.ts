import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GossipFuzz } from '../../support/gossip-fuzz.ts';

test('mutated packets neither crash the election nor fill its tables', () => {
  for (const seed of [1, 2, 3]) {
    const fuzz = new GossipFuzz(seed);
    fuzz.live(20_000);
    const { taken, sent, members, claims } = fuzz.result;
    assert.ok(taken > 2_000, `${taken} taken`);
    assert.ok(sent > 100, `${sent} sent`);
    assert.ok(members <= 4_096 && claims <= 65_536);
  }
});
