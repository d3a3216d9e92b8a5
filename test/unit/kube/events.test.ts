import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  emptyEventQueue,
  eventsDeadline,
  eventWritten,
  offerEvent,
  QUEUE_LIMIT,
  RECENT_LIMIT,
  takeEvent,
} from '../../../src/kube/events.ts';
import type { EventNote } from '../../../src/kube/types.ts';
import { instant, NEVER } from '../../../src/lib/time.ts';

function note(text: string, service = 'web'): EventNote {
  return {
    service: { namespace: 'shop', name: service, uid: `uid-${service}` },
    type: 'Normal',
    reason: 'Allocated',
    action: 'Allocate',
    note: text,
  };
}

describe('EventQueue', () => {
  it('says the same once within five minutes and counts the repetitions', () => {
    const queue = emptyEventQueue(instant(0));
    offerEvent(queue, note('a'), instant(0));
    const first = takeEvent(queue, instant(0));
    assert.equal(first?.kind, 'create');
    eventWritten(queue, first?.digest ?? '', 'web.1');
    offerEvent(queue, note('a'), instant(30_000));
    assert.equal(
      takeEvent(queue, instant(30_000)),
      undefined,
      'no second Event, and no count within a minute',
    );
    offerEvent(queue, note('a'), instant(61_000));
    assert.deepEqual(takeEvent(queue, instant(61_000)), {
      kind: 'count',
      digest: first?.digest,
      eventName: 'web.1',
      namespace: 'shop',
      count: 3,
    });
    offerEvent(queue, note('a'), instant(300_000));
    assert.equal(takeEvent(queue, instant(300_000))?.kind, 'create');
  });

  it('tells apart by service, reason and note', () => {
    const queue = emptyEventQueue(instant(0));
    for (const each of [note('a'), note('b'), note('a', 'api')]) offerEvent(queue, each, instant(0));
    assert.equal(queue.waiting.length, 3);
  });

  it('drops the oldest beyond its limit, counts it, and would say it again', () => {
    const queue = emptyEventQueue(instant(0));
    for (let index = 0; index <= QUEUE_LIMIT; index++) offerEvent(queue, note(`${index}`), instant(0));
    assert.equal(queue.waiting.length, QUEUE_LIMIT);
    assert.equal(queue.dropped, 1);
    const next = takeEvent(queue, instant(0));
    assert.equal(next?.kind === 'create' && next.note.note, '1');
    offerEvent(queue, note('0'), instant(0));
    assert.equal(queue.waiting.length, QUEUE_LIMIT);
  });

  it('lets 25 go at once and 5 a second after', () => {
    const queue = emptyEventQueue(instant(0));
    for (let index = 0; index < 40; index++) offerEvent(queue, note(`${index}`), instant(0));
    const take = (at: number) => {
      let taken = 0;
      while (takeEvent(queue, instant(at)) !== undefined) taken++;
      return taken;
    };
    assert.equal(take(0), 25);
    assert.equal(eventsDeadline(queue, instant(0)), 200);
    assert.equal(take(1_000), 5);
    assert.equal(take(3_000), 10);
    assert.equal(eventsDeadline(queue, instant(3_000)), NEVER);
  });

  it('remembers a bounded number of notes', () => {
    const queue = emptyEventQueue(instant(0));
    for (let index = 0; index < RECENT_LIMIT * 2; index++) offerEvent(queue, note(`${index}`), instant(0));
    assert.ok(queue.recent.size <= RECENT_LIMIT);
  });

  it('cuts a note to what the API takes, in bytes', () => {
    const queue = emptyEventQueue(instant(0));
    offerEvent(queue, note('x'.repeat(5_000)), instant(0));
    offerEvent(queue, note('ü€'.repeat(5_000)), instant(0));
    for (const write of queue.waiting) {
      assert.ok(write.kind === 'create' && Buffer.byteLength(write.note.note) <= 1_024);
    }
  });
});
