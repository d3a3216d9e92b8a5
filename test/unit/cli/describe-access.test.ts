import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeAccess } from '../../../src/cli/describe-access.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import type { AccessReport, ApiReport } from '../../../src/kube/io/access-check.ts';
import { PERMISSIONS } from '../../../src/kube/permissions.ts';

const DAY_MS = 86_400_000;
const SERVER = 'https://10.0.0.1:6443';
const USABLE = { kind: 'usable', server: SERVER, token: undefined } as const;
const TOKEN = {
  account: 'kube-system/lbd',
  expiresInMs: 29 * DAY_MS,
  renewsInMs: 14 * DAY_MS,
  isLate: false,
  error: undefined,
};
const FIRST = 'note: lbd serves Services of type LoadBalancer that name no class.';
const NAMES = `note: /etc/lbd/kubeconfig names the API server ${SERVER}.`;

function lines(report: AccessReport, text = ''): readonly string[] {
  const parsed = parseConfig(text, 'f', { hostName: 'edge' });
  assert.ok(parsed.ok);
  return describeAccess(parsed.value.config, report).remarks.map(
    (remark) => `${remark.severity}: ${remark.text}`,
  );
}

function answers(fields: Partial<Extract<ApiReport, { kind: 'answers' }>> = {}): ApiReport {
  return { kind: 'answers', version: 'v1.36.0', tookMs: 12.4, asked: 13, missing: [], ...fields };
}

test('describeAccess() says what the kubeconfig is worth', () => {
  const cases: readonly (readonly [AccessReport['kubeconfig'], readonly string[]])[] = [
    [USABLE, [NAMES]],
    [
      { kind: 'unseen' },
      [
        'unseen: /etc/lbd/kubeconfig, which this user may not read, and with it the API server; run this as root.',
      ],
    ],
    [
      { kind: 'unusable', problem: 'kubeconfig x is open to every user' },
      ['error: kubeconfig x is open to every user; "lbctl kubeconfig" makes a new one.'],
    ],
    [
      { ...USABLE, token: TOKEN },
      [
        NAMES,
        'note: Its token is that of the ServiceAccount kube-system/lbd, valid for 29d; lbd renews it in 14d.',
      ],
    ],
    [
      { ...USABLE, token: { ...TOKEN, renewsInMs: -DAY_MS } },
      [
        NAMES,
        'note: Its token is that of the ServiceAccount kube-system/lbd, valid for 29d; lbd renews it as soon as it runs.',
      ],
    ],
    [
      { ...USABLE, token: { ...TOKEN, expiresInMs: -DAY_MS } },
      [
        NAMES,
        'error: Its token is that of the ServiceAccount kube-system/lbd and expired 1d ago: make a new one with "lbctl kubeconfig".',
      ],
    ],
  ];
  for (const [kubeconfig, expected] of cases) {
    assert.deepEqual(lines({ kubeconfig, api: undefined }), [FIRST, ...expected]);
  }
});

test('describeAccess() says how the API server answers', () => {
  assert.deepEqual(lines({ kubeconfig: USABLE, api: answers() }), [
    FIRST,
    NAMES,
    'note: The API server, Kubernetes v1.36.0, answered in 12 ms.',
    'note: It allows lbd all 13 things that lbd asks of it.',
  ]);
  assert.deepEqual(
    lines({
      kubeconfig: USABLE,
      api: { kind: 'failed', problem: 'cannot get /version: no answer within 5 s' },
    }),
    [FIRST, NAMES, 'error: The API server cannot be used: cannot get /version: no answer within 5 s.'],
  );
});

test('describeAccess() names each missing verb with what it is for', () => {
  const of = (verb: string, resource: string) =>
    PERMISSIONS.filter((permission) => permission.verb === verb && permission.resource === resource);
  const missing = [
    ...of('patch', 'services/status'),
    ...of('list', 'endpointslices'),
    ...of('create', 'events'),
    ...of('get', 'leases'),
    ...of('create', 'serviceaccounts/token'),
  ];
  const toml = '[kubernetes]\nlease_namespace = "lb"\nload_balancer_class = "example.com/lbd"\n';
  assert.deepEqual(lines({ kubeconfig: USABLE, api: answers({ version: undefined, missing }) }, toml), [
    'note: lbd serves Services of type LoadBalancer of class example.com/lbd.',
    NAMES,
    'note: The API server answered in 12 ms.',
    'error: The API server does not let lbd patch services/status, which it needs to write the addresses given to a Service into its status.',
    'error: The API server does not let lbd list endpointslices.discovery.k8s.io, which it needs to know which nodes have ready endpoints of a Service.',
    'warning: The API server does not let lbd create events.events.k8s.io, which it needs to tell in "kubectl describe service" what was done with it and why.',
    'error: The API server does not let lbd get leases.coordination.k8s.io lbd-allocator in namespace lb, which it needs to see which host allocates, and whether it still does.',
    'warning: The API server does not let lbd create serviceaccounts/token lbd in its own namespace, which it needs to renew its own token before that expires.',
    'note: /usr/share/lbd/kubernetes/rbac.yaml grants all of them, and so does "lbctl kubeconfig".',
  ]);
});
