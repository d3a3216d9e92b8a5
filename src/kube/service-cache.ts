/**
 * The file of last known Services: what it says, and how it is read back. A host that reboots while the API server is away
 * serves from it what it served before (safety rule 7).
 */

import { fail, ok, type Result } from '../lib/result.ts';
import { type Item, serviceItem } from './objects.ts';
import { recordOf, wholeOf } from './raw.ts';
import type { Service } from './types.ts';

/** Raised when the meaning of a field changes; a file of another version is ignored. */
const CACHE_VERSION = 1;
export const MOST_CACHED_SERVICES = 10_000;
export const LARGEST_CACHE_BYTES = 16 * 1_024 * 1_024;

export type CacheText = { readonly text: string /** Left out for want of room. */; readonly omitted: number };

/**
 * The file's content, oldest Services first: with more than fit it is the newest that are left out. One JSON object a
 * line, so that a person can read it. Objects are written in the shape of the API, so that one reader serves both.
 */
export function cacheText(services: Iterable<Service>, server: string): CacheText {
  const sorted = [...services].sort((left, right) => left.createdAt - right.createdAt);
  const lines: string[] = [];
  let bytes = 1_024;
  for (const service of sorted) {
    const line = JSON.stringify(apiShape(service));
    bytes += mostBytes(line) + 2;
    if (lines.length === MOST_CACHED_SERVICES || bytes > LARGEST_CACHE_BYTES) break;
    lines.push(line);
  }
  const head = `{"version":${CACHE_VERSION},"server":${JSON.stringify(server)},"services":[`;
  return { text: `${head}\n${lines.join(',\n')}\n]}\n`, omitted: sorted.length - lines.length };
}

/**
 * The Services that a file holds. Fails, saying why, for anything that is not a whole file of this version; `server`
 * guards against serving the Services of another cluster after the kubeconfig was changed.
 */
export function parseCache(text: string, server: string): Result<readonly Item<Service>[], string> {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return fail('it is no JSON');
  }
  const record = recordOf(document);
  if (record['version'] !== CACHE_VERSION) {
    return fail(`expected version ${CACHE_VERSION}, got ${JSON.stringify(record['version'])}`);
  }
  if (record['server'] !== server) {
    return fail(
      `it is of server ${JSON.stringify(record['server'])}, the kubeconfig names ${JSON.stringify(server)}`,
    );
  }
  const services = record['services'];
  if (!Array.isArray(services)) return fail('it holds no list of services');
  return ok(services.slice(0, MOST_CACHED_SERVICES).flatMap((raw) => cachedItem(raw) ?? []));
}

function cachedItem(raw: unknown): Item<Service> | undefined {
  const item = serviceItem(raw);
  if (item?.value === undefined) return undefined;
  const createdAt = wholeOf(recordOf(raw)['createdAt'], 0, Number.MAX_SAFE_INTEGER) ?? 0;
  return { ...item, value: { ...item.value, createdAt } };
}

/** In UTF-8; exact for ASCII, otherwise no UTF-16 unit takes more than 3 bytes. */
function mostBytes(text: string): number {
  return /^[\x20-\x7e]*$/.test(text) ? text.length : text.length * 3;
}

function apiShape(service: Service): unknown {
  return {
    createdAt: service.createdAt,
    metadata: {
      namespace: service.namespace,
      name: service.name,
      uid: service.uid,
      resourceVersion: service.resourceVersion,
      ...(service.deleting ? { deletionTimestamp: 'set' } : {}),
      annotations: service.annotations,
    },
    spec: {
      type: service.type,
      loadBalancerClass: service.loadBalancerClass,
      loadBalancerIP: service.loadBalancerIp,
      externalTrafficPolicy: service.externalTrafficPolicy,
      healthCheckNodePort: service.healthCheckNodePort,
      ipFamilies: service.ipFamilies,
      ipFamilyPolicy: service.ipFamilyPolicy,
      ports: service.ports,
    },
    status: { loadBalancer: { ingress: service.ingress } },
  };
}
