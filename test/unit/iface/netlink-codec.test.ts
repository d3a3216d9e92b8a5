import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeDatagram, type NetlinkMessage } from '../../../src/iface/netlink-codec.ts';
import { encodeDumpRoutes, MAIN_ROUTES, writeRequests } from '../../../src/iface/netlink-requests.ts';
import type { AddressRequest, IfIndex } from '../../../src/iface/types.ts';
import { ByteWriter } from '../../../src/lib/bytes.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import * as vectors from './netlink-vectors.ts';

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

function only(hex: string): NetlinkMessage {
  const decoded = decodeDatagram(bytes(hex));
  assert.deepEqual(decoded.problems, []);
  assert.equal(decoded.messages.length, 1);
  return decoded.messages[0] as NetlinkMessage;
}

const VIP: AddressRequest = {
  kind: 'add',
  ifIndex: 4 as IfIndex,
  ip: '192.0.2.10' as Ip,
  prefixLength: 32,
  scope: 0,
  flags: 0x200,
  preferredSeconds: 20,
  validSeconds: 30,
  protocol: 108,
};

test('decodeDatagram() reads an address with flags, lifetimes and tag', () => {
  assert.deepEqual(only(vectors.vip), {
    kind: 'address',
    event: 'new',
    sequence: 7,
    portId: 21_810,
    interrupted: false,
    address: {
      ifIndex: 4,
      ip: '192.0.2.10',
      prefixLength: 32,
      scope: 0,
      flags: 0x200,
      protocol: 108,
      preferredSeconds: 20,
      validSeconds: 30,
      addedCs: 247_988,
    },
  });
  const gone = only(vectors.vipRemoved);
  assert.ok(gone.kind === 'address' && gone.event === 'del' && gone.address.ip === '192.0.2.10');
});

test('decodeDatagram() reads permanent, peer and v6 addresses', () => {
  const host = only(vectors.hostAddress);
  assert.ok(host.kind === 'address');
  assert.equal(host.address.validSeconds, Number.POSITIVE_INFINITY);
  assert.equal(host.address.protocol, undefined);
  const peer = only(vectors.peerAddress);
  assert.ok(peer.kind === 'address');
  assert.equal(peer.address.ip, '10.0.0.1', 'its own address, not the peer’s');
  const v6 = decodeDatagram(bytes(vectors.vip6)).messages[0];
  assert.ok(v6?.kind === 'address');
  assert.equal(v6.address.ip, '2001:db8::10');
  assert.equal(v6.address.flags, 0x202);
  assert.equal(v6.address.protocol, 108);
});

test('decodeDatagram() reads a link, and not the bridge’s view of a port as one', () => {
  const link = only(vectors.vethLink);
  assert.ok(link.kind === 'link' && link.event === 'new');
  const { mac, kind, name, master, type } = link.link;
  assert.deepEqual(
    { mac, kind, name, master, type },
    {
      mac: '02:00:00:00:00:02',
      kind: 'veth',
      name: 'peer0',
      master: undefined,
      type: 1,
    },
  );
  assert.equal(link.link.flags & 1, 1);
  const left = decodeDatagram(bytes(vectors.bridgePortLeft));
  assert.deepEqual(left, { messages: [], ignored: 1, problems: [] });
});

test('decodeDatagram() reads default, connected, multipath and other-family routes', () => {
  const found = [vectors.defaultRoute, vectors.connectedRoute, vectors.multipathRoute, vectors.viaRoute].map(
    (hex) => {
      const message = only(hex);
      assert.ok(message.kind === 'route');
      return message.routes;
    },
  );
  const shape = (routes: (typeof found)[number]) =>
    routes.map(({ destination, gateway, ifIndex, metric, table }) => [
      `${destination.network}/${destination.length}`,
      gateway,
      ifIndex,
      metric,
      table,
    ]);
  assert.deepEqual(found.map(shape), [
    [['0.0.0.0/0', '192.0.2.1', 4, 100, 254]],
    [['192.0.2.0/24', undefined, 4, 0, 254]],
    [
      ['198.51.100.0/24', '192.0.2.1', 4, 0, 254],
      ['198.51.100.0/24', '192.0.2.3', 4, 0, 254],
    ],
    [['203.0.113.0/24', 'fe80::1', 4, 0, 254]],
  ]);
  const dump = decodeDatagram(bytes(vectors.routeDump));
  assert.deepEqual(dump.problems, []);
  assert.ok(dump.messages.length > 3 && dump.messages.every((message) => message.kind === 'route'));
});

test('decodeDatagram() gives the kernel’s own words on a failure', () => {
  const cases: [string, string, number, string | undefined][] = [
    [vectors.ackOk, 'ack', 0, undefined],
    [vectors.ackExists, 'ack', 17, 'ipv4: Address already assigned'],
    [vectors.ackNoDevice, 'ack', 19, 'ipv4: Device not found'],
    [vectors.ackUncapped, 'ack', 19, 'ipv4: Device not found'],
    [vectors.ackNotFound, 'ack', 99, 'ipv4: Address not found'],
    [vectors.doneRefused, 'done', 22, 'ipv4: Invalid values in header for address dump request'],
    [vectors.doneNoTable, 'done', 2, 'ipv4: FIB table does not exist'],
    [vectors.dumpDone, 'done', 0, undefined],
  ];
  for (const [hex, kind, errno, text] of cases) {
    const message = only(hex);
    assert.ok(message.kind === 'ack' || message.kind === 'done');
    assert.equal(message.kind, kind);
    assert.deepEqual([message.status.errno, message.status.text], [errno, text]);
    assert.equal(message.sequence, 7);
  }
});

test('decodeDatagram() sees a dump that the kernel interrupted, and an overrun', () => {
  const datagram = bytes(vectors.addressDump);
  assert.ok(decodeDatagram(datagram).messages.every((message) => !message.interrupted));
  datagram[6] = 0x12; // NLM_F_MULTI | NLM_F_DUMP_INTR
  assert.equal(decodeDatagram(datagram).messages[0]?.interrupted, true);
  const overrun = new ByteWriter().u32Host(16).u16Host(4).u16Host(0).u32Host(0).u32Host(0).finish();
  assert.equal(decodeDatagram(overrun).messages[0]?.kind, 'overrun');
});

test('decodeDatagram() counts unknown messages and goes on behind them', () => {
  const neighbour = new ByteWriter()
    .u32Host(18)
    .u16Host(28)
    .u16Host(0)
    .u32Host(0)
    .u32Host(0)
    .zeros(4)
    .finish();
  const decoded = decodeDatagram(new Uint8Array([...neighbour, ...bytes(vectors.vip)]));
  assert.deepEqual([decoded.ignored, decoded.messages.length, decoded.problems.length], [1, 1, 0]);
});

test('decodeDatagram() tells where and why bytes are no message', () => {
  const vip = bytes(vectors.vip);
  assert.equal(decodeDatagram(vip.subarray(0, 12)).problems[0]?.code, 'truncated-header');
  assert.equal(decodeDatagram(vip.subarray(0, 40)).problems[0]?.code, 'bad-length');
  const short = Uint8Array.from(vip);
  short[24] = 3; // an attribute shorter than its own header
  assert.deepEqual(decodeDatagram(short).problems[0], {
    code: 'bad-attribute',
    offset: 0,
    detail: 'nlmsg_type 20, nlmsg_len 88',
  });
  const long = Uint8Array.from(vip);
  long[17] = 33; // a prefix of 33 bits
  assert.equal(decodeDatagram(long).problems[0]?.code, 'bad-body');
});

test('decodeDatagram() returns for every mutation of every vector, whatever it says', () => {
  const samples = Object.values(vectors).map(bytes);
  const mutation = fc.record({
    sample: fc.nat(samples.length - 1),
    changes: fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { maxLength: 8 }),
    length: fc.nat(4000),
  });
  fc.assert(
    fc.property(mutation, ({ sample, changes, length }) => {
      const datagram = Uint8Array.from(samples[sample] ?? []).subarray(0, length);
      for (const [at, value] of changes) if (datagram.length > 0) datagram[at % datagram.length] = value;
      const decoded = decodeDatagram(datagram);
      assert.ok(decoded.messages.length * 16 <= datagram.length);
    }),
    { numRuns: 5_000 },
  );
});

test('writeRequests() and decodeDatagram() agree on every request', () => {
  const seconds = fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 1, max: 0x7fff_ffff }));
  const ip = fc.oneof(fc.ipV4(), fc.constantFrom('2001:db8::1', 'fe80::1:0:0:1', '2001:db8:0:1:1:1:1:1'));
  const request = fc.record({
    kind: fc.constantFrom('add' as const, 'replace' as const),
    ifIndex: fc.integer({ min: 1, max: 0x7fff_ffff }),
    ip,
    scope: fc.nat(255),
    flags: fc.integer({ min: 0, max: 0xffff_ffff }),
    preferredSeconds: seconds,
    validSeconds: fc.constant(Number.POSITIVE_INFINITY),
    protocol: fc.nat(255),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 1, maxLength: 20 }), (drawn) => {
      const requests = drawn.map(
        (each) => ({ ...each, prefixLength: each.ip.includes(':') ? 128 : 32 }) as AddressRequest,
      );
      const writer = new ByteWriter(4096);
      assert.equal(writeRequests(writer, 5, requests, 32_768), requests.length);
      const { messages, problems } = decodeDatagram(writer.finish());
      assert.deepEqual(problems, []);
      const addresses = messages.map((message) => (message.kind === 'address' ? message.address : undefined));
      assert.deepEqual(
        addresses,
        requests.map(({ kind: _, ...address }) => address),
      );
      assert.deepEqual(
        messages.map((message) => message.sequence),
        requests.map((_, index) => 5 + index),
      );
    }),
  );
});

test('writeRequests() asks for an answer to the last request only, and stops when full', () => {
  const flagsAt = (datagram: Uint8Array, at: number) => new DataView(datagram.buffer).getUint16(at + 6, true);
  const writer = new ByteWriter(4096);
  assert.equal(writeRequests(writer, 1, [VIP, VIP, { ...VIP, kind: 'replace' }, VIP], 76 * 3 + 50), 3);
  const datagram = writer.finish();
  assert.equal(datagram.length, 76 * 3);
  assert.deepEqual(
    [0, 76, 152].map((at) => flagsAt(datagram, at)),
    // NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL; then NLM_F_REQUEST | NLM_F_REPLACE | NLM_F_ACK
    [0x601, 0x601, 0x105],
  );
});

test('writeRequests() never sets a broadcast address', () => {
  const writer = new ByteWriter(4096);
  writeRequests(writer, 1, [{ ...VIP, prefixLength: 24 }], 32_768);
  const datagram = writer.finish();
  const types: number[] = [];
  for (let at = 24; at < datagram.length; ) {
    const length = datagram[at] ?? 4;
    types.push(datagram[at + 2] ?? 0);
    at += (length + 3) & ~3;
  }
  assert.deepEqual(types, [2, 1, 8, 6, 11]);
});

test('encodeDumpRoutes() asks for the main table alone', () => {
  const request = Buffer.from(encodeDumpRoutes(9, 'v4', MAIN_ROUTES)).toString('hex');
  assert.equal(
    request,
    `24000000${'1a00'}${'0103'}0900000000000000${'02'}${'00'.repeat(11)}08000f00fe000000`,
  );
});

test('decodeDatagram() reads a dump of 10,000 addresses in at most 50 ms', () => {
  for (const vector of [vectors.vip, vectors.vip6]) {
    const one = bytes(vector);
    const datagrams = Array.from({ length: 25 }, () => {
      const datagram = new Uint8Array(one.length * 400);
      for (let index = 0; index < 400; index++) datagram.set(one, index * one.length);
      return datagram;
    });
    const took = Array.from({ length: 5 }, () => {
      const before = process.hrtime.bigint();
      let count = 0;
      for (const datagram of datagrams) count += decodeDatagram(datagram).messages.length;
      assert.equal(count, 10_000);
      return Number(process.hrtime.bigint() - before) / 1e6;
    });
    assert.ok(Math.min(...took) <= 50, `best of 5: ${Math.min(...took).toFixed(1)} ms`);
  }
});
