import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Lbd } from '../support/lab-lbd.ts';
import { addressOf, Scenario, SKIP } from '../support/scenario.ts';
import { sleep, waitFor } from '../support/wait.ts';

describe('a restart', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  after(() => scenario?.close());

  test('writes nothing into the kernel, and renews what is there when it is due', async () => {
    const addresses = ['10.77.0.200', 'fd77::200', '198.51.100.1', '2001:db8::1'];
    const pool = ['10.77.0.200/29', 'fd77::200/125', '198.51.100.0/29', '2001:db8::/125'];
    const isHeld = (lbd: Lbd) =>
      lbd.waitForStatus((status) => addresses.every((ip) => addressOf(status, ip)?.state === 'held'), {
        describe: 'all to be held',
        timeoutMs: 10_000,
      });
    const first = await scenario.startLbd({ pool });
    for (const [at, ip] of addresses.entries()) {
      const spec = { ipFamilies: [ip.includes(':') ? 'IPv6' : 'IPv4'] };
      await scenario.serve({ name: `web-${at}`, annotations: { 'lbd.io/addresses': ip }, spec });
    }
    await isHeld(first);
    await first.stop('SIGTERM');
    // The kernel says up to a second later that a new bridge without ports has no carrier.
    await waitFor(
      async () => {
        const { stdout } = await scenario.host.run(['ip', '-d', 'link', 'show', 'dev', 'kube-lb0']);
        return !/\bbridge\b/.test(stdout) || stdout.includes('state DOWN');
      },
      { describe: 'the state of kube-lb0 to be known' },
    );

    const monitor = await scenario.host.spawn(['ip', '-o', 'monitor', 'link', 'address', 'route']);
    await scenario.host.ipBatch(['link add marker type bridge', 'link del marker']);
    await monitor.waitForLine(/Deleted.*marker/);
    const before = monitor.lines.length;
    const second = await scenario.startLbd({ pool });
    await isHeld(second);
    await sleep(500);
    assert.deepEqual(
      monitor.lines.slice(before).map(({ text }) => text),
      [],
    );
    const text = await monitor.waitForLine(/10\.77\.0\.200/, { timeoutMs: 10_000 });
    assert.match(text, /valid_lft 30sec/);
  });
});
