import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Envelope } from '../../../src/election/io/envelope.ts';
import { newKey } from '../../../src/election/io/key-ring.ts';
import { MAX_RECORD_BYTES, SealedStream } from '../../../src/election/io/sealed-stream.ts';
import { MAX_STATE_BYTES } from '../../../src/election/message.ts';
import { seededRandom } from '../../../src/lib/prng.ts';

const KEYS = [newKey()];

function opened(keys = KEYS as typeof KEYS | undefined): { client: SealedStream; server: SealedStream } {
  const client = new SealedStream(new Envelope('default', keys));
  const server = new SealedStream(new Envelope('default', keys));
  assert.deepEqual(server.push(client.preamble()), []);
  assert.deepEqual(client.push(server.preamble()), []);
  assert.ok(client.isOpen && server.isOpen);
  return { client, server };
}

function texts(messages: readonly Uint8Array[] | string): readonly string[] | string {
  return typeof messages === 'string' ? messages : messages.map((one) => Buffer.from(one).toString());
}

for (const keys of [KEYS, undefined]) {
  test(`push() gives the messages back, however they are cut on the way (${keys ? 'sealed' : 'plain'})`, () => {
    const { client, server } = opened(keys);
    const large = randomBytes(300_000).toString('hex');
    const sent = ['one', '', large, 'two'];
    const stream = Buffer.concat(sent.map((text) => client.seal(Buffer.from(text))));
    const random = seededRandom(3);
    const got: string[] = [];
    for (let at = 0; at < stream.length; ) {
      const size = 1 + Math.floor(random() * 40_000);
      const messages = texts(server.push(stream.subarray(at, at + size)));
      assert.ok(typeof messages !== 'string');
      got.push(...messages);
      at += size;
    }
    assert.deepEqual(got, sent);
  });
}

test('push() reads records that come with the preamble, byte by byte', () => {
  const { client, server } = opened();
  const got: string[] = [];
  for (const byte of Buffer.concat([client.seal(Buffer.from('hello')), client.seal(Buffer.from('world'))])) {
    const messages = texts(server.push(Buffer.of(byte)));
    assert.ok(typeof messages !== 'string');
    got.push(...messages);
  }
  assert.deepEqual(got, ['hello', 'world']);
});

test('push() joins a record once, when it is whole: whoever sends it byte by byte costs no more', (context) => {
  const { client, server } = opened();
  const text = randomBytes(20_000).toString('hex');
  const record = client.seal(Buffer.from(text));
  const { mock } = context.mock.method(Buffer, 'concat');
  const got = [...record].flatMap((byte) => texts(server.push(Buffer.of(byte))));
  const joined = mock.calls.reduce((sum, { result }) => sum + (result?.length ?? 0), 0);
  assert.deepEqual(got, [text]);
  assert.ok(joined < 2 * record.length, `${joined} bytes were copied`);
});

test('push() refuses records of another connection, out of their order, twice or changed', () => {
  const record = (text: string, stream: SealedStream): Buffer => stream.seal(Buffer.from(text));
  const first = opened();
  const second = opened();
  assert.equal(texts(second.server.push(record('elsewhere', first.client))), 'forged');
  const third = opened();
  record('never arrives', third.client);
  assert.equal(texts(third.server.push(record('next', third.client))), 'forged');
  const fourth = opened();
  const once = record('once', fourth.client);
  assert.deepEqual(texts(fourth.server.push(once)), ['once']);
  assert.equal(texts(fourth.server.push(once)), 'forged');
  const fifth = opened();
  const changed = record('changed', fifth.client);
  changed[8] = (changed[8] ?? 0) ^ 1;
  assert.equal(texts(fifth.server.push(changed)), 'forged');
});

test('push() refuses its own records sent back', () => {
  const { client } = opened();
  assert.equal(texts(client.push(client.seal(Buffer.from('echo')))), 'forged');
  const alone = new SealedStream(new Envelope('default', KEYS));
  assert.equal(texts(alone.push(alone.preamble())), 'own');
});

test('push() refuses a peer of another label, key or program at its first bytes', () => {
  const cases: readonly (readonly [string, Buffer])[] = [
    ['label', new SealedStream(new Envelope('staging', KEYS)).preamble()],
    ['key', new SealedStream(new Envelope('default', [newKey()])).preamble()],
    ['sealing', new SealedStream(new Envelope('default', undefined)).preamble()],
    ['version', Buffer.from('GET /metrics HTTP/1.1\r\n\r\n')],
  ];
  for (const [why, preamble] of cases) {
    assert.equal(texts(new SealedStream(new Envelope('default', KEYS)).push(preamble)), why);
  }
});

test('push() refuses a record longer than any before it comes', () => {
  const { server } = opened();
  const length = Buffer.alloc(4);
  length.writeUInt32BE(MAX_RECORD_BYTES + 1);
  assert.equal(texts(server.push(length)), 'length');
});

test('push() refuses a message beyond MAX_STATE_BYTES', () => {
  const { client, server } = opened(undefined);
  assert.equal(texts(server.push(client.seal(Buffer.alloc(MAX_STATE_BYTES + 1)))), 'length');
});

test('push() takes records under a key that came into use meanwhile', () => {
  const [old, fresh] = [newKey(), newKey()];
  const envelopes = [new Envelope('default', [old]), new Envelope('default', [old])] as const;
  const client = new SealedStream(envelopes[0]);
  const server = new SealedStream(envelopes[1]);
  server.push(client.preamble());
  client.push(server.preamble());
  assert.deepEqual(texts(server.push(client.seal(Buffer.from('old')))), ['old']);
  envelopes[1].setKeys([old, fresh]);
  envelopes[0].setKeys([fresh, old]);
  assert.deepEqual(texts(server.push(client.seal(Buffer.from('fresh')))), ['fresh']);
  envelopes[1].setKeys([fresh]);
  assert.deepEqual(texts(server.push(client.seal(Buffer.from('still')))), ['still']);
});
