import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { decodeArp, encodeArpRequest } from '../../src/iface/arp-codec.ts';
import { decodeNd, encodeNsRequest } from '../../src/iface/nd-codec.ts';
import type { Mac } from '../../src/iface/types.ts';
import { familyOf, type Ip } from '../../src/lib/ip.ts';
import { realTimeMs } from '../../src/sys/clock.ts';
import {
  AF_PACKET,
  ETH_P_ARP,
  ETH_P_IPV6,
  IPPROTO_ICMPV6,
  PACKET_IGNORE_OUTGOING,
  SO_RCVBUFFORCE,
  SO_TIMESTAMPNS,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
} from '../../src/sys/constants.ts';
import { sockaddrPacket } from '../../src/sys/sockaddr.ts';
import { type Datagram, RawSocket } from '../../src/sys/socket.ts';
import { labTimeMs } from './lab-time.ts';
import type { ProberReport, ProberTask, SeenKind } from './prober.ts';

/**
 * `node prober-agent.ts TASK` (JSON): inside a lab host, asks who has each address, every so many milliseconds, and
 * reports who answers, with the kernel's timestamps; and what else of ARP and neighbour discovery goes by. One JSON
 * line each; addresses that come as JSON arrays on standard input are asked for from then on.
 */

const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
/** In ICMPv6 over Ethernet without extension headers: the next header field. */
const NEXT_HEADER_OFFSET = 20;
/** Above what it measures, or a busy machine makes gaps that nobody else sees. */
const PRIORITY = -10;

const task = JSON.parse(process.argv[2] ?? '') as ProberTask;
const mac = task.mac as Mac;
const ifIndex = Number(readFileSync(`/sys/class/net/${task.nic}/ifindex`, 'utf8'));
const asked = new Set<Ip>();
let frames: { arp: { bytes: Uint8Array }[]; nd: { bytes: Uint8Array }[] } = { arp: [], nd: [] };
let probe = -1;
let sentAtMs = labTimeMs();

function report(message: ProberReport): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function ask(addresses: readonly Ip[]): void {
  for (const ip of addresses) asked.add(ip);
  const arp: { bytes: Uint8Array }[] = [];
  const nd: { bytes: Uint8Array }[] = [];
  for (const ip of asked) {
    if (familyOf(ip) === 'v4') arp.push({ bytes: encodeArpRequest(mac, sourceOf('v4'), ip) });
    else nd.push({ bytes: encodeNsRequest(mac, sourceOf('v6'), ip) });
  }
  frames = { arp, nd };
}

function sourceOf(family: 'v4' | 'v6'): Ip {
  const source = task.sources[family];
  if (source === undefined) throw new Error(`${task.nic} has no ${family} address to ask from`);
  return source as Ip;
}

function open(protocol: number, onDatagram: (datagram: Datagram, atMs: number) => void): RawSocket {
  const socket = new RawSocket(AF_PACKET, SOCK_RAW, 0);
  socket.setOption(SOL_SOCKET, SO_TIMESTAMPNS, 1);
  socket.setOption(SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES);
  socket.setOption(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
  socket.bind(sockaddrPacket(ifIndex, protocol));
  socket.startPolling({
    onDatagrams: (datagrams) => {
      const realToLab = labTimeMs() - realTimeMs();
      for (const datagram of datagrams) {
        onDatagram(datagram, (datagram.timestampMs ?? realTimeMs()) + realToLab);
      }
      flush();
    },
    onError: (error) => report({ kind: 'error', text: String(error) }),
    onThrow: (thrown) => {
      throw thrown;
    },
  });
  return socket;
}

let answers: [atMs: number, ip: string, mac: string, probe: number, sentAtMs: number][] = [];
let seen: [atMs: number, kind: SeenKind, ip: string, mac: string][] = [];

function flush(): void {
  if (answers.length > 0) report({ kind: 'answers', list: answers });
  if (seen.length > 0) report({ kind: 'seen', list: seen });
  answers = [];
  seen = [];
}

/** An answer may be older than the question that was sent while it waited to be read. */
const sent: { probe: number; atMs: number }[] = [];

function answered(atMs: number, ip: Ip, from: Mac): void {
  const question = sent.findLast((candidate) => candidate.atMs <= atMs) ?? { probe, atMs: sentAtMs };
  answers.push([atMs, ip, from, question.probe, question.atMs]);
}

function takeArp(datagram: Datagram, atMs: number): void {
  const decoded = decodeArp(datagram.bytes);
  if (!decoded.ok) return;
  const { operation, senderIp, senderMac, targetIp, ethernetDestination } = decoded.value;
  if (operation === 'reply' && ethernetDestination === mac && asked.has(senderIp)) {
    answered(atMs, senderIp, senderMac);
  } else if (senderIp === targetIp) {
    seen.push([
      atMs,
      operation === 'request' ? 'arp-announcement' : 'arp-announcement-reply',
      senderIp,
      senderMac,
    ]);
  } else if (operation === 'request') {
    seen.push([atMs, senderIp === '0.0.0.0' ? 'arp-probe' : 'arp-request', targetIp, senderMac]);
  }
}

function takeNd(datagram: Datagram, atMs: number): void {
  if (datagram.bytes[NEXT_HEADER_OFFSET] !== IPPROTO_ICMPV6) return;
  const decoded = decodeNd(datagram.bytes);
  if (!decoded.ok) return;
  const { type, target, linkLayer, ethernetSource, ethernetDestination, solicited, sourceIp } = decoded.value;
  const from = linkLayer ?? ethernetSource;
  if (type === 'solicitation') {
    seen.push([atMs, sourceIp === '::' ? 'ns-probe' : 'ns-request', target, ethernetSource]);
  } else if (solicited && ethernetDestination === mac && asked.has(target)) {
    answered(atMs, target, from);
  } else if (!solicited) {
    seen.push([atMs, 'na-unsolicited', target, from]);
  }
}

const arpSocket = open(ETH_P_ARP, takeArp);
const ndSocket = open(ETH_P_IPV6, takeNd);
const REMEMBERED_PROBES = 1_000;

function sendProbes(): void {
  const now = labTimeMs();
  if (probe >= 0 && now - sentAtMs > 2 * task.intervalMs + 2) {
    report({ kind: 'late', fromMs: sentAtMs, toMs: now });
  }
  probe += 1;
  sentAtMs = now;
  sent.push({ probe, atMs: now });
  if (sent.length > REMEMBERED_PROBES) sent.splice(0, REMEMBERED_PROBES / 2);
  for (const [socket, batch] of [
    [arpSocket, frames.arp],
    [ndSocket, frames.nd],
  ] as const) {
    const failure = batch.length === 0 ? undefined : socket.sendMany(batch).failure;
    if (failure !== undefined) report({ kind: 'error', text: `sending probe ${probe}: ${failure}` });
  }
}

/** Keeps to the grid of the interval: what setTimeout is late with, the next wait is shorter by. */
function schedule(dueMs: number): void {
  const waitMs = dueMs - labTimeMs();
  const fire = (): void => {
    sendProbes();
    schedule(Math.max(dueMs + task.intervalMs, labTimeMs()));
  };
  if (waitMs < 0.3) setImmediate(fire);
  else setTimeout(fire, Math.floor(waitMs));
}

setPriority(PRIORITY);
ask(task.addresses as Ip[]);
createInterface({ input: process.stdin })
  .on('line', (line) => ask(JSON.parse(line)))
  .on('close', () => process.exit(0));
sendProbes();
report({ kind: 'started', atMs: sentAtMs });
schedule(sentAtMs + task.intervalMs);
