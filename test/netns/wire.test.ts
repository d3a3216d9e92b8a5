import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import {
  type ArpMessage,
  encodeArpAnnouncement,
  encodeArpProbe,
  encodeArpRequest,
} from '../../src/iface/arp-codec.ts';
import { requestFrame, unicastProbeFrame } from '../../src/iface/frames.ts';
import { Wire } from '../../src/iface/io/wire.ts';
import { encodeNaAnnouncement, encodeNsProbe, type NdMessage } from '../../src/iface/nd-codec.ts';
import type { IfIndex, Mac } from '../../src/iface/types.ts';
import { claimOf } from '../../src/iface/wire-claims.ts';
import type { Ip } from '../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../src/lib/logger.ts';
import { seededRandom } from '../../src/lib/prng.ts';
import { bootTimeMs } from '../../src/sys/clock.ts';
import { AF_PACKET, ETH_P_ARP, SOCK_RAW } from '../../src/sys/constants.ts';
import { sockaddrPacket } from '../../src/sys/sockaddr.ts';
import { RawSocket } from '../../src/sys/socket.ts';
import { waitFor } from '../support/wait.ts';
import { enterOwnNamespace, indexOf, ip, type OtherHost, SKIP, startOtherHost } from './own-namespace.ts';

enterOwnNamespace(import.meta.filename);

const OPTIONS = { skip: SKIP, timeout: 60_000 };
const OUR_MAC = '02:00:00:00:00:01' as Mac;
const THEIR_MAC = '02:00:00:00:00:02' as Mac;

/** nic0 here and nic0 on another host, one cable; gone after the test. */
async function makeCable(t: TestContext): Promise<{ readonly nic: IfIndex; readonly other: OtherHost }> {
  const other = await startOtherHost();
  t.after(() => spawnSync('ip', ['link', 'del', 'nic0']));
  layCable(other);
  return { nic: indexOf('nic0'), other };
}

function layCable(other: OtherHost, ...index: readonly string[]): void {
  ip(
    ['link add nic0', ...index, `address ${OUR_MAC} type veth peer name peer0 address ${THEIR_MAC}`].join(
      ' ',
    ),
  );
  ip(`link set peer0 netns ${other.pid}`);
  ip('link set nic0 up');
  ip('addr add 192.0.2.1/24 dev nic0');
  ip('addr add 2001:db8::1/64 dev nic0 nodad');
  other.ip('link set peer0 up');
  other.ip('addr add 192.0.2.2/24 dev peer0');
  other.ip('addr add 2001:db8::2/64 dev peer0 nodad');
}

type Heard = { readonly ifIndex: IfIndex; readonly message: ArpMessage | NdMessage; readonly at: number };

function open(t: TestContext): { readonly wire: Wire; readonly heard: Heard[] } {
  const heard: Heard[] = [];
  const onFrame = (ifIndex: IfIndex, message: ArpMessage | NdMessage, at: number) =>
    heard.push({ ifIndex, message, at });
  const wire = new Wire({ logger: SILENT_LOGGER, onFrame });
  t.after(() => wire.close());
  return { wire, heard };
}

function claims(heard: readonly Heard[]): readonly string[] {
  return heard.map(({ message }) => {
    const { ip: address, mac, kind } = claimOf(message);
    return `${mac} ${kind} ${address}`;
  });
}

test('a probe is answered by the host that has the address, in both families', OPTIONS, async (t) => {
  const { nic } = await makeCable(t);
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  const before = bootTimeMs();
  const frames = [encodeArpProbe(OUR_MAC, '192.0.2.2' as Ip), encodeNsProbe(OUR_MAC, '2001:db8::2' as Ip)];
  assert.deepEqual(wire.send(nic, frames), { sent: 2, unsent: [] });
  const expected = [`${THEIR_MAC} has 192.0.2.2`, `${THEIR_MAC} has 2001:db8::2`];
  await waitFor(() => expected.every((claim) => claims(heard).includes(claim)), { describe: 'both answers' });
  assert.ok(heard.every((each) => each.ifIndex === nic && each.at >= before && each.at <= bootTimeMs()));
  assert.equal(wire.counters().sent, 2);
});

test(
  'a host asked by unicast answers by unicast, for what it has alone, in both families',
  OPTIONS,
  async (t) => {
    const { nic, other } = await makeCable(t);
    const { wire, heard } = open(t);
    wire.watch(nic, OUR_MAC);
    other.ip('addr add 192.0.2.10/32 dev peer0 noprefixroute');
    other.ip('addr add 2001:db8::10/128 dev peer0 nodad noprefixroute');
    const ours = '2001:db8::1' as Ip;
    const asked = ['192.0.2.10', '192.0.2.2', '2001:db8::10', '2001:db8::2'] as unknown as readonly Ip[];
    const ask = (ips: readonly Ip[]) =>
      wire.send(
        nic,
        ips.map((each) => unicastProbeFrame(OUR_MAC, each, THEIR_MAC, ours)),
      );
    ask(asked);
    const has = (address: string) => `${THEIR_MAC} has ${address}`;
    await waitFor(() => asked.every((each) => claims(heard).includes(has(each))), {
      describe: 'four answers',
    });
    const answers = heard.filter(({ message }) => asked.includes(claimOf(message).ip));
    assert.deepEqual([...new Set(answers.map(({ message }) => message.ethernetDestination))], [OUR_MAC]);

    other.ip('addr del 192.0.2.10/32 dev peer0');
    other.ip('addr del 2001:db8::10/128 dev peer0');
    heard.length = 0;
    ask(asked);
    await waitFor(() => claims(heard).filter((claim) => /::2$|\.2$/.test(claim)).length >= 2, {
      describe: 'answers for the addresses that are still there',
    });
    assert.ok(!claims(heard).some((claim) => claim.endsWith('10')), claims(heard).join());
  },
);

test('a request from the host’s own address is answered, as a gateway’s is', OPTIONS, async (t) => {
  const { nic } = await makeCable(t);
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  wire.send(nic, [
    requestFrame(OUR_MAC, '192.0.2.1' as Ip, '192.0.2.2' as Ip),
    requestFrame(OUR_MAC, '2001:db8::1' as Ip, '2001:db8::2' as Ip),
  ]);
  const expected = [`${THEIR_MAC} has 192.0.2.2`, `${THEIR_MAC} has 2001:db8::2`];
  await waitFor(() => expected.every((claim) => claims(heard).includes(claim)), {
    describe: 'both answers',
  });
});

test('a probe of another host is heard, one’s own frames are not', OPTIONS, async (t) => {
  const { nic, other } = await makeCable(t);
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  wire.send(nic, [encodeArpProbe(OUR_MAC, '192.0.2.77' as Ip)]);
  other.ip('addr add 2001:db8::99/64 dev peer0');
  // Neighbour discovery of an address that nobody here has goes to a group that this NIC need not be in: veth hears all.
  await waitFor(() => claims(heard).includes(`${THEIR_MAC} wants 2001:db8::99`), { describe: 'its probe' });
  assert.ok(!claims(heard).some((claim) => claim.startsWith(OUR_MAC)));
});

test('announcements put the address into the neighbour’s cache at our MAC', OPTIONS, async (t) => {
  const { nic, other } = await makeCable(t);
  const { wire } = open(t);
  wire.watch(nic, OUR_MAC);
  // Somebody else had both: what an announcement is for.
  for (const address of ['192.0.2.10', '2001:db8::10']) {
    other.ip(`neigh add ${address} lladdr 02:00:00:00:00:99 dev peer0 nud stale`);
  }
  const neighbours = () => other.ip('neigh show dev peer0');
  const at = (address: string) => neighbours().match(new RegExp(`^${address} lladdr (\\S+)`, 'm'))?.[1];
  wire.send(nic, [
    encodeArpAnnouncement(OUR_MAC, '192.0.2.10' as Ip, 'request'),
    encodeArpAnnouncement(OUR_MAC, '192.0.2.10' as Ip, 'reply'),
    encodeNaAnnouncement(OUR_MAC, '2001:db8::10' as Ip),
  ]);
  await waitFor(() => at('192.0.2.10') === OUR_MAC && at('2001:db8::10') === OUR_MAC, {
    describe: 'the neighbour to believe it',
  });
});

test('a NIC that goes down and comes back is heard again', OPTIONS, async (t) => {
  const { nic } = await makeCable(t);
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  ip('link set nic0 down');
  const probe = [encodeArpProbe(OUR_MAC, '192.0.2.2' as Ip)];
  const down = wire.send(nic, probe);
  assert.deepEqual([down.sent, down.unsent, down.error], [0, [0], 'sendmmsg: ENETDOWN']);
  ip('link set nic0 up');
  await waitFor(
    () => {
      wire.send(nic, probe);
      return claims(heard).includes(`${THEIR_MAC} has 192.0.2.2`);
    },
    { describe: 'an answer after the NIC came back' },
  );
});

test('a NIC that was watched while down is heard when it comes up', OPTIONS, async (t) => {
  const { nic } = await makeCable(t);
  ip('link set nic0 down');
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  ip('link set nic0 up');
  await waitFor(
    () => wire.send(nic, [encodeArpProbe(OUR_MAC, '192.0.2.2' as Ip)]).sent === 1 && heard.length > 0,
    { describe: 'an answer' },
  );
});

test('a NIC that goes and comes back under its index is heard again by itself', OPTIONS, async (t) => {
  const { nic, other } = await makeCable(t);
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  ip('link del nic0');
  const probe = [encodeArpProbe(OUR_MAC, '192.0.2.2' as Ip)];
  await waitFor(() => wire.send(nic, probe).error !== undefined, { describe: 'an error' });
  layCable(other, 'index', String(nic));
  assert.equal(indexOf('nic0'), nic);
  await waitFor(() => wire.send(nic, probe).sent === 1 && heard.length > 0, { describe: 'an answer' });
});

test('send() on a NIC that is absent or not watched drops and says why', OPTIONS, async (t) => {
  const { wire } = open(t);
  const frame = encodeArpProbe(OUR_MAC, '192.0.2.2' as Ip);
  const absent = 99_999 as IfIndex;
  assert.deepEqual(wire.send(absent, [frame]), {
    sent: 0,
    unsent: [0],
    error: 'interface 99999 is not watched',
  });
  wire.watch(absent, OUR_MAC);
  assert.match(wire.send(absent, [frame]).error ?? '', /^bind\(.*\): ENODEV/);
  assert.equal(wire.counters().unsent, 2);
  wire.unwatch(absent);
  wire.unwatch(absent);
});

test('hostile frames are counted by reason and harm nothing', OPTIONS, async (t) => {
  ip('link add nic0 type veth peer name peer0');
  t.after(() => ip('link del nic0'));
  ip(`link set nic0 address ${OUR_MAC} up`);
  ip(`link set peer0 address ${THEIR_MAC} up`);
  const nic = indexOf('nic0');
  const { wire, heard } = open(t);
  wire.watch(nic, OUR_MAC);
  const sender = new RawSocket(AF_PACKET, SOCK_RAW, 0);
  t.after(() => sender.close());
  sender.bind(sockaddrPacket(indexOf('peer0'), ETH_P_ARP));
  const random = seededRandom(1);
  const samples = [
    encodeArpRequest(THEIR_MAC, '192.0.2.66' as Ip, '192.0.2.1' as Ip),
    encodeNaAnnouncement(THEIR_MAC, '2001:db8::66' as Ip),
    encodeNsProbe(THEIR_MAC, '2001:db8::66' as Ip),
  ];
  for (let round = 0; round < 50; round++) {
    const batch = Array.from({ length: 100 }, (_, at) => {
      const frame = Uint8Array.from(samples[at % samples.length] ?? []);
      for (let change = 0; change < 4; change++) {
        // Not the EtherType: the frame is to arrive.
        frame[14 + Math.floor(random() * (frame.length - 14))] = Math.floor(random() * 256);
      }
      return { bytes: frame.subarray(0, 14 + Math.floor(random() * (frame.length - 13))) };
    });
    sender.sendMany(batch);
    await new Promise((resolve) => setImmediate(resolve));
  }
  sender.send(encodeArpRequest(THEIR_MAC, '192.0.2.67' as Ip, '192.0.2.1' as Ip));
  await waitFor(() => claims(heard).includes(`${THEIR_MAC} has 192.0.2.67`), { describe: 'a good frame' });
  const { refused } = wire.counters();
  const count = Object.values(refused).reduce((sum, each) => sum + each, 0);
  assert.ok(count > 1_000, JSON.stringify(refused));
  assert.ok((refused.truncated ?? 0) > 0 && (refused['bad-checksum'] ?? 0) > 0, JSON.stringify(refused));
});

test('frames of VLANs that the host does not have are nobody’s here', OPTIONS, async (t) => {
  ip('link add nic0 type veth peer name peer0');
  t.after(() => ip('link del nic0'));
  ip(`link set nic0 address ${OUR_MAC} up`);
  ip(`link set peer0 address ${THEIR_MAC} up`);
  const { wire, heard } = open(t);
  wire.watch(indexOf('nic0'), OUR_MAC);
  const sender = new RawSocket(AF_PACKET, SOCK_RAW, 0);
  t.after(() => sender.close());
  sender.bind(sockaddrPacket(indexOf('peer0'), ETH_P_ARP));
  const claim = (number: number) => [
    encodeArpAnnouncement(THEIR_MAC, `192.0.2.${number}` as Ip, 'request'),
    encodeNaAnnouncement(THEIR_MAC, `2001:db8::${number}` as Ip),
  ];
  for (const frame of claim(66)) {
    const toUs = Uint8Array.from(frame);
    toUs.set([2, 0, 0, 0, 0, 1]);
    for (const each of [frame, toUs]) sender.send(tagged(each, 100));
  }
  for (const frame of claim(67)) sender.send(tagged(frame, 0));
  for (const frame of claim(68)) sender.send(frame);
  const expected = ['192.0.2.67', '2001:db8::67', '192.0.2.68', '2001:db8::68'].map(
    (address) => `${THEIR_MAC} has ${address}`,
  );
  await waitFor(() => expected.every((each) => claims(heard).includes(each)), {
    describe: 'what has a priority only, and what has no tag',
  });
  assert.deepEqual(
    claims(heard).filter((each) => each.endsWith('66')),
    [],
  );
});

/** With a tag of IEEE 802.1Q for that VLAN, of priority 5. */
function tagged(frame: Uint8Array, vlan: number): Uint8Array {
  const tag = [0x81, 0x00, 0xa0 | (vlan >> 8), vlan & 0xff];
  return Uint8Array.from([...frame.subarray(0, 12), ...tag, ...frame.subarray(12)]);
}

test('unwatch() inside onFrame ends the frames of that NIC', OPTIONS, async (t) => {
  const { nic } = await makeCable(t);
  const { wire: witness, heard } = open(t);
  witness.watch(nic, OUR_MAC);
  let count = 0;
  const wire = new Wire({
    logger: SILENT_LOGGER,
    onFrame: (ifIndex) => {
      count += 1;
      wire.unwatch(ifIndex);
    },
  });
  t.after(() => wire.close());
  wire.watch(nic, OUR_MAC);
  wire.send(nic, Array<Uint8Array>(20).fill(encodeArpProbe(OUR_MAC, '192.0.2.2' as Ip)));
  const answers = () => claims(heard).filter((claim) => claim === `${THEIR_MAC} has 192.0.2.2`);
  await waitFor(() => count > 0 && answers().length === 20, { describe: 'all answers, by another socket' });
  assert.equal(count, 1);
});
