import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';

const mayUnshare = spawnSync('unshare', ['--net', 'true']).status === 0;
const skip = mayUnshare ? false : 'needs root for a network namespace';

const source = (path: string): string => new URL(`../../../src/sys/${path}`, import.meta.url).href;

const PREAMBLE = `
  import assert from 'node:assert/strict';
  import { execFileSync } from 'node:child_process';
  import { native, receive } from '${new URL('./support.ts', import.meta.url).href}';
  import * as c from '${source('constants.ts')}';
  import { parseSockaddrInet6, parseSockaddrPacket, sockaddrInet6, sockaddrPacket } from '${source('sockaddr.ts')}';
  import { ethernetProtocol, RawSocket } from '${source('socket.ts')}';
  const ip = (...words) => execFileSync('ip', words);
  ip('link', 'set', 'lo', 'up');
`;

/** Runs a program in a network namespace of its own, where only `lo` exists (interface index 1). */
function runInNamespace(program: string): void {
  const node = [process.execPath, '--input-type=module-typescript', '--eval', PREAMBLE + program];
  const result = spawnSync('unshare', ['--net', ...node], { encoding: 'utf8', timeout: 30_000 });
  assert.equal(result.status, 0, result.stderr + result.stdout);
}

describe('sockets that need privilege', { skip }, () => {
  it('AF_PACKET sends and receives frames of its protocol, without its own when told so', () => {
    runInNamespace(`
      const open = () => {
        const socket = new RawSocket(c.AF_PACKET, c.SOCK_RAW, ethernetProtocol(c.ETH_P_ARP));
        socket.bind(sockaddrPacket(1, c.ETH_P_ARP));
        return socket;
      };
      const watching = open();
      watching.setOption(c.SOL_PACKET, c.PACKET_IGNORE_OUTGOING, 1);
      watching.setOption(c.SOL_SOCKET, c.SO_TIMESTAMPNS, 1);
      const sender = open();
      const frame = new Uint8Array(42).fill(0xab);
      frame.fill(0, 0, 6); // to lo's own address
      frame.set([0x08, 0x06], 12);
      assert.deepEqual(sender.sendMany(Array(3).fill({ bytes: frame })), { sent: 3, failure: undefined });
      const received = await receive(watching, 3);
      assert.equal(received.length, 3);
      for (const datagram of received) {
        assert.deepEqual(datagram.bytes, frame);
        assert.ok(Math.abs(datagram.timestampMs - native.realTimeMs()) < 10_000);
        const from = parseSockaddrPacket(datagram.sender);
        assert.deepEqual([from.ifIndex, from.protocol, from.packetType], [1, c.ETH_P_ARP, c.PACKET_HOST]);
      }
      const outgoing = (await receive(sender, 3)).map((datagram) => parseSockaddrPacket(datagram.sender).packetType);
      assert.ok(outgoing.every((type) => type === c.PACKET_HOST), 'its own frames come back only from the wire');
      process.exit(0);
    `);
  });

  it('onError() tells ENETDOWN when the link goes down, and frames arrive once it is up again', () => {
    runInNamespace(`
      const socket = new RawSocket(c.AF_PACKET, c.SOCK_RAW, ethernetProtocol(c.ETH_P_ARP));
      socket.bind(sockaddrPacket(1, c.ETH_P_ARP));
      const down = Promise.withResolvers();
      const arrived = Promise.withResolvers();
      socket.startPolling({
        onDatagrams: arrived.resolve,
        onError: down.resolve,
        onThrow: arrived.reject,
      });
      ip('link', 'set', 'lo', 'down');
      const error = await down.promise;
      assert.equal(error.message, 'recvmsg(AF_PACKET): ENETDOWN: Network is down');
      assert.equal(error.stopped, false);
      ip('link', 'set', 'lo', 'up');
      const frame = new Uint8Array(42);
      frame.set([0x08, 0x06], 12);
      socket.send(frame);
      assert.deepEqual((await arrived.promise)[0].bytes, frame);
      socket.close();
    `);
  });

  it('a packet socket on an interface that is not there is refused with its index', () => {
    runInNamespace(`
      const socket = new RawSocket(c.AF_PACKET, c.SOCK_RAW, ethernetProtocol(c.ETH_P_ARP));
      assert.throws(() => socket.bind(sockaddrPacket(77, c.ETH_P_ARP)), {
        message: 'bind(AF_PACKET, ifindex=77, protocol=0x0806): ENODEV: No such device',
      });
      socket.close();
    `);
  });

  it('raw ICMPv6 carries the hop limit, and ICMPV6_FILTER keeps the other types away', () => {
    runInNamespace(`
      const loopback = Uint8Array.from([...new Uint8Array(15), 1]);
      const open = () => new RawSocket(c.AF_INET6, c.SOCK_RAW, c.IPPROTO_ICMPV6);
      const receiver = open();
      const only = new Uint8Array(32).fill(0xff);
      only[136 >> 3] &= ~(1 << (136 & 7)); // neighbour advertisement
      receiver.setOption(c.IPPROTO_ICMPV6, c.ICMPV6_FILTER, only);
      receiver.setOption(c.IPPROTO_IPV6, c.IPV6_RECVHOPLIMIT, 1);
      const sender = open();
      sender.setOption(c.IPPROTO_IPV6, c.IPV6_UNICAST_HOPS, 255);
      const packet = (type) => Uint8Array.from([type, ...new Uint8Array(23)]);
      for (const type of [128, 135, 136]) sender.send(packet(type), sockaddrInet6(loopback, 0));
      const [datagram] = await receive(receiver, 1);
      assert.equal(datagram.bytes[0], 136);
      assert.equal(datagram.hopLimit, 255);
      assert.deepEqual(parseSockaddrInet6(datagram.sender).address, loopback);
      process.exit(0);
    `);
  });

  it('without privilege the error says what was tried', () => {
    runInNamespace(`
      process.setuid(65534);
      assert.throws(() => new RawSocket(c.AF_PACKET, c.SOCK_RAW, ethernetProtocol(c.ETH_P_ARP)), {
        message: 'socket(AF_PACKET, SOCK_RAW, protocol=0x0806): EPERM: Operation not permitted',
      });
    `);
  });
});
