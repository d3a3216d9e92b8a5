import type { ApiAnswer, LabApi } from './lab-api.ts';
import type { LabHost } from './lab-host.ts';

const PATH = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices';

/** An endpoint of a Service, on the host of that name. */
export type EndpointOn = {
  readonly host: LabHost;
  /** Default: ready. `terminating` still serves. */
  readonly state?: 'ready' | 'not-ready' | 'terminating';
};

/**
 * Says where the endpoints of a Service are, in the one EndpointSlice that it has for a family; resolves with the answer to
 * the request that said it.
 */
export async function setEndpoints(
  api: LabApi,
  service: string,
  endpoints: readonly (LabHost | EndpointOn)[],
  family: 'IPv4' | 'IPv6' = 'IPv4',
): Promise<ApiAnswer> {
  const name = family === 'IPv4' ? service : `${service}-v6`;
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, labels: { 'kubernetes.io/service-name': service } },
    addressType: family,
    endpoints: endpoints.map((each) => endpointOf('host' in each ? each : { host: each }, family)),
    ports: [{ port: 80 }],
  };
  const made = await api.request('POST', PATH, slice);
  if (made.code !== 409) {
    if (made.code >= 400) throw new Error(`POST ${PATH}: ${made.code} ${made.body['message']}`);
    return made;
  }
  const change = { endpoints: slice.endpoints };
  return api.expect('PATCH', `${PATH}/${name}`, change, 'application/merge-patch+json');
}

function endpointOf({ host, state = 'ready' }: EndpointOn, family: 'IPv4' | 'IPv6') {
  const terminating = state === 'terminating';
  return {
    addresses: [family === 'IPv4' ? host.ip : host.ip6],
    nodeName: host.name,
    conditions: { ready: state === 'ready', serving: state !== 'not-ready', terminating },
  };
}
