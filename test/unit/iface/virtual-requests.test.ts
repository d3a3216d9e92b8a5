import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeDatagram } from '../../../src/iface/netlink-codec.ts';
import { writeRequests } from '../../../src/iface/netlink-requests.ts';
import type { IfIndex, KernelRequest, Link, Mac } from '../../../src/iface/types.ts';
import { isVirtualLink, virtualMac } from '../../../src/iface/virtual-link.ts';
import { ByteWriter } from '../../../src/lib/bytes.ts';
import type { Family, Ip } from '../../../src/lib/ip.ts';
import { link } from '../../support/fake-host.ts';

function written(requests: readonly KernelRequest[]): Uint8Array {
  const writer = new ByteWriter(4096);
  assert.equal(writeRequests(writer, 9, requests, 4096), requests.length);
  return writer.finish();
}

const LINK = 7 as IfIndex;

test('a request that creates a link has name, type and mark in the kernel’s own form', () => {
  const create: KernelRequest = {
    kind: 'create-link',
    name: 'kube-lb0',
    type: 'dummy',
    mac: virtualMac({ table: 254, protocol: 108 }),
  };
  const bytes = written([create]);
  const { messages, problems } = decodeDatagram(bytes);
  assert.deepEqual(problems, []);
  const message = messages[0];
  assert.ok(message?.kind === 'link' && message.event === 'new' && message.sequence === 9);
  const { name, kind, mac } = message.link;
  assert.deepEqual({ name, kind, mac }, { name: 'kube-lb0', kind: 'dummy', mac: '02:6c:62:64:6c:fe' });
  // NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
  assert.equal(Buffer.from(bytes).readUInt16LE(6), 0x605);
});

test('a link is configured by nested attributes, one family in a request', () => {
  const hex = (family: Family) =>
    Buffer.from(written([{ kind: 'configure-link', ifIndex: LINK, family }]))
      .toString('hex')
      .slice(32);
  const header = '00000000070000000000000000000000';
  const v4 = [
    '14001a00', // IFLA_AF_SPEC
    '10000200', // AF_INET
    '0c000100', // IFLA_INET_CONF
    '0800140001000000', // IPV4_DEVCONF_PROMOTE_SECONDARIES
  ];
  assert.equal(hex('v4'), header + v4.join(''));
  const v6 = [
    '10001a00', // IFLA_AF_SPEC
    '0c000a00', // AF_INET6
    '0500080001000000', // IFLA_INET6_ADDR_GEN_MODE: none
  ];
  assert.equal(hex('v6'), header + v6.join(''));
});

test('raising and deleting a link name it by its index and change nothing else', () => {
  const raise = Buffer.from(written([{ kind: 'raise-link', ifIndex: LINK }])).toString('hex');
  assert.equal(raise.slice(32), '00000000070000000100000001000000');
  const mark = written([{ kind: 'mark-link', ifIndex: LINK, mac: virtualMac(undefined) }]);
  assert.equal(
    Buffer.from(mark).toString('hex').slice(32),
    ['00000000070000000000000000000000', '0a000100026c626400000000'].join(''),
  );
  const remove = decodeDatagram(written([{ kind: 'delete-link', ifIndex: LINK }])).messages[0];
  assert.ok(remove?.kind === 'link' && remove.event === 'del' && remove.link.index === LINK);
});

test('property: a route that is asked for is read back as it was meant', () => {
  const destination = fc.constantFrom(
    { network: '203.0.113.0' as Ip, length: 24 },
    { network: '203.0.113.7' as Ip, length: 32 },
    { network: '0.0.0.0' as Ip, length: 0 },
    { network: '2001:db8:1::' as Ip, length: 64 },
    { network: '2001:db8:1::5' as Ip, length: 128 },
  );
  fc.assert(
    fc.property(
      fc.constantFrom('add-route' as const, 'delete-route' as const),
      destination,
      fc.integer({ min: 1, max: 0xffff_ffff }),
      fc.integer({ min: 5, max: 255 }),
      (kind, prefix, table, protocol) => {
        const bytes = written([{ kind, ifIndex: LINK, destination: prefix, table, protocol }]);
        const message = decodeDatagram(bytes).messages[0];
        assert.ok(message?.kind === 'route');
        assert.equal(message.event, kind === 'add-route' ? 'new' : 'del');
        const [route] = message.routes;
        assert.deepEqual(route?.destination, prefix);
        assert.deepEqual(
          [route?.table, route?.protocol, route?.ifIndex, route?.gateway, route?.type],
          [table, protocol, LINK, undefined, 1],
        );
      },
    ),
  );
});

test('isVirtualLink() knows the mark, on links of the kinds that lbd makes', () => {
  const of = (kind: string | undefined, mac: string): Link => link(LINK, 'any', { kind, mac: mac as Mac });
  for (const protocol of [5, 255]) {
    const mac = virtualMac({ table: 4_294_967_295, protocol });
    assert.ok(isVirtualLink(of('dummy', mac)), mac);
  }
  assert.equal(virtualMac(undefined), '02:6c:62:64:00:00');
  assert.ok(isVirtualLink(of('bridge', '02:6c:62:64:00:00')));
  assert.ok(!isVirtualLink(of('veth', '02:6c:62:64:00:00')), 'a NIC that happens to have such an address');
  assert.ok(!isVirtualLink(of(undefined, '02:6c:62:64:00:00')));
  assert.ok(!isVirtualLink(of('dummy', '02:6c:62:65:00:00')));
});
