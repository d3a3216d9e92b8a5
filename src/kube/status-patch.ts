/** The merge patch (RFC 7386) that writes a Service's addresses into its status, and what an answer to it means. */

import type { Ip } from '../lib/ip.ts';
import type { ApiFailure } from './api-failure.ts';
import type { Service } from './types.ts';

/**
 * For the `status` subresource. uid and resourceVersion are preconditions: the patch applies to the very object that
 * the decision was made from, or fails with 409. Without addresses the ingress list is removed.
 */
export function statusPatch(service: Service, ips: readonly Ip[], withIpMode: boolean): unknown {
  const ingress = ips.map((ip) => (withIpMode ? { ip, ipMode: 'VIP' } : { ip }));
  return {
    metadata: { uid: service.uid, resourceVersion: service.resourceVersion },
    status: { loadBalancer: { ingress: ingress.length === 0 ? null : ingress } },
  };
}

/** `retry-without-mode`: a server before Kubernetes 1.29 does not know ipMode (most just ignore it). */
export function patchVerdict(failure: ApiFailure): 'stale' | 'gone' | 'retry-without-mode' | 'failed' {
  if (failure.status === 409) return 'stale';
  if (failure.status === 404) return 'gone';
  const invalid = failure.status === 422 || failure.status === 400;
  return invalid && failure.message.includes('ipMode') ? 'retry-without-mode' : 'failed';
}
