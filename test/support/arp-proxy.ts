import { readFileSync } from 'node:fs';
import { decodeArp, encodeArp } from '../../src/iface/arp-codec.ts';
import type { Mac } from '../../src/iface/types.ts';
import {
  AF_PACKET,
  ETH_P_ARP,
  PACKET_IGNORE_OUTGOING,
  SOCK_RAW,
  SOL_PACKET,
} from '../../src/sys/constants.ts';
import { sockaddrPacket } from '../../src/sys/sockaddr.ts';
import { RawSocket } from '../../src/sys/socket.ts';

/**
 * A program for a host of the lab: `node arp-proxy.ts <ip> <mac>`. Answers every question for the address with that MAC,
 * until it is killed: what a switch that suppresses ARP (RFC 9161) does for a host that has gone.
 */

const [ip = '', mac = ''] = process.argv.slice(2);
const NIC = 'eth0';
const ifIndex = Number(readFileSync(`/sys/class/net/${NIC}/ifindex`, 'utf8'));

const socket = new RawSocket(AF_PACKET, SOCK_RAW, 0);
socket.setOption(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
socket.bind(sockaddrPacket(ifIndex, ETH_P_ARP));

function answer(frame: Uint8Array): void {
  const asked = decodeArp(frame);
  if (!asked.ok || asked.value.operation !== 'request' || asked.value.targetIp !== ip) return;
  const { senderMac, senderIp } = asked.value;
  if (senderIp === ip) return;
  const bytes = encodeArp({
    kind: 'arp',
    operation: 'reply',
    ethernetSource: mac as Mac,
    ethernetDestination: senderMac,
    senderMac: mac as Mac,
    senderIp: asked.value.targetIp,
    targetMac: senderMac,
    targetIp: senderIp,
  });
  socket.sendMany([{ bytes }]);
}

socket.startPolling({
  onDatagrams: (datagrams) => {
    for (const { bytes } of datagrams) answer(bytes);
  },
  onError: (error) => process.stderr.write(`${error}\n`),
  onThrow: (thrown) => {
    throw thrown;
  },
});
process.stdout.write('answering\n');
