import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ArpMessage, decodeArp } from '../../../src/iface/arp-codec.ts';
import {
  announcementFrames,
  probeFrame,
  requestFrame,
  unicastProbeFrame,
} from '../../../src/iface/frames.ts';
import { MAC_BROADCAST, MAC_ZERO } from '../../../src/iface/mac.ts';
import { decodeNd, type NdMessage } from '../../../src/iface/nd-codec.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { claimOf } from '../../../src/iface/wire-claims.ts';
import type { Ip } from '../../../src/lib/ip.ts';

const MINE = '02:00:00:00:00:02' as Mac;
const V4 = '192.0.2.10' as Ip;
const V6 = '2001:db8::10:2030' as Ip;

function arp(frame: Uint8Array | undefined): ArpMessage {
  const decoded = decodeArp(frame ?? new Uint8Array());
  assert.ok(decoded.ok, JSON.stringify(decoded));
  return decoded.value;
}

function nd(frame: Uint8Array | undefined): NdMessage {
  const decoded = decodeNd(frame ?? new Uint8Array());
  assert.ok(decoded.ok, JSON.stringify(decoded));
  return decoded.value;
}

test('a v4 probe asks with the sender 0.0.0.0, so that it changes no cache (RFC 5227 2.1.1)', () => {
  assert.deepEqual(arp(probeFrame(MINE, V4)), {
    kind: 'arp',
    operation: 'request',
    ethernetSource: MINE,
    ethernetDestination: MAC_BROADCAST,
    senderMac: MINE,
    senderIp: '0.0.0.0',
    targetMac: MAC_ZERO,
    targetIp: V4,
  });
});

test('a v6 probe solicits from :: to the solicited-node group, without a link-layer option (RFC 4862 5.4.2)', () => {
  const probe = nd(probeFrame(MINE, V6));
  assert.equal(probe.type, 'solicitation');
  assert.equal(probe.sourceIp, '::');
  assert.equal(probe.destinationIp, 'ff02::1:ff10:2030');
  assert.equal(probe.ethernetDestination, '33:33:ff:10:20:30');
  assert.equal(probe.target, V6);
  assert.equal(probe.linkLayer, undefined);
});

test('a v4 announcement is gratuitous ARP in both forms', () => {
  const frames = announcementFrames(MINE, V4);
  assert.deepEqual(
    frames.map((frame) => arp(frame).operation),
    ['request', 'reply'],
  );
  for (const frame of frames) {
    const message = arp(frame);
    assert.deepEqual([message.senderMac, message.senderIp, message.targetIp], [MINE, V4, V4]);
    assert.deepEqual([message.ethernetSource, message.ethernetDestination], [MINE, MAC_BROADCAST]);
  }
});

test('a v6 announcement is one unsolicited NA that overrides, to all nodes (RFC 4861 7.2.6)', () => {
  const frames = announcementFrames(MINE, V6);
  assert.equal(frames.length, 1);
  const message = nd(frames[0]);
  assert.equal(message.type, 'advertisement');
  assert.equal(message.destinationIp, 'ff02::1');
  assert.equal(message.ethernetDestination, '33:33:00:00:00:01');
  assert.deepEqual([message.target, message.linkLayer, message.sourceIp], [V6, MINE, V6]);
  assert.deepEqual([message.override, message.solicited, message.router], [true, false, false]);
});

test('what a probe says is "wants", what an announcement says is "has", of this MAC and address', () => {
  assert.deepEqual(claimOf(arp(probeFrame(MINE, V4))), { ip: V4, mac: MINE, kind: 'wants' });
  assert.deepEqual(claimOf(nd(probeFrame(MINE, V6))), { ip: V6, mac: MINE, kind: 'wants' });
  for (const frame of announcementFrames(MINE, V4)) {
    assert.deepEqual(claimOf(arp(frame)), { ip: V4, mac: MINE, kind: 'has' });
  }
  assert.deepEqual(claimOf(nd(announcementFrames(MINE, V6)[0])), { ip: V6, mac: MINE, kind: 'has' });
});

const THEIRS = '02:00:00:00:00:03' as Mac;

test('a v4 unicast probe differs from a probe in nothing but whom it goes to', () => {
  const probe = arp(unicastProbeFrame(MINE, V4, THEIRS, '192.0.2.2' as Ip));
  assert.deepEqual(probe, { ...arp(probeFrame(MINE, V4)), ethernetDestination: THEIRS });
});

test('a v6 unicast probe asks from the own address, so that the answer goes to nobody else', () => {
  const source = '2001:db8::2' as Ip;
  const probe = nd(unicastProbeFrame(MINE, V6, THEIRS, source));
  assert.deepEqual([probe.sourceIp, probe.linkLayer, probe.target], [source, MINE, V6]);
  assert.deepEqual([probe.ethernetDestination, probe.destinationIp], [THEIRS, 'ff02::1:ff10:2030']);
  const anonymous = nd(unicastProbeFrame(MINE, V6, THEIRS, undefined));
  assert.deepEqual(anonymous, { ...nd(probeFrame(MINE, V6)), ethernetDestination: THEIRS });
});

test('a request asks everybody, from the own address', () => {
  const request = arp(requestFrame(MINE, '192.0.2.2' as Ip, V4));
  assert.deepEqual(
    [request.senderIp, request.targetIp, request.ethernetDestination],
    ['192.0.2.2', V4, MAC_BROADCAST],
  );
  const solicitation = nd(requestFrame(MINE, '2001:db8::2' as Ip, V6));
  assert.deepEqual(
    [solicitation.sourceIp, solicitation.ethernetDestination],
    ['2001:db8::2', '33:33:ff:10:20:30'],
  );
});
