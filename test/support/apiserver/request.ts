/** What a URL, its query and its Accept header ask for. */

import { badRequest, notAcceptable } from './errors.ts';

/** The shape of the answer: the objects, a table for kubectl, or only their metadata. */
export type View = 'object' | 'table' | 'partial';

export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  /** '' cluster-wide. */
  readonly namespace: string;
  /** '' for a collection. */
  readonly name: string;
  /** '' for the resource itself. */
  readonly subresource: string;
}

/** Splits `/api/v1/namespaces/a/services/b/status`; undefined when the path names no resource. */
export function resourcePath(path: string): ResourcePath | undefined {
  const parts = path.split('/').slice(1).map(decodeURIComponent);
  let group = '';
  let rest: string[];
  if (parts[0] === 'api' && parts.length > 2) rest = parts.slice(1);
  else if (parts[0] === 'apis' && parts.length > 3) {
    group = parts[1] ?? '';
    rest = parts.slice(2);
  } else return undefined;
  const version = rest[0] ?? '';
  rest = rest.slice(1);
  let namespace = '';
  const isSubresource = rest[2] === 'status' || rest[2] === 'finalize';
  if (rest[0] === 'namespaces' && rest.length > 2 && !isSubresource) {
    namespace = rest[1] ?? '';
    rest = rest.slice(2);
  }
  const [plural = '', name = '', ...sub] = rest;
  return { group, version, plural, namespace, name, subresource: sub.join('/') };
}

/**
 * Picks the first media type of the Accept header that can be served (quality values are not weighed: clients
 * of the Kubernetes API list what they like best first). Throws 406 when none can.
 */
export function viewOf(accept: string | undefined): View {
  if (accept === undefined || accept.trim() === '') return 'object';
  for (const part of accept.split(',')) {
    const [type = '', ...parameters] = part.split(';').map((text) => text.trim());
    if (!['application/json', 'application/*', '*/*'].includes(type)) continue;
    const as = parameters.find((parameter) => parameter.startsWith('as='))?.slice(3);
    if (as === undefined) return 'object';
    if (!parameters.includes('g=meta.k8s.io') || !parameters.includes('v=v1')) continue;
    if (as === 'Table') return 'table';
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return 'partial';
  }
  throw notAcceptable(['application/json']);
}

export function flag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  return value !== null && value !== 'false' && value !== '0';
}

/** A whole number from the query, or undefined when absent. Throws 400 for anything else. */
export function wholeNumber(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name);
  if (value === null || value === '') return undefined;
  if (!/^\d+$/.test(value))
    throw badRequest(`${name}: expected a whole number, got ${JSON.stringify(value)}`);
  return Number(value);
}

/** A resourceVersion as a number; '' means "not given" and gives undefined. Throws 400 for a malformed one. */
export function revisionOf(text: string, field: string): number | undefined {
  if (text === '') return undefined;
  if (!/^\d+$/.test(text)) {
    throw badRequest(
      `${field}: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  }
  return Number(text);
}
