/** The objects lbd writes beside the Service status: Leases and Events, through both event APIs. */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { at, type JsonObject, objectOf } from '../support/apiserver/json.ts';
import {
  type Context,
  contract,
  created,
  invalidAt,
  nameOf,
  names,
  ok,
  refused,
  revisionOf,
} from './target.ts';

const NOW = '2026-05-04T03:02:01.123456Z';

async function leases(context: Context): Promise<string> {
  return `/apis/coordination.k8s.io/v1/namespaces/${await context.namespace()}/leases`;
}

function event(namespace: string, fields: JsonObject = {}): JsonObject {
  return {
    metadata: { generateName: 'web.' },
    eventTime: NOW,
    reportingController: 'lbd.io/lbd',
    reportingInstance: 'host-1',
    action: 'Allocate',
    reason: 'Allocated',
    regarding: { apiVersion: 'v1', kind: 'Service', namespace, name: 'web' },
    note: 'address 192.0.2.1 from pool lan',
    type: 'Normal',
    ...fields,
  };
}

contract('leases', (context) => {
  it('keep microseconds, and renew by update with the current resourceVersion', async () => {
    const { admin } = context();
    const path = await leases(context());
    const spec = {
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      acquireTime: NOW,
      renewTime: NOW,
      leaseTransitions: 0,
    };
    const made = created(await admin.post(path, { metadata: { name: 'l' }, spec }));
    assert.deepEqual(made['spec'], spec);
    objectOf(made['spec'])['renewTime'] = '2026-05-04T03:02:06.000001Z';
    const renewed = ok(await admin.put(`${path}/l`, made));
    assert.equal(at(renewed, 'spec', 'renewTime'), '2026-05-04T03:02:06.000001Z');
    refused(await admin.put(`${path}/l`, made), 409, 'Conflict');
  });

  it('of two who take the same lease with the same resourceVersion one gets a Conflict', async () => {
    const { admin } = context();
    const path = await leases(context());
    const made = created(await admin.post(path, { metadata: { name: 'l' }, spec: { holderIdentity: '' } }));
    const take = (holder: string): JsonObject => ({ ...made, spec: { holderIdentity: holder } });
    const answers = await Promise.all([admin.put(`${path}/l`, take('a')), admin.put(`${path}/l`, take('b'))]);
    assert.deepEqual(answers.map((answer) => answer.code).sort(), [200, 409]);
  });

  it('of two who create the same lease one gets AlreadyExists', async () => {
    const { admin } = context();
    const path = await leases(context());
    const body = { metadata: { name: 'l' }, spec: { holderIdentity: 'a' } };
    const answers = await Promise.all([admin.post(path, body), admin.post(path, body)]);
    assert.deepEqual(answers.map((answer) => answer.code).sort(), [201, 409]);
  });

  it('refuse durations that are not positive and negative transitions', async () => {
    const { admin } = context();
    const path = await leases(context());
    const post = (spec: JsonObject) => admin.post(path, { metadata: { name: 'l' }, spec });
    invalidAt(await post({ leaseDurationSeconds: 0 }), 'spec.leaseDurationSeconds');
    invalidAt(await post({ leaseDurationSeconds: -1 }), 'spec.leaseDurationSeconds');
    invalidAt(await post({ leaseTransitions: -1 }), 'spec.leaseTransitions');
  });

  it('refuse times without exactly six fraction digits with 400', async () => {
    const { admin } = context();
    const path = await leases(context());
    for (const renewTime of ['2026-05-04T03:02:01Z', '2026-05-04T03:02:01.123Z', 'yesterday', 5]) {
      refused(await admin.post(path, { metadata: { name: 'l' }, spec: { renewTime } }), 400, 'BadRequest');
    }
  });

  it('store times in UTC', async () => {
    const { admin } = context();
    const body = { metadata: { name: 'l' }, spec: { renewTime: '2026-05-04T05:02:01.123456+02:00' } };
    const made = created(await admin.post(await leases(context()), body));
    assert.equal(at(made, 'spec', 'renewTime'), NOW);
  });
});

contract('events', (context) => {
  it('written through events.k8s.io are read through core, field by field', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(`/apis/events.k8s.io/v1/namespaces/${ns}/events`, event(ns)));
    assert.equal(made['note'], 'address 192.0.2.1 from pool lan');
    const core = ok(await admin.get(`/api/v1/namespaces/${ns}/events/${nameOf(made)}`));
    assert.equal(core['apiVersion'], 'v1');
    assert.equal(core['message'], made['note']);
    assert.deepEqual(core['involvedObject'], made['regarding']);
    assert.equal(core['reportingComponent'], 'lbd.io/lbd');
    assert.equal(core['eventTime'], NOW);
    assert.equal(revisionOf(core), revisionOf(made));
  });

  it('written through core are read through events.k8s.io', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const body = {
      metadata: { name: 'old' },
      involvedObject: { kind: 'Service', namespace: ns, name: 'web' },
      reason: 'Released',
      message: 'text',
      type: 'Warning',
      count: 3,
      source: { component: 'old' },
      firstTimestamp: '2026-01-01T00:00:00Z',
      lastTimestamp: '2026-01-02T00:00:00Z',
    };
    created(await admin.post(`/api/v1/namespaces/${ns}/events`, body));
    const made = ok(await admin.get(`/apis/events.k8s.io/v1/namespaces/${ns}/events/old`));
    assert.equal(made['note'], 'text');
    assert.equal(made['deprecatedCount'], 3);
    assert.equal(made['deprecatedLastTimestamp'], '2026-01-02T00:00:00Z');
    assert.equal(made['eventTime'], null);
  });

  it('a series is patched in through events.k8s.io', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const path = `/apis/events.k8s.io/v1/namespaces/${ns}/events`;
    const made = created(await admin.post(path, event(ns)));
    const series = { count: 2, lastObservedTime: '2026-05-04T04:00:00.000000Z' };
    const patched = ok(await admin.patch(`${path}/${nameOf(made)}`, { series }, 'strategic-merge'));
    assert.deepEqual(patched['series'], series);
    invalidAt(await admin.patch(`${path}/${nameOf(made)}`, { note: 'another text' }), 'message');
    invalidAt(await admin.patch(`${path}/${nameOf(made)}`, { series: { count: 1 } }), 'series.count');
  });

  const refusals: readonly (readonly [string, JsonObject, string])[] = [
    ['no eventTime', { eventTime: null }, 'eventTime'],
    ['no reportingController', { reportingController: '' }, 'reportingController'],
    [
      'a reportingController that is no qualified name',
      { reportingController: 'a b' },
      'reportingController',
    ],
    ['no reportingInstance', { reportingInstance: '' }, 'reportingInstance'],
    ['a long reportingInstance', { reportingInstance: 'x'.repeat(129) }, 'reportingInstance'],
    ['no action', { action: '' }, 'action'],
    ['a long action', { action: 'x'.repeat(129) }, 'action'],
    ['no reason', { reason: '' }, 'reason'],
    ['a long reason', { reason: 'x'.repeat(129) }, 'reason'],
    ['a long note', { note: 'x'.repeat(1025) }, 'message'],
    ['an unknown type', { type: 'Error' }, 'type'],
    ['a deprecated count', { deprecatedCount: 1 }, 'count'],
    ['no namespace in regarding', { regarding: { kind: 'Node', name: 'n' } }, 'involvedObject.namespace'],
  ];
  for (const [what, fields, field] of refusals) {
    it(`events.k8s.io refuses ${what} at ${field}`, async () => {
      const { admin, namespace } = context();
      const ns = await namespace();
      const answer = await admin.post(`/apis/events.k8s.io/v1/namespaces/${ns}/events`, event(ns, fields));
      if (what === 'no eventTime') assert.equal(answer.code, 422, answer.text);
      else invalidAt(answer, field);
    });
  }

  it('core refuses an event whose namespace is not the one of its object', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const involvedObject = { kind: 'Service', namespace: 'default', name: 'web' };
    const answer = await admin.post(`/api/v1/namespaces/${ns}/events`, {
      metadata: { name: 'e' },
      involvedObject,
    });
    invalidAt(answer, 'involvedObject.namespace');
  });

  it('are selected by what they are about', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const path = `/api/v1/namespaces/${ns}/events`;
    for (const name of ['a', 'b']) {
      const involvedObject = { kind: 'Service', namespace: ns, name, uid: `uid-${name}` };
      created(
        await admin.post(path, {
          metadata: { name: `e-${name}` },
          involvedObject,
          reason: 'R',
          type: 'Normal',
        }),
      );
    }
    const select = async (selector: string): Promise<string[]> =>
      names(ok(await admin.get(`${path}?fieldSelector=${encodeURIComponent(selector)}`)));
    assert.deepEqual(await select('involvedObject.name=a,involvedObject.kind=Service'), ['e-a']);
    assert.deepEqual(await select('involvedObject.uid=uid-b'), ['e-b']);
    assert.deepEqual(await select('reason=R,type!=Warning'), ['e-a', 'e-b']);
  });
});

contract('nodes and endpoint slices', (context) => {
  it('a node keeps its status apart from its spec', async () => {
    const { admin } = context();
    const node = { metadata: { name: 'host-1', labels: { zone: 'a' } }, spec: {}, status: {} };
    created(await admin.post('/api/v1/nodes', node));
    const conditions = [
      {
        type: 'Ready',
        status: 'True',
        reason: 'KubeletReady',
        message: '',
        lastHeartbeatTime: '2026-01-01T00:00:00Z',
        lastTransitionTime: '2026-01-01T00:00:00Z',
      },
    ];
    const addresses = [{ type: 'InternalIP', address: '10.0.0.1' }];
    ok(
      await admin.patch(
        '/api/v1/nodes/host-1/status',
        { status: { conditions, addresses } },
        'strategic-merge',
      ),
    );
    const cordoned = ok(await admin.patch('/api/v1/nodes/host-1', { spec: { unschedulable: true } }));
    assert.equal(at(cordoned, 'spec', 'unschedulable'), true);
    assert.deepEqual(at(cordoned, 'status', 'addresses'), addresses);
    ok(await admin.delete('/api/v1/nodes/host-1'));
  });

  it('an endpoint slice counts generations and keeps its address type', async () => {
    const { admin, namespace } = context();
    const path = `/apis/discovery.k8s.io/v1/namespaces/${await namespace()}/endpointslices`;
    const endpoint = { addresses: ['10.1.0.1'], conditions: { ready: true }, nodeName: 'host-1' };
    const body = {
      metadata: { name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      endpoints: [endpoint],
      ports: [{ port: 8080 }],
    };
    const made = created(await admin.post(path, body));
    assert.equal(at(made, 'metadata', 'generation'), 1);
    assert.deepEqual(made['endpoints'], [endpoint]);
    assert.deepEqual(made['ports'], [{ name: '', protocol: 'TCP', port: 8080 }]);
    const changed = ok(await admin.patch(`${path}/web-1`, { endpoints: [{ addresses: ['10.1.0.2'] }] }));
    assert.equal(at(changed, 'metadata', 'generation'), 2);
    invalidAt(await admin.patch(`${path}/web-1`, { addressType: 'IPv6', endpoints: [] }), 'addressType');
    invalidAt(
      await admin.post(path, { ...body, metadata: { name: 'x' }, endpoints: [{ addresses: [] }] }),
      'endpoints[0].addresses',
    );
    assert.equal(
      (await admin.post(path, { ...body, metadata: { name: 'x' }, endpoints: [{ addresses: ['nine'] }] }))
        .code,
      422,
    );
  });
});
