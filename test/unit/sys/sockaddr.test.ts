import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AF_INET, AF_UNIX, ETH_P_ARP, ETH_P_IPV6, SOCK_DGRAM } from '../../../src/sys/constants.ts';
import {
  parseSockaddrInet6,
  parseSockaddrNetlink,
  parseSockaddrPacket,
  sockaddrInet,
  sockaddrInet6,
  sockaddrNetlink,
  sockaddrPacket,
  sockaddrUnix,
} from '../../../src/sys/sockaddr.ts';
import { ethernetProtocol, RawSocket } from '../../../src/sys/socket.ts';

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

describe('sockaddr', () => {
  it('sockaddrNetlink() lays out family, padding, pid and groups in host order', () => {
    assert.equal(hex(sockaddrNetlink(0x01020304, 0x11)), '10000000' + '04030201' + '11000000');
    assert.deepEqual(parseSockaddrNetlink(sockaddrNetlink(7, 9)), { pid: 7, groups: 9 });
  });

  it('sockaddrPacket() has the protocol in network order and the address padded to 8 bytes', () => {
    const address = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    assert.equal(
      hex(sockaddrPacket(3, ETH_P_ARP, address)),
      '1100' + '0806' + '03000000' + '0000' + '00' + '06' + 'ffffffffffff0000',
    );
    assert.deepEqual(parseSockaddrPacket(sockaddrPacket(3, ETH_P_IPV6, address)), {
      ifIndex: 3,
      protocol: ETH_P_IPV6,
      hardwareType: 0,
      packetType: 0,
      hardwareAddress: address,
    });
    assert.throws(() => sockaddrPacket(3, ETH_P_ARP, new Uint8Array(9)), /at most 8/);
  });

  it('parseSockaddrPacket() refuses an address length past the end', () => {
    const bytes = sockaddrPacket(3, ETH_P_ARP);
    bytes[11] = 9;
    assert.equal(parseSockaddrPacket(bytes), undefined);
  });

  it('sockaddrInet() and sockaddrInet6() lay out port, address and scope', () => {
    assert.equal(
      hex(sockaddrInet(Uint8Array.of(192, 0, 2, 1), 179)),
      ['0200', '00b3', 'c0000201', '0'.repeat(16)].join(''),
    );
    const address = Uint8Array.from({ length: 16 }, (_, index) => index);
    assert.deepEqual(parseSockaddrInet6(sockaddrInet6(address, 546, 4)), { address, port: 546, scopeId: 4 });
    assert.throws(() => sockaddrInet6(new Uint8Array(4), 0), /IPv6 address of 4 bytes/);
    assert.throws(() => sockaddrInet(new Uint8Array(16), 0), /IPv4 address of 16 bytes/);
  });

  it('sockaddrUnix() ends a path with NUL, begins an abstract name with it, and knows the limit', () => {
    assert.equal(hex(sockaddrUnix('/a')), '0100' + '2f61' + '00');
    assert.equal(hex(sockaddrUnix('@a')), '0100' + '00' + '61');
    assert.equal(sockaddrUnix('/'.repeat(107))?.length, 110);
    assert.equal(sockaddrUnix('/'.repeat(108)), undefined);
    assert.equal(sockaddrUnix(`@${'a'.repeat(107)}`)?.length, 110);
    assert.equal(sockaddrUnix(`@${'a'.repeat(108)}`), undefined);
    assert.equal(sockaddrUnix(''), undefined);
    assert.equal(sockaddrUnix('@'), undefined);
    assert.equal(sockaddrUnix('/a\0b'), undefined);
  });

  it('the kernel takes the longest abstract name', () => {
    const address = sockaddrUnix(`@${'x'.repeat(107)}`);
    assert.ok(address !== undefined);
    const socket = new RawSocket(AF_UNIX, SOCK_DGRAM);
    socket.bind(address);
    assert.deepEqual(socket.localAddress(), address);
    socket.close();
  });

  it('parsers return undefined for other families, and for every shorter length', () => {
    const parsers = [parseSockaddrNetlink, parseSockaddrPacket, parseSockaddrInet6];
    const wrong = new Uint8Array(28);
    wrong[0] = AF_INET;
    for (const parse of parsers) {
      assert.equal(parse(wrong), undefined);
      fc.assert(fc.property(fc.uint8Array({ maxLength: 11 }), (bytes) => parse(bytes) === undefined));
    }
  });

  it('ethernetProtocol() swaps the bytes', () => {
    assert.equal(ethernetProtocol(ETH_P_ARP), 0x0608);
    assert.equal(ethernetProtocol(ETH_P_IPV6), 0xdd86);
  });
});
