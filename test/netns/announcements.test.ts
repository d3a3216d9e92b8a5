import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { LabHost } from '../support/lab-host.ts';
import type { Lbd } from '../support/lab-lbd.ts';
import type { LabProcess } from '../support/lab-process.ts';
import { addressOf, held, SKIP } from '../support/scenario.ts';
import { VirtualLab } from '../support/virtual-lab.ts';
import { waitFor } from '../support/wait.ts';

const SERVICES = 200;
/** Each address is announced so often when it is taken, each time in both forms. */
const SERIES = 5;
const BURST_FRAMES = 256;
const FIRST_FRAMES_PER_S = 5_000;
/** Of what clients may have heard before. */
const CORRECTION_FRAMES_PER_S = 2_000;
const VIP = '10.77.1.0';
const TOML = `[local]
announce_interval = "10s"

[[pool]]
name = "default"
addresses = ["10.77.1.0-10.77.3.255"]
`;

type Frame = { readonly atMs: number; readonly ip: string; readonly mac: string; readonly isReply: boolean };

/** What a station on the segment hears of the addresses of Services. */
describe('announcements on the segment', { skip: SKIP }, () => {
  let lab: VirtualLab;
  let h1: LabHost;
  let capture: LabProcess;
  let lbd: Lbd;

  before(async () => {
    lab = await VirtualLab.start({
      hosts: { h1: {} },
      others: { client: {} },
      segments: { lan: { v4: '10.77.0.0/16', v6: null } },
    });
    h1 = lab.host('h1');
    const tcpdump = ['tcpdump', '-i', 'eth0', '-tt', '-nle', '-B', '16384', 'arp'];
    capture = await lab.host('client').spawn(tcpdump);
    await capture.waitForLine(/listening on/);
    lbd = await lab.startLbd(h1, TOML);
  });
  after(() => lab?.close());

  /** Gratuitous ones alone: sender and target are the same address. */
  function frames(): readonly Frame[] {
    return capture.lines.flatMap(({ text }) => {
      const [, at, mac = '', request, reply] =
        /^(\d+\.\d+) (\S+) > ff:ff:ff:ff:ff:ff.*(?:who-has (\S+) .*tell \3|Reply (\S+) is-at)/.exec(text) ??
        [];
      const ip = request ?? reply;
      if (at === undefined || ip === undefined) return [];
      return [{ atMs: Number(at) * 1_000, ip: ip.replace(/[,:]$/, ''), mac, isReply: reply !== undefined }];
    });
  }

  test(`of ${SERVICES} new addresses come in both forms, ${SERIES} times each, at their pace, and are counted`, async (context) => {
    const { api } = lab.lab;
    const names = Array.from({ length: SERVICES }, (_, index) => `web-${index}`);
    for (let from = 0; from < names.length; from += 25)
      await Promise.all(names.slice(from, from + 25).map((name) => api.createService({ name })));
    const isWhole = (each: readonly Frame[]) => {
      const replies = each.filter(({ isReply }) => isReply).length;
      return replies >= SERIES && each.length - replies >= SERIES;
    };
    const told = () => Map.groupBy(frames(), ({ ip }) => ip);
    await waitFor(() => [...told().values()].filter(isWhole).length === SERVICES, {
      describe: `${SERIES} announcements of each address in both forms`,
      timeoutMs: 30_000,
      everyMs: 200,
    });
    const heard = frames();
    const most = excess(heard, FIRST_FRAMES_PER_S + 1_000);
    context.diagnostic(`${heard.length} frames; ${Math.round(most)} more than the pace at most`);
    // A burst of each lane, and one more while the station's own clock stood still.
    assert.ok(most <= 3 * BURST_FRAMES, `${most} frames beyond the pace`);
    const { addresses } = await lbd.status();
    assert.ok(addresses.every(({ announcements }) => announcements >= SERIES));
    const { stdout, stderr } = await lbd.lbctl(['addresses', '--json']);
    assert.match(stdout, /"announcements": ?[5-9]/, stderr);
  });

  test('come again with the new hardware address when the NIC has another', async () => {
    const mac = '02:00:00:00:77:01';
    const fromMs = Date.now();
    await h1.ipBatch([`link set eth0 address ${mac}`]);
    const isNew = (frame: Frame) => frame.mac === mac && frame.ip === VIP;
    const first = await waitFor(() => frames().find(isNew), { describe: `${VIP} at ${mac}` });
    assert.ok(first.atMs - fromMs < 2_000);
    await waitFor(
      () =>
        new Set(
          frames()
            .filter(({ mac: sender }) => sender === mac)
            .map(({ ip }) => ip),
        ).size === SERVICES,
      {
        describe: 'all of them',
        timeoutMs: 10_000,
      },
    );
  });

  test('come again when the NIC is up again', async () => {
    await held(lbd, VIP);
    await h1.linkDown();
    await waitFor(async () => addressOf(await lbd.status(), VIP)?.state !== 'held', {
      describe: 'the NIC to be down',
    });
    const count = frames().length;
    await h1.linkUp();
    await waitFor(
      () =>
        frames()
          .slice(count)
          .some(({ ip }) => ip === VIP),
      {
        describe: `${VIP} to be announced`,
        timeoutMs: 10_000,
      },
    );
  });

  test('come again after an interval, where that is asked for', async () => {
    await held(lbd, VIP);
    const mine = () => frames().filter(({ ip }) => ip === VIP);
    // The series is over when it has been silent for longer than any of its pauses.
    const last = () => mine().at(-1)?.atMs ?? 0;
    await waitFor(() => Date.now() - last() > 2_500, { describe: 'silence', timeoutMs: 15_000 });
    const endMs = last();
    await waitFor(() => last() > endMs, { describe: 'the next', timeoutMs: 15_000 });
    const next = mine().find(({ atMs }) => atMs > endMs);
    const pauseMs = (next?.atMs ?? 0) - endMs;
    assert.ok(pauseMs > 9_500 && pauseMs < 14_000, `${pauseMs} ms`);
  });

  test('that the NIC does not take are counted as frames unsent, and made when it takes them again', async () => {
    const { announcements: before } = await held(lbd, VIP);
    const counted = async () => addressOf(await lbd.status(), VIP);
    await h1.run(['tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', 'pfifo', 'limit', '0']);
    await h1.ipBatch(['link set eth0 address 02:00:00:00:77:03']);
    await waitFor(async () => ((await counted())?.unsentFrames ?? 0) >= 2 * SERIES, {
      describe: `${SERIES} announcements in both forms not to leave`,
      timeoutMs: 10_000,
    });
    assert.equal((await counted())?.announcements, before);
    const { stdout } = await lbd.lbctl(['addresses']);
    assert.match(stdout, new RegExp(`^${VIP}/32 .* ${before} \\(\\d+ frames unsent\\) `, 'm'));
    await h1.run(['tc', 'qdisc', 'delete', 'dev', 'eth0', 'root']);
    const isNew = (frame: Frame) => frame.mac === '02:00:00:00:77:03' && frame.ip === VIP;
    await waitFor(() => frames().filter(isNew).length >= 2, { describe: 'both forms', timeoutMs: 3_000 });
    await waitFor(async () => ((await counted())?.announcements ?? 0) > before, { describe: 'the count' });
  });

  test('come at their pace, with the new hardware address, for what an earlier life left on a NIC that got another since', async (context) => {
    await held(lbd, VIP);
    await lbd.stop('SIGKILL');
    const mac = '02:00:00:00:77:02';
    await h1.ipBatch([`link set eth0 address ${mac}`]);
    const client = lab.host('client');
    const old = ['lladdr', '02:00:00:00:77:01', 'dev', 'eth0', 'nud', 'stale'];
    await client.run(['ip', 'neigh', 'replace', VIP, ...old]);
    lbd = await lab.startLbd(h1, TOML);
    const heard = () => frames().filter((frame) => frame.mac === mac);
    const forms = () => new Set(heard().map(({ ip, isReply }) => `${ip} ${isReply}`));
    await waitFor(() => forms().size === 2 * SERVICES, { describe: 'all of them', timeoutMs: 20_000 });
    const most = excess(heard(), CORRECTION_FRAMES_PER_S);
    context.diagnostic(`${heard().length} frames; ${Math.round(most)} more than the pace at most`);
    assert.ok(most <= 1.3 * BURST_FRAMES, `${most} frames beyond the pace`);
    const { stdout } = await client.run(['ip', 'neigh', 'show', VIP]);
    assert.match(stdout, new RegExp(`lladdr ${mac}`), 'a client that knew it by the old one');
    const { addresses } = await lbd.status();
    assert.ok(
      addresses.every(({ announcements, heldSinceMs }) => announcements > 0 && heldSinceMs !== undefined),
    );
  });
});

/** How many frames more there were at some time than a pace allows. */
function excess(heard: readonly Frame[], framesPerS: number): number {
  let level = 0;
  let before = Number.NEGATIVE_INFINITY;
  let most = 0;
  for (const { atMs } of heard) {
    level = Math.max(0, level - ((atMs - before) * framesPerS) / 1_000) + 1;
    before = atMs;
    most = Math.max(most, level);
  }
  return most;
}
