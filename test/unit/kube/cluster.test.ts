import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { recordOf } from '../../../src/kube/raw.ts';
import { type Ip, parseIp } from '../../../src/lib/ip.ts';
import { Harness, now, serviceObject } from './harness.ts';

function ip(text: string): Ip {
  const parsed = parseIp(text);
  assert.ok(parsed !== undefined);
  return parsed;
}

const SERVICES = '/api/v1/namespaces/default/services';

let harness: Harness;
beforeEach(async () => {
  harness = await Harness.start();
});
afterEach(() => harness.close());

/** How often a watch of Services was opened, verifications included. */
function watchesOpened(): number {
  return harness.api.stats().requests['watch services']?.count ?? 0;
}

describe('KubeCluster', () => {
  it('knows every LoadBalancer Service, EndpointSlice and Node, more than a page of them', async () => {
    harness.api.load(Array.from({ length: 1_203 }, (_, index) => serviceObject(`s${index}`)));
    harness.api.load([
      serviceObject('internal', { type: 'ClusterIP' }),
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, status: { conditions: [] } },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: 's1-x', namespace: 'default', labels: { 'kubernetes.io/service-name': 's1' } },
        addressType: 'IPv4',
        endpoints: [{ addresses: ['10.0.0.1'], nodeName: 'n1' }],
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: 'h-x', namespace: 'default', labels: { 'service.kubernetes.io/headless': '' } },
        addressType: 'IPv4',
        endpoints: [],
      },
    ]);
    const cluster = harness.cluster();
    await cluster.ready();
    assert.equal(cluster.view.services().size, 1_203);
    assert.deepEqual([...cluster.view.endpointSlices().keys()], ['default/s1-x']);
    assert.deepEqual([...cluster.view.nodes().keys()], ['n1']);
    assert.equal(cluster.view.status().reachable, true);
    assert.equal(cluster.view.status().fromCache, false);
    assert.equal(cluster.view.status().error, undefined);
  });

  it('follows creations, changes and deletions', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('web');
    await cluster.appears('web');
    await harness.admin('PATCH', `${SERVICES}/web`, { spec: { loadBalancerIP: '192.0.2.9' } });
    await cluster.until(() => cluster.service('web')?.loadBalancerIp === '192.0.2.9', 'the change is known');
    await harness.admin('PATCH', `${SERVICES}/web`, { spec: { type: 'ClusterIP' } });
    await cluster.until(() => cluster.service('web') === undefined, 'it is no LoadBalancer any more');
  });

  it('survives Services with hostile values', async () => {
    const hostile = serviceObject('hostile');
    harness.api.load(
      [
        {
          ...hostile,
          metadata: { ...hostile.metadata, annotations: { 'lbd.io/pool': 'x'.repeat(1_000_000) } },
          spec: {
            type: 'LoadBalancer',
            ports: Array.from({ length: 10_000 }, (_, index) => ({ port: index + 1, name: `p${index}` })),
            loadBalancerIP: '224.0.0.1',
          },
        },
        {
          ...hostile,
          metadata: { ...hostile.metadata, name: 'odd' },
          spec: { type: 7, ports: 'many' },
          status: 'none',
        },
      ],
      { checked: false },
    );
    const cluster = harness.cluster();
    const service = await cluster.appears('hostile');
    assert.equal(service.ports.length, 100);
    assert.equal(service.loadBalancerIp, '224.0.0.1');
  });

  it('takes pages over 32 MiB in smaller ones', async () => {
    const annotations = { 'example.com/ballast': 'x'.repeat(400_000) };
    harness.api.load(
      Array.from({ length: 100 }, (_, index) => {
        const service = serviceObject(`s${index}`);
        return { ...service, metadata: { ...service.metadata, annotations } };
      }),
      { checked: false },
    );
    const cluster = harness.cluster();
    await cluster.until(() => cluster.view.services().size === 100, 'all are known', 20_000);
  });
});

describe('KubeCluster.writeStatus()', () => {
  it('writes VIP addresses, knows the result at once, and releases them', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('web');
    const service = await cluster.appears('web');
    assert.equal(await cluster.view.writeStatus(service, [ip('192.0.2.1'), ip('2001:db8::1')]), 'written');
    const written = cluster.service('web');
    assert.deepEqual(written?.ingress, [
      { ip: '192.0.2.1', hostname: undefined, ipMode: 'VIP' },
      { ip: '2001:db8::1', hostname: undefined, ipMode: 'VIP' },
    ]);
    assert.ok(written !== undefined && written.resourceVersion !== service.resourceVersion);
    assert.equal(await cluster.view.writeStatus(written, []), 'written');
    assert.deepEqual(cluster.service('web')?.ingress, []);
  });

  it('tells a stale, a gone and a busy Service', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('web');
    const old = await cluster.appears('web');
    const both = [
      cluster.view.writeStatus(old, [ip('192.0.2.1')]),
      cluster.view.writeStatus(old, [ip('192.0.2.2')]),
    ];
    assert.deepEqual(await Promise.all(both), ['written', 'stale']);
    assert.equal(await cluster.view.writeStatus(old, [ip('192.0.2.3')]), 'stale');
    assert.equal(cluster.service('web')?.ingress[0]?.ip, '192.0.2.1');
    const current = cluster.service('web');
    assert.ok(current !== undefined);
    await harness.admin('PATCH', `${SERVICES}/web`, { metadata: { labels: { a: 'b' } } });
    assert.equal(await cluster.view.writeStatus(current, []), 'stale');
    assert.equal(await cluster.view.writeStatus({ ...current, name: 'absent' }, []), 'gone');
    assert.equal(await cluster.view.writeStatus({ ...current, uid: 'another' }, []), 'stale');
  });

  it('gives the error, and writes without ipMode for a server that does not know it', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('web');
    const service = await cluster.appears('web');
    const match = { verbs: ['patch'], resources: ['services/status'], times: 1 };
    harness.api.faults.throttle(3, match);
    const throttled = await cluster.view.writeStatus(service, [ip('192.0.2.1')]);
    assert.ok(typeof throttled === 'object');
    assert.equal(throttled.error.failure.retryAfterMs, 3_000);
    assert.match(throttled.error.message, /cannot patch services\/status: 429/);
    harness.api.faults.fail(422, match, 'Invalid', 'unknown field "status.loadBalancer.ingress[0].ipMode"');
    assert.equal(await cluster.view.writeStatus(service, [ip('192.0.2.1')]), 'written');
    assert.deepEqual(cluster.service('web')?.ingress.length, 1);
  });

  it('writes 500 statuses with at most 32 under way', async () => {
    harness.api.load(Array.from({ length: 500 }, (_, index) => serviceObject(`s${index}`)));
    const cluster = harness.cluster();
    await cluster.ready();
    const services = [...cluster.view.services().values()];
    const outcomes = await Promise.all(
      services.map((service, index) => cluster.view.writeStatus(service, [ip(`198.51.100.${index % 250}`)])),
    );
    assert.ok(outcomes.every((outcome) => outcome === 'written'));
  });

  it('is stale for a host that is not the allocator', async () => {
    const first = harness.cluster({ hostName: 'host-a' });
    await first.ready();
    const second = harness.cluster({ hostName: 'host-b' });
    harness.loadService('web');
    const service = await second.appears('web');
    await second.until(() => second.view.status().allocator.holder === 'host-a', 'the holder is seen');
    assert.equal(second.view.isAllocator(), false);
    assert.equal(await second.view.writeStatus(service, [ip('192.0.2.1')]), 'stale');
  });
});

describe('the allocator', () => {
  it('hands over on a clean stop, within the retry period of the other', async () => {
    const first = harness.cluster({ hostName: 'host-a' });
    await first.ready();
    const second = harness.cluster({ hostName: 'host-b' });
    await second.until(() => second.view.status().allocator.holder === 'host-a', 'the holder is seen');
    const started = now();
    await first.view.stop();
    assert.equal(first.view.isAllocator(), false);
    await second.until(() => second.view.isAllocator(), 'host-b allocates');
    assert.ok(now() - started < 5_500);
  });

  it('keeps what others wrote into the Lease', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    const path = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/lbd-allocator';
    await harness.admin('PATCH', path, { metadata: { annotations: { note: 'ours' } } });
    const renewed = async () => recordOf(await harness.admin('GET', path));
    const before = recordOf((await renewed())['spec'])['renewTime'];
    let lease = await renewed();
    while (recordOf(lease['spec'])['renewTime'] === before) lease = await renewed();
    assert.deepEqual(recordOf(lease['metadata'])['annotations'], { note: 'ours' });
    assert.equal(cluster.view.isAllocator(), true);
  });

  it('says which verbs to grant when it may not use Leases, and everything else works', async () => {
    const services = { apiGroups: [''], resources: ['services', 'nodes'], verbs: ['list', 'watch'] };
    await harness.api.createUser('reader', { rules: [services] });
    harness.loadService('web');
    const cluster = harness.cluster({ kubeconfig: harness.kubeconfig('reader') });
    await cluster.appears('web');
    await cluster.until(() => cluster.view.status().allocator.error !== undefined, 'the Lease is refused');
    const status = cluster.view.status();
    assert.match(status.allocator.error ?? '', /cannot get leases: 403 .*get, create and patch on leases/);
    const slices = status.reflectors.find((reflector) => reflector.resource === 'endpointslices');
    assert.match(slices?.error ?? '', /cannot list endpointslices: 403 .*grant verb list on endpointslices/);
    assert.match(status.error ?? '', /endpointslices/);
  });
});

describe('KubeCluster.event()', () => {
  it('writes an Event that names the Service, and a repetition only once', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('web');
    const service = await cluster.appears('web');
    const note = {
      service,
      type: 'Normal',
      reason: 'Allocated',
      action: 'Allocate',
      note: 'got 192.0.2.1',
    } as const;
    cluster.view.event({ ...note, service: { namespace: 'default', name: 'web', uid: service.uid } });
    cluster.view.event({ ...note, service: { namespace: 'default', name: 'web', uid: service.uid } });
    const events = async () => {
      const list = recordOf(await harness.admin('GET', '/apis/events.k8s.io/v1/namespaces/default/events'));
      return Array.isArray(list['items']) ? list['items'].map(recordOf) : [];
    };
    let found = await events();
    while (found.length === 0) found = await events();
    const event = found[0] ?? {};
    assert.equal(event['note'], 'got 192.0.2.1');
    assert.equal(event['reportingController'], 'lbd.io/lbd');
    assert.equal(event['reportingInstance'], 'host-a');
    assert.equal(recordOf(event['regarding'])['uid'], service.uid);
    assert.equal((await events()).length, 1);
    assert.deepEqual(
      harness.logged.filter((line) => line.startsWith('kube.event.lost')),
      [],
    );
  });
});

describe('a server in trouble', () => {
  it('is waited for when it is away at start', async () => {
    await harness.api.faults.refuseConnections();
    const cluster = harness.cluster();
    await cluster.until(() => cluster.view.status().error !== undefined, 'the failure is seen');
    assert.match(cluster.view.status().error ?? '', /ECONNREFUSED/);
    assert.equal(cluster.view.status().reachable, false);
    assert.equal(cluster.view.synced(), false);
    harness.loadService('web');
    await harness.api.faults.acceptConnections();
    await cluster.appears('web');
    assert.equal(cluster.view.status().reachable, true);
    await cluster.until(() => cluster.view.status().error === undefined, 'the error is over');
  });

  it('loses nothing over dropped connections and closed watches', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    for (const [name, fault] of [
      ['one', () => harness.api.faults.dropConnections()],
      ['two', () => harness.api.faults.closeWatches()],
    ] as const) {
      fault();
      harness.loadService(name);
      await cluster.appears(name);
    }
    assert.ok(cluster.view.status().reflectors.every((reflector) => reflector.relists <= 1));
  });

  it('lists anew after 410, told as an event, as a status and by a lost history, without a lost deletion', async () => {
    harness.loadService('gone');
    const cluster = harness.cluster();
    await cluster.ready();
    await cluster.appears('gone');
    const rounds = [
      ['a', () => harness.api.faults.failWatches(410)],
      [
        'b',
        () => {
          harness.api.faults.watchTooOld('http');
          harness.api.faults.expireHistory();
          harness.api.faults.dropConnections();
        },
      ],
    ] as const;
    for (const [name, fault] of rounds) {
      harness.loadService(name);
      fault();
      await cluster.appears(name);
    }
    await harness.api.faults.refuseConnections();
    harness.api.faults.expireHistory();
    await harness.api.faults.acceptConnections();
    await harness.admin('PATCH', `${SERVICES}/gone`, { spec: { type: 'ClusterIP' } });
    await cluster.until(() => cluster.service('gone') === undefined, 'the deletion is known');
    assert.equal(cluster.view.services().size, 2);
  });

  it('comes back after a restart that reset all revisions, as after a restore of etcd', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('before');
    await cluster.appears('before');
    await harness.api.faults.restart({ history: 'lost', revisions: 'reset' });
    harness.loadService('after');
    await cluster.appears('after');
    await cluster.appears('before');
  });

  it('ignores events that are replayed', async () => {
    const cluster = harness.cluster();
    await cluster.ready();
    harness.loadService('web');
    const service = await cluster.appears('web');
    await cluster.view.writeStatus(service, [ip('192.0.2.1')]);
    await harness.admin('PATCH', `${SERVICES}/web/status`, { status: { loadBalancer: { ingress: null } } });
    await cluster.until(() => cluster.service('web')?.ingress.length === 0, 'the last state is known');
    harness.api.faults.replayWatchEvents(100);
    harness.loadService('next');
    await cluster.appears('next');
    assert.deepEqual(cluster.service('web')?.ingress, []);
  });

  it('is asked again when it says so', async () => {
    harness.api.faults.throttle(1, { verbs: ['list'], times: 3 });
    const started = now();
    const cluster = harness.cluster();
    await cluster.until(() => cluster.view.synced() && cluster.view.endpointsSynced(), 'listed');
    assert.ok(now() - started >= 1_000);
  });

  it('doubts that all Services are gone, and says so', async () => {
    harness.api.load(Array.from({ length: 12 }, (_, index) => serviceObject(`s${index}`)));
    const cluster = harness.cluster();
    await cluster.ready();
    await cluster.appears('s11');
    await harness.api.faults.restart({ objects: 'lost', history: 'lost', revisions: 'reset' });
    const doubt = () => cluster.view.status().reflectors[0]?.doubt;
    await cluster.until(() => doubt() !== undefined, 'the doubt');
    assert.deepEqual(doubt(), { missing: 12, known: 12 });
    assert.equal(cluster.view.services().size, 12);
    assert.equal(cluster.view.status().reflectors[0]?.phase, 'doubting');
  });
});

describe('a connection that dies without a word', () => {
  it('is found and resumed: those that were open are silent, new ones work', async () => {
    const cluster = harness.cluster({ verifyIntervalMs: 200, verifyTimeoutMs: 500 });
    await cluster.ready();
    harness.api.faults.freezeConnections();
    harness.loadService('web');
    await cluster.appears('web');
  });

  it('is found when the server hangs, and everything goes on when it wakes up', async () => {
    const cluster = harness.cluster({ verifyIntervalMs: 200, verifyTimeoutMs: 500 });
    await cluster.ready();
    harness.api.faults.stall();
    await cluster.until(() => !cluster.view.status().reachable, 'the silence is noticed');
    assert.match(cluster.view.status().error ?? '', /no answer within/);
    harness.api.faults.resume();
    harness.loadService('web');
    await cluster.appears('web', 30_000);
  });

  it('is not seen in a quiet but healthy one', async () => {
    const cluster = harness.cluster({ verifyIntervalMs: 50 });
    await cluster.ready();
    const { relists } = cluster.view.status().reflectors[0] ?? {};
    const opened = watchesOpened();
    await cluster.until(() => watchesOpened() >= opened + 3, 'it was verified three times', 20_000);
    const log = harness.logged.filter((line) => /dead|failed/.test(line));
    assert.deepEqual(log, []);
    assert.equal(cluster.view.status().reflectors[0]?.relists, relists);
  });
});

describe('the cache of last known Services', () => {
  it('serves a start without a server, and is corrected by it', async () => {
    const stateDirectory = join(harness.directory, 'state');
    const kubeconfig = harness.kubeconfig();
    harness.api.load(['kept', 'goes'].map((name) => serviceObject(name)));
    const first = harness.cluster({ stateDirectory, kubeconfig });
    await first.ready();
    const service = await first.appears('kept');
    await first.view.writeStatus(service, [ip('192.0.2.1')]);
    await first.view.stop();
    await harness.api.faults.refuseConnections();
    const second = harness.cluster({ stateDirectory, kubeconfig });
    assert.equal(second.service('kept')?.ingress[0]?.ip, '192.0.2.1');
    assert.equal(second.view.synced(), false);
    assert.equal(second.view.status().fromCache, true);
    await harness.api.faults.acceptConnections();
    await harness.admin('PATCH', `${SERVICES}/goes`, { spec: { type: 'ClusterIP' } });
    await second.until(() => second.service('goes') === undefined, 'the server has the last word');
    assert.equal(second.view.status().fromCache, false);
    assert.equal(second.service('kept')?.ingress[0]?.ip, '192.0.2.1');
  });
});
