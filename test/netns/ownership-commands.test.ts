import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Explanation, MembersDocument, StatusDocument } from '../../src/daemon/types.ts';
import { Cluster } from '../support/cluster.ts';
import type { LabHost } from '../support/lab-host.ts';
import type { RunResult } from '../support/lab-process.ts';
import { onNic, SKIP } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

const METRICS = '[metrics]\nlisten = "127.0.0.1:7472"';

function problemsOf(status: StatusDocument): string {
  return status.problems.map(({ severity, text }) => `${severity}: ${text}`).join('\n');
}

/** What an operator types on hosts that gossip, and what it says. */
describe('commands among three hosts', { skip: SKIP }, () => {
  let cluster: Cluster;
  let first: LabHost;

  before(async () => {
    // What is tested is what is said, not how fast: on a busy machine nobody is to be taken for dead.
    cluster = await Cluster.start({ hosts: 3, toml: METRICS, gossip: 'profile = "wan"' });
    await cluster.createNodes();
    await cluster.startAll();
    first = cluster.hosts[0] ?? assert.fail();
  });
  after(() => cluster?.close());

  function lbctl(host: LabHost, ...args: readonly string[]): Promise<RunResult> {
    return cluster.lbd(host).lbctl(args, { mayFail: true });
  }

  async function shows(host: LabHost, ...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await lbctl(host, ...args);
    assert.equal(code, 0, `lbctl ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  async function explained(host: LabHost, subject: string): Promise<Explanation> {
    return JSON.parse(await shows(host, 'explain', subject, '--json'));
  }

  function problem(host: LabHost, expected: RegExp, isThere = true): Promise<StatusDocument> {
    return cluster.lbd(host).waitForStatus((status) => expected.test(problemsOf(status)) === isThere, {
      describe: `${isThere ? 'a' : 'no'} problem like ${expected} on ${host.name}`,
      timeoutMs: 15_000,
    });
  }

  test('lbctl members lists the hosts with their neighbourhood, and marks the own one', async () => {
    // A round trip is known once a neighbour was asked something.
    await cluster
      .lbd(first)
      .waitForStatus(
        ({ election }) => election?.members.every(({ isSelf, rttMs }) => isSelf || rttMs !== undefined),
        { describe: 'all round trips', timeoutMs: 10_000 },
      );
    const text = await shows(first, 'members');
    assert.match(text, /^NAME +STATE +SINCE +RTT +VERSION +CONFIG +DRAINED +ADDRESSES/);
    assert.match(text, /^h1 \(this host\) +alive +\d+\w+ +- /m);
    for (const name of ['h2', 'h3']) {
      assert.match(
        text,
        new RegExp(`^${name} +alive +\\d+\\w+ +[\\d.]+ms +\\S+ +[0-9a-f]{8} +- +\\d+$`, 'm'),
      );
    }
    assert.match(text, /^10\.77\.0\.0\/24 +10\.77\.0\.\d+ +heard +h[23], h[23]$/m);
    const { election }: MembersDocument = JSON.parse(await shows(first, 'members', '--json'));
    assert.deepEqual([election.name, election.members.length, 'owners' in election], ['h1', 3, false]);
  });

  /** The host has heard by now who has the address of the Service. */
  function announced(host: LabHost, service: string): Promise<unknown> {
    const isAnnounced = ({ services }: StatusDocument): boolean =>
      services.some(({ name, state }) => name === `default/${service}` && state === 'announced');
    return cluster
      .lbd(host)
      .waitForStatus(isAnnounced, { describe: `default/${service} announced, as ${host.name} sees it` });
  }

  test('a Service is announced on every host, by its owner', async () => {
    const { ip, owner } = await cluster.serve({ name: 'web' });
    for (const host of cluster.hosts) {
      await announced(host, 'web');
      const nic = host === owner ? 'eth0' : '-';
      assert.match(
        await shows(host, 'status'),
        new RegExp(`^default/web +${ip} +announced +${nic} +${owner.name} +1 +\\d+s +h\\d`, 'm'),
      );
      const state = host === owner ? 'announced +eth0' : 'elsewhere +-';
      assert.match(
        await shows(host, 'addresses'),
        new RegExp(`^${ip}(?:/32)? +IPv4 +local +${state} +${owner.name} .* default/web`, 'm'),
      );
    }
  });

  test('lbctl explain says why a Service has its address, and what each host has to do with it', async () => {
    const { ip, owner } = await cluster.serve({ name: 'why' });
    await announced(first, 'why');
    for (const subject of ['default/why', 'why', ip]) {
      const { services, addresses, gossips } = await explained(first, subject);
      assert.equal(gossips, true);
      assert.deepEqual(
        services.map(({ name, state, addresses: ips }) => [name, state, ips]),
        [['default/why', 'announced', [ip]]],
      );
      const [address] = addresses;
      assert.deepEqual([address?.pool, address?.owner?.owner], ['default', owner.name]);
      assert.deepEqual(
        address?.members.map(({ role }) => role),
        ['owner', 'heir', 'candidate'],
      );
      assert.equal(address?.members[0]?.name, owner.name);
    }
    const free = await shows(first, 'explain', '10.77.0.220');
    assert.match(free, /^10\.77\.0\.220, of pool "default"\n +owner +nobody +no Service has it\n/);
    const unknown = await lbctl(first, 'explain', 'default/nope');
    assert.deepEqual(
      [unknown.code, unknown.stderr],
      [1, 'lbctl: no Service "default/nope" of type LoadBalancer is known here\n'],
    );
  });

  test('a host is drained, undrained and rebalanced, and Events tell where the address went', async () => {
    const { ip, owner } = await cluster.serve({ name: 'move' });
    assert.equal(await shows(owner, 'drain', '--wait=10s'), 'this host is drained: it owns no address\n');
    assert.deepEqual((await cluster.lbd(owner).status()).addresses, []);
    const other = await cluster.ownerOf(ip, { but: [owner] });
    assert.match(await shows(other, 'members'), new RegExp(`^${owner.name} +alive .* yes +0$`, 'm'));
    assert.match(
      await shows(other, 'explain', ip),
      new RegExp(`^ +${owner.name} +may not +it is drained$`, 'm'),
    );
    // The same again changes nothing.
    assert.equal(JSON.parse(await shows(owner, 'drain', '--wait', '--json')).done, true);
    await shows(owner, 'undrain');
    await shows(owner, 'rebalance');
    await onNic(owner, ip);
    await onNic(other, ip, false);
    const events = await waitFor(
      async () => {
        const found = await cluster.lab.api.eventsOf('move');
        return found.filter((text) => text.startsWith('OwnershipChanged')).length >= 2 ? found : undefined;
      },
      { describe: 'two moves among the Events', timeoutMs: 5_000 },
    );
    assert.ok(
      events.includes(
        `OwnershipChanged: Announced ${ip} on eth0 of ${other.name}, handed over by ${owner.name}`,
      ),
      events.join('\n'),
    );
    assert.deepEqual(
      events.filter((text) => text.startsWith('AddressConflict')),
      [],
    );
  });

  test('an address that no host may have is an error with its reason, until a host may', async () => {
    await cluster.lab.api.createService({ name: 'local', spec: { externalTrafficPolicy: 'Local' } });
    const { addresses } = await cluster.lab.api.waitForAddresses('local');
    const ip = addresses[0] ?? '';
    const why = 'its externalTrafficPolicy is Local, and no node has a usable endpoint';
    await problem(first, new RegExp(`error: ${ip} has no owner: .*${why}`));
    const described = { describe: 'NoEligibleHost', timeoutMs: 5_000 };
    await waitFor(
      async () =>
        (await cluster.lab.api.eventsOf('local')).find((text) => text.startsWith(`NoEligibleHost: ${ip} `)),
      described,
    );
    const { addresses: explanations } = await explained(first, 'default/local');
    assert.deepEqual(
      explanations[0]?.members.map(({ role }) => role),
      ['ineligible', 'ineligible', 'ineligible'],
    );
    await cluster.setEndpoints('local', [first]);
    await problem(first, /has no owner/, false);
    assert.equal((await cluster.ownerOf(ip)).name, first.name);
    // Drained, its only host goes on serving it, and the one who drained it is told.
    const drained = await lbctl(first, 'drain', '--wait=2s');
    assert.equal(drained.code, 1);
    assert.match(drained.stderr, /this host drains: 1 address is still here/);
    assert.equal((await cluster.ownerOf(ip)).name, first.name);
    await shows(first, 'undrain');
    assert.equal((await cluster.ownerOf(ip)).name, first.name);
  });

  test('a pool that differs between hosts is named, and no more once it does not', async () => {
    const other = cluster.hosts[1] ?? assert.fail();
    const toml = cluster.toml(other);
    await cluster.lbd(other).reload(toml.replace('10.77.0.220', '10.77.0.219'));
    await problem(first, /warning: h2 has another configuration: pool "default" differs/);
    assert.match(await shows(first, 'members'), /^h2 .* its configuration: pool "default" differs$/m);
    await problem(other, /h1 has another configuration: pool "default" differs/);
    await cluster.lbd(other).reload(toml);
    await problem(first, /has another configuration/, false);
  });

  test('UDP that is blocked is told apart from a host that is gone', async () => {
    const other = cluster.hosts[1] ?? assert.fail();
    await using _to = await cluster.lab.segment().drop({ to: other, match: 'udp dport 7946' });
    await using _from = await cluster.lab.segment().drop({ from: other, match: 'udp dport 7946' });
    await problem(first, /h2 is heard over TCP only: UDP port 7946 is blocked between it and this host/);
  });

  test('Prometheus is told the same as status', async () => {
    await problem(first, /TCP only/, false);
    const { stdout } = await first.run(['curl', '-sf', 'http://127.0.0.1:7472/metrics']);
    const status = await cluster.lbd(first).status();
    const owned = status.election?.members.find(({ isSelf }) => isSelf)?.addresses;
    const figure = (name: string) => Number(new RegExp(`^${name} (.+)$`, 'm').exec(stdout)?.[1]);
    assert.equal(figure('lbd_members\\{state="alive"\\}'), 3);
    assert.equal(figure('lbd_owned_addresses'), owned);
    assert.equal(figure('lbd_addresses\\{state="held"\\}'), status.addresses.length);
    assert.ok(figure('lbd_address_announcements_total') > 0);
    assert.ok(figure('lbd_gossip_received_packets_total') > 100);
    assert.ok(figure('process_resident_memory_bytes') > 1e7);
    assert.ok(figure('lbd_udp_losses_total') > 0);
  });
});

describe('two hosts that do not gossip', { skip: SKIP }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start({ hosts: 2 });
    for (const host of cluster.hosts) await cluster.startLbd(host, { toml: '' });
  });
  after(() => cluster?.close());

  test('one of them says that the other would take the same addresses', async () => {
    const [one, two] = cluster.hosts;
    assert.ok(one !== undefined && two !== undefined);
    const told = await waitFor(
      async () => {
        const statuses = await Promise.all([one, two].map((host) => cluster.lbd(host).status()));
        const texts = statuses.map(problemsOf);
        return texts.some((text) => /no \[gossip\]/.test(text)) ? texts : undefined;
      },
      { describe: 'the problem', timeoutMs: 15_000 },
    );
    const told1 = told.find((text) => text !== '' && text.includes('[gossip]')) ?? '';
    assert.match(told1, /^error: h[12] runs lbd for this cluster too, and this host has no \[gossip\]/m);
  });

  test('commands that need gossip say so', async () => {
    const host = cluster.hosts[0] ?? assert.fail();
    for (const args of [['members'], ['drain', '--wait'], ['undrain'], ['rebalance']]) {
      const { code, stderr } = await cluster.lbd(host).lbctl(args, { mayFail: true });
      assert.equal(code, 1);
      assert.match(stderr, /^lbctl: this host does not gossip, so it knows no other host: [^\n]+\n$/);
    }
    const { stdout } = await cluster.lbd(host).lbctl(['explain', '192.0.2.1']);
    assert.match(stdout, /each host for itself/);
  });
});
