import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explainAddress, viewAddress } from '../../../src/election/explain.ts';
import type { MemberName } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after } from '../../../src/lib/time.ts';
import { address, Cluster, type Host, SEGMENT, SETTINGS, wantedOf } from './ownership-cluster.ts';

const IP = address(0);

function settled(): { readonly cluster: Cluster; readonly owner: Host; readonly others: readonly Host[] } {
  const cluster = new Cluster({ hosts: 4 });
  cluster.want(wantedOf([IP]));
  cluster.run(SETTINGS.settleMs + 1_000);
  const owner = cluster.hostNamed(cluster.serving(IP)[0] as MemberName);
  return { cluster, owner, others: cluster.hosts.filter((host) => host !== owner) };
}

function view(host: Host, ip = IP) {
  return viewAddress(host.ownership.inspect(), ip) ?? assert.fail(`${ip} is unknown`);
}

function reasons(host: Host): Record<string, string> {
  return Object.fromEntries(
    explainAddress(host.ownership.inspect(), IP).map(({ name, role, reason }) => [
      name,
      `${role}: ${reason}`,
    ]),
  );
}

test('viewAddress() names owner, epoch, since and heir, the same on all hosts', () => {
  const { cluster, owner, others } = settled();
  const mine = view(owner);
  assert.equal(mine.state, 'mine');
  assert.equal(mine.reason, undefined);
  assert.equal(mine.local, 'held');
  assert.equal(mine.since, after(cluster.now, -1_000));
  for (const host of others) {
    const theirs = view(host);
    assert.equal(theirs.state, 'theirs');
    assert.deepEqual([theirs.owner, theirs.epoch, theirs.heir], [owner.name, 1, mine.heir]);
  }
  assert.notEqual(mine.heir, owner.name);
});

test('viewAddress() has nothing to say of addresses outside every subnet, or wanted by nobody', () => {
  const { cluster, owner } = settled();
  assert.equal(viewAddress(owner.ownership.inspect(), address(1)), undefined);
  const virtual = '198.51.100.7' as Ip;
  cluster.want(wantedOf([IP, virtual]));
  assert.equal(viewAddress(owner.ownership.inspect(), virtual), undefined);
});

test('viewAddress() tells what is waited for', () => {
  const cold = new Cluster({ hosts: 1 });
  cold.want(wantedOf([IP]));
  assert.deepEqual(
    [view(cold.host(0)).state, view(cold.host(0)).reason],
    ['free', 'lbd started just now and waits for the other hosts'],
  );
  cold.run(SETTINGS.settleMs);
  assert.equal(view(cold.host(0)).reason, 'this host asks the wire and takes it');

  const deaf = new Cluster({ hosts: 1 });
  deaf.want(wantedOf([IP]));
  for (const [doubt, reason] of [
    ['unheard', 'this host has heard nobody yet on the NIC of that subnet'],
    ['paused', 'this host was paused and waits for a neighbour to confirm its claims'],
  ] as const) {
    deaf.do(deaf.host(0), () => deaf.host(0).ownership.doubtsChanged(new Map([[SEGMENT, doubt]]), deaf.now));
    deaf.run(SETTINGS.settleMs);
    assert.equal(view(deaf.host(0)).reason, reason);
  }

  const { cluster, owner, others } = settled();
  const [witness] = others;
  assert.ok(witness !== undefined);
  cluster.do(owner, () => owner.ownership.isolated(SEGMENT, cluster.now));
  assert.equal(view(owner).reason, 'it hears nobody on the NIC of that subnet');
  cluster.kill(owner, 100, 0);
  cluster.run(101);
  const heir = view(witness).heir as MemberName;
  const bystander = others.find((host) => host.name !== heir);
  assert.ok(bystander !== undefined);
  assert.equal(view(bystander).state, 'orphaned');
  assert.equal(view(bystander).reason, `${owner.name}: nothing is heard of it; ${heir} is to take it`);
});

test('viewAddress() says nobody when no host may have it', () => {
  const { cluster, owner } = settled();
  const wanted = wantedOf([IP]);
  cluster.want({ ...wanted, addresses: new Map([[IP, { ip: IP, nodes: new Set<string>() }]]) });
  cluster.run(200);
  assert.deepEqual([view(owner).state, view(owner).reason], ['nobody', 'no host may have it now']);
});

test('explainAddress() says of every host why it is not the owner', () => {
  const { cluster, owner, others } = settled();
  const [first, second, third] = others;
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  const roles = explainAddress(owner.ownership.inspect(), IP).map(({ role, rank }) => `${role} ${rank}`);
  assert.deepEqual(roles, ['owner 0', 'heir 1', 'candidate 2', 'candidate 3']);

  cluster.setMeta(first, { drained: true });
  cluster.setMeta(second, { segments: [] });
  const silence = { why: 'process-gone', lastHeardAt: cluster.now, leaseEndsAt: cluster.now } as const;
  cluster.tell(owner, third, { state: 'suspect' }, silence);
  assert.deepEqual(reasons(owner), {
    [owner.name]: 'owner: owns it',
    [first.name]: 'ineligible: it is drained',
    [second.name]: `ineligible: it has no NIC that is up in a subnet with ${IP}`,
    [third.name]: 'ineligible: its lbd ended',
  });
  cluster.tell(owner, third, { state: 'alive' });
  cluster.setMeta(first, { drained: false });
  const nodes = new Set([owner.meta.node, third.meta.node]);
  const addresses = new Map([[IP, { ip: IP, nodes }]]);
  cluster.want({ addresses, excludedNodes: new Set([third.meta.node]), fresh: true }, [owner]);
  assert.equal(
    reasons(owner)[first.name],
    `ineligible: its node ${first.meta.node} has no usable endpoint (externalTrafficPolicy: Local)`,
  );
  cluster.setMeta(second, { segments: owner.meta.segments, unready: 'all' });
  const everywhere = new Map([[IP, { ip: IP, nodes: new Set(cluster.hosts.map(({ meta }) => meta.node)) }]]);
  cluster.want({ addresses: everywhere, excludedNodes: new Set([third.meta.node]), fresh: true }, [owner]);
  assert.equal(
    reasons(owner)[second.name],
    `ineligible: kube-proxy of its node ${second.meta.node} is not ready for it (healthCheckNodePort)`,
  );
  assert.equal(
    reasons(owner)[third.name],
    `ineligible: its node ${third.meta.node} is excluded from load balancing`,
  );
});
