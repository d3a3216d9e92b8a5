import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { isFromKernel, openNotificationSocket } from '../../src/iface/io/netlink-socket.ts';
import { decodeDatagram, type NetlinkMessage } from '../../src/iface/netlink-codec.ts';
import { formatPrefix } from '../../src/lib/ip.ts';
import { parseSockaddrNetlink } from '../../src/sys/sockaddr.ts';

/**
 * Follows what the kernel says about links, addresses and the main table's routes of this host, and for each line on its
 * standard input prints who asked for what since the last one, as JSON: `[{ port, text }]`, of those ports that are open
 * now. A daemon's port stays open; those of `ip` are gone by then. The kernel names nobody for v6 addresses.
 */

type Change = { readonly port: number; readonly text: string };

const BUFFER_BYTES = 16 * 1024 * 1024;

let changes: Change[] = [];
const names = new Map<number, string>();
const socket = openNotificationSocket(BUFFER_BYTES);
const own = parseSockaddrNetlink(socket.localAddress())?.pid;
socket.startPolling({
  onDatagrams: (datagrams) => {
    for (const datagram of datagrams)
      if (isFromKernel(datagram))
        for (const message of decodeDatagram(datagram.bytes).messages) take(message);
  },
  onThrow: (thrown) => {
    throw thrown;
  },
});

function take(message: NetlinkMessage): void {
  const { portId: port } = message;
  if (message.kind === 'link') names.set(message.link.index, message.link.name);
  if (port === 0) return;
  for (const text of textsOf(message)) changes.push({ port, text });
}

function textsOf(message: NetlinkMessage): readonly string[] {
  switch (message.kind) {
    case 'link':
      return [`${message.event} link ${message.link.name}`];
    case 'address': {
      const { ip, prefixLength } = message.address;
      return [`${message.event} address ${ip}/${prefixLength}`];
    }
    case 'route':
      return message.routes.map(({ destination }) => `${message.event} route ${formatPrefix(destination)}`);
    default:
      return [];
  }
}

function openPorts(): ReadonlySet<number> {
  const lines = readFileSync('/proc/net/netlink', 'utf8').split('\n').slice(1);
  const ports = lines.map((line) => line.trim().split(/\s+/)).filter(([, protocol]) => protocol === '0');
  return new Set(ports.map(([, , port]) => Number(port)).filter((port) => port !== own));
}

for await (const _ of createInterface({ input: process.stdin })) {
  const open = openPorts();
  process.stdout.write(`${JSON.stringify(changes.filter(({ port }) => open.has(port)))}\n`);
  changes = [];
}
socket.close();
