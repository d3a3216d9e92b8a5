import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LINE_TOO_LONG, LineSplitter } from '../../../src/kube/line-splitter.ts';

describe('LineSplitter', () => {
  it('gives the same lines however the stream is cut, also inside a UTF-8 sequence', () => {
    const line = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !/[\n\uFEFF]/.test(text));
    fc.assert(
      fc.property(fc.array(line), fc.infiniteStream(fc.integer({ min: 1, max: 7 })), (lines, sizes) => {
        const bytes = new TextEncoder().encode(lines.map((text) => `${text}\n`).join(''));
        const splitter = new LineSplitter(10_000);
        const seen: string[] = [];
        for (let at = 0; at < bytes.length; ) {
          const size = sizes.next().value ?? 1;
          const got = splitter.push(bytes.subarray(at, at + size));
          assert.ok(got !== LINE_TOO_LONG);
          seen.push(...got);
          at += size;
        }
        assert.deepEqual(seen, lines);
      }),
    );
  });

  it('refuses a line over its limit, whole or in pieces', () => {
    assert.equal(new LineSplitter(4).push(new TextEncoder().encode('12345\n')), LINE_TOO_LONG);
    const splitter = new LineSplitter(4);
    assert.deepEqual(splitter.push(new TextEncoder().encode('123')), []);
    assert.equal(splitter.push(new TextEncoder().encode('45')), LINE_TOO_LONG);
    assert.deepEqual(new LineSplitter(4).push(new TextEncoder().encode('1234\n\n5\n')), ['1234', '5']);
  });
});
