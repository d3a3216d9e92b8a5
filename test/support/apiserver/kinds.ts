/** The API types the stand-in knows, field by field (Kubernetes API reference, v1.36). */

import * as s from './schema.ts';

const OBJECT_META = s.struct('ObjectMeta', {
  name: s.string,
  generateName: s.string,
  namespace: s.string,
  selfLink: s.string,
  uid: s.string,
  resourceVersion: s.string,
  generation: s.int64,
  creationTimestamp: s.time,
  deletionTimestamp: s.time,
  deletionGracePeriodSeconds: s.pointer(s.int64),
  labels: s.map(s.string),
  annotations: s.map(s.string),
  ownerReferences: s.list(
    s.struct(
      'OwnerReference',
      {
        apiVersion: s.always(s.string),
        kind: s.always(s.string),
        name: s.always(s.string),
        uid: s.always(s.string),
        controller: s.pointer(s.bool),
        blockOwnerDeletion: s.pointer(s.bool),
      },
      { atomic: true },
    ),
    { mergeKey: 'uid', applyKeys: ['uid'] },
  ),
  finalizers: s.list(s.string, { mergeKey: '', applyKeys: [] }),
  managedFields: s.list(
    s.struct('ManagedFieldsEntry', {
      manager: s.string,
      operation: s.string,
      apiVersion: s.string,
      time: s.time,
      fieldsType: s.string,
      fieldsV1: s.any,
      subresource: s.string,
    }),
  ),
});

function kind(name: string, fields: Record<string, s.Schema>): s.StructSchema {
  return s.struct(name, { kind: s.string, apiVersion: s.string, metadata: OBJECT_META, ...fields });
}

const CONDITION = s.struct('Condition', {
  type: s.always(s.string),
  status: s.always(s.string),
  observedGeneration: s.int64,
  lastTransitionTime: s.always(s.time),
  reason: s.always(s.string),
  message: s.always(s.string),
});
const CONDITIONS = s.list(CONDITION, { mergeKey: 'type', applyKeys: ['type'] });

const LOAD_BALANCER_INGRESS = s.struct('LoadBalancerIngress', {
  ip: s.string,
  hostname: s.string,
  ipMode: s.pointer(s.string),
  ports: s.list(
    s.struct('PortStatus', {
      port: s.always(s.int32),
      protocol: s.always(s.string),
      error: s.pointer(s.string),
    }),
  ),
});

export const SERVICE = kind('Service', {
  spec: s.struct('ServiceSpec', {
    ports: s.list(
      s.struct('ServicePort', {
        name: s.string,
        protocol: s.string,
        appProtocol: s.pointer(s.string),
        port: s.always(s.int32),
        targetPort: s.intOrString,
        nodePort: s.int32,
      }),
      { mergeKey: 'port', applyKeys: ['port', 'protocol'] },
    ),
    selector: s.map(s.string, { atomic: true }),
    clusterIP: s.string,
    clusterIPs: s.list(s.string),
    type: s.string,
    externalIPs: s.list(s.string),
    sessionAffinity: s.string,
    loadBalancerIP: s.string,
    loadBalancerSourceRanges: s.list(s.string),
    externalName: s.string,
    externalTrafficPolicy: s.string,
    healthCheckNodePort: s.int32,
    publishNotReadyAddresses: s.bool,
    sessionAffinityConfig: s.pointer(
      s.struct('SessionAffinityConfig', {
        clientIP: s.pointer(s.struct('ClientIPConfig', { timeoutSeconds: s.pointer(s.int32) })),
      }),
    ),
    ipFamilies: s.list(s.string),
    ipFamilyPolicy: s.pointer(s.string),
    allocateLoadBalancerNodePorts: s.pointer(s.bool),
    loadBalancerClass: s.pointer(s.string),
    internalTrafficPolicy: s.pointer(s.string),
    trafficDistribution: s.pointer(s.string),
  }),
  status: s.struct('ServiceStatus', {
    loadBalancer: s.struct('LoadBalancerStatus', { ingress: s.list(LOAD_BALANCER_INGRESS) }),
    conditions: CONDITIONS,
  }),
});

const NODE_CONDITION = s.struct('NodeCondition', {
  type: s.always(s.string),
  status: s.always(s.string),
  lastHeartbeatTime: s.always(s.time),
  lastTransitionTime: s.always(s.time),
  reason: s.string,
  message: s.string,
});

export const NODE = kind('Node', {
  spec: s.struct('NodeSpec', {
    podCIDR: s.string,
    podCIDRs: s.list(s.string, { mergeKey: '', applyKeys: [] }),
    providerID: s.string,
    unschedulable: s.bool,
    taints: s.list(
      s.struct('Taint', {
        key: s.always(s.string),
        value: s.string,
        effect: s.always(s.string),
        timeAdded: s.time,
      }),
    ),
  }),
  status: s.struct('NodeStatus', {
    capacity: s.map(s.any),
    allocatable: s.map(s.any),
    phase: s.string,
    conditions: s.list(NODE_CONDITION, { mergeKey: 'type', applyKeys: ['type'] }),
    addresses: s.list(s.struct('NodeAddress', { type: s.always(s.string), address: s.always(s.string) }), {
      mergeKey: 'type',
      applyKeys: ['type'],
    }),
    daemonEndpoints: s.struct('NodeDaemonEndpoints', {
      kubeletEndpoint: s.struct('DaemonEndpoint', { Port: s.always(s.int32) }),
    }),
    nodeInfo: s.struct(
      'NodeSystemInfo',
      Object.fromEntries(
        [
          'machineID',
          'systemUUID',
          'bootID',
          'kernelVersion',
          'osImage',
          'containerRuntimeVersion',
          'kubeletVersion',
          'kubeProxyVersion',
          'operatingSystem',
          'architecture',
        ].map((name) => [name, s.always(s.string)]),
      ),
    ),
  }),
});

export const NAMESPACE = kind('Namespace', {
  spec: s.struct('NamespaceSpec', { finalizers: s.list(s.string) }),
  status: s.struct('NamespaceStatus', {
    phase: s.string,
    conditions: s.list(CONDITION, { mergeKey: 'type', applyKeys: ['type'] }),
  }),
});

const OBJECT_REFERENCE = s.struct(
  'ObjectReference',
  {
    kind: s.string,
    namespace: s.string,
    name: s.string,
    uid: s.string,
    apiVersion: s.string,
    resourceVersion: s.string,
    fieldPath: s.string,
  },
  { atomic: true },
);
const EVENT_SOURCE = s.struct('EventSource', { component: s.string, host: s.string });

export const CORE_EVENT = kind('Event', {
  involvedObject: OBJECT_REFERENCE,
  reason: s.string,
  message: s.string,
  source: EVENT_SOURCE,
  firstTimestamp: s.always(s.time),
  lastTimestamp: s.always(s.time),
  count: s.int32,
  type: s.string,
  eventTime: s.always(s.microTime),
  series: s.pointer(s.struct('EventSeries', { count: s.int32, lastObservedTime: s.always(s.microTime) })),
  action: s.string,
  related: s.pointer(OBJECT_REFERENCE),
  reportingComponent: s.always(s.string),
  reportingInstance: s.always(s.string),
});

export const EVENT = kind('Event', {
  eventTime: s.always(s.microTime),
  series: s.pointer(
    s.struct('EventSeries', { count: s.always(s.int32), lastObservedTime: s.always(s.microTime) }),
  ),
  reportingController: s.string,
  reportingInstance: s.string,
  action: s.string,
  reason: s.string,
  regarding: OBJECT_REFERENCE,
  related: s.pointer(OBJECT_REFERENCE),
  note: s.string,
  type: s.string,
  deprecatedSource: EVENT_SOURCE,
  deprecatedFirstTimestamp: s.always(s.time),
  deprecatedLastTimestamp: s.always(s.time),
  deprecatedCount: s.int32,
});

export const ENDPOINT_SLICE = kind('EndpointSlice', {
  addressType: s.always(s.string),
  endpoints: s.always(
    s.list(
      s.struct('Endpoint', {
        addresses: s.always(s.list(s.string, { applyKeys: [] })),
        conditions: s.struct('EndpointConditions', {
          ready: s.pointer(s.bool),
          serving: s.pointer(s.bool),
          terminating: s.pointer(s.bool),
        }),
        hostname: s.pointer(s.string),
        targetRef: s.pointer(OBJECT_REFERENCE),
        deprecatedTopology: s.map(s.string),
        nodeName: s.pointer(s.string),
        zone: s.pointer(s.string),
        hints: s.pointer(
          s.struct('EndpointHints', {
            forZones: s.list(s.struct('ForZone', { name: s.always(s.string) })),
            forNodes: s.list(s.struct('ForNode', { name: s.always(s.string) })),
          }),
        ),
      }),
    ),
  ),
  ports: s.always(
    s.list(
      s.struct('EndpointPort', {
        name: s.pointer(s.string),
        protocol: s.pointer(s.string),
        port: s.pointer(s.int32),
        appProtocol: s.pointer(s.string),
      }),
    ),
  ),
});

export const LEASE = kind('Lease', {
  spec: s.struct('LeaseSpec', {
    holderIdentity: s.pointer(s.string),
    leaseDurationSeconds: s.pointer(s.int32),
    acquireTime: s.microTime,
    renewTime: s.microTime,
    leaseTransitions: s.pointer(s.int32),
    strategy: s.pointer(s.string),
    preferredHolder: s.pointer(s.string),
  }),
});

export const SERVICE_ACCOUNT = kind('ServiceAccount', {
  secrets: s.list(OBJECT_REFERENCE, { mergeKey: 'name', applyKeys: ['name'] }),
  imagePullSecrets: s.list(s.struct('LocalObjectReference', { name: s.string })),
  automountServiceAccountToken: s.pointer(s.bool),
});

export const TOKEN_REQUEST = kind('TokenRequest', {
  spec: s.struct('TokenRequestSpec', {
    audiences: s.always(s.list(s.string)),
    expirationSeconds: s.pointer(s.int64),
    boundObjectRef: s.pointer(OBJECT_REFERENCE),
  }),
  status: s.struct('TokenRequestStatus', { token: s.string, expirationTimestamp: s.time }),
});

const RULES = s.list(
  s.struct('PolicyRule', {
    verbs: s.always(s.list(s.string)),
    apiGroups: s.list(s.string),
    resources: s.list(s.string),
    resourceNames: s.list(s.string),
    nonResourceURLs: s.list(s.string),
  }),
);
const BINDING = {
  subjects: s.list(
    s.struct('Subject', {
      kind: s.always(s.string),
      apiGroup: s.string,
      name: s.always(s.string),
      namespace: s.string,
    }),
  ),
  roleRef: s.struct(
    'RoleRef',
    { apiGroup: s.always(s.string), kind: s.always(s.string), name: s.always(s.string) },
    { atomic: true },
  ),
};

export const ROLE = kind('Role', { rules: s.always(RULES) });
export const CLUSTER_ROLE = kind('ClusterRole', {
  rules: s.always(RULES),
  aggregationRule: s.pointer(s.struct('AggregationRule', { clusterRoleSelectors: s.list(s.any) })),
});
export const ROLE_BINDING = kind('RoleBinding', BINDING);
export const CLUSTER_ROLE_BINDING = kind('ClusterRoleBinding', BINDING);

export const SELF_SUBJECT_ACCESS_REVIEW = kind('SelfSubjectAccessReview', {
  spec: s.struct('SelfSubjectAccessReviewSpec', {
    resourceAttributes: s.pointer(
      s.struct('ResourceAttributes', {
        namespace: s.string,
        verb: s.string,
        group: s.string,
        version: s.string,
        resource: s.string,
        subresource: s.string,
        name: s.string,
        fieldSelector: s.any,
        labelSelector: s.any,
      }),
    ),
    nonResourceAttributes: s.pointer(s.struct('NonResourceAttributes', { path: s.string, verb: s.string })),
  }),
  status: s.struct('SubjectAccessReviewStatus', {
    allowed: s.always(s.bool),
    denied: s.bool,
    reason: s.string,
    evaluationError: s.string,
  }),
});
