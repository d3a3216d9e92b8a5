/** GET of one object and LIST of many, with the resourceVersion and paging rules of the API. */

import { type Cluster, keyOf, prefixOf } from './cluster.ts';
import {
  ApiError,
  badRequest,
  expired,
  type FieldError,
  forbiddenField,
  invalid,
  notFound,
  tooLargeResourceVersion,
  unsupportedField,
} from './errors.ts';
import type { JsonObject } from './json.ts';
import { flag, revisionOf, wholeNumber } from './request.ts';
import type { Resource } from './resources.ts';
import { all, fieldSelector, labelSelector, type Predicate } from './selectors.ts';
import type { Entry } from './store.ts';
import { apiVersionOf } from './tables.ts';

const LIST_OPTIONS = { group: 'meta.k8s.io', plural: 'listoptions', kind: 'ListOptions' };

/** How long a read waits for a revision that is still to come before it answers 504. */
const FRESHNESS_WAIT_MS = 3000;
const FRESHNESS_POLL_MS = 20;

export interface ListResult {
  readonly entries: Entry[];
  readonly metadata: JsonObject;
}

export function selectorOf(resource: Resource, query: URLSearchParams): Predicate | undefined {
  const describe = `${apiVersionOf(resource)}, Kind=${resource.kind}`;
  return all(
    labelSelector(query.get('labelSelector') ?? ''),
    fieldSelector(query.get('fieldSelector') ?? '', resource.selectable, describe),
  );
}

/** Throws 404 when absent. */
export async function getEntry(
  cluster: Cluster,
  resource: Resource,
  namespace: string,
  name: string,
  query: URLSearchParams,
): Promise<Entry> {
  const wanted = revisionOf(query.get('resourceVersion') ?? '', 'resourceVersion');
  if (wanted !== undefined) await untilFresh(cluster, wanted);
  const entry = cluster.table(resource).get(keyOf(resource, namespace, name));
  if (entry === undefined) throw notFound(resource, name);
  return entry;
}

async function untilFresh(cluster: Cluster, revision: number): Promise<void> {
  const deadline = Date.now() + FRESHNESS_WAIT_MS;
  while (revision > cluster.revisions.current) {
    if (Date.now() >= deadline) throw tooLargeResourceVersion(revision, cluster.revisions.current);
    await new Promise((resolve) => setTimeout(resolve, FRESHNESS_POLL_MS));
  }
}

/** One page of a list, in key order, as of one revision. */
export async function listEntries(
  cluster: Cluster,
  resource: Resource,
  namespace: string,
  query: URLSearchParams,
): Promise<ListResult> {
  const revisionText = query.get('resourceVersion') ?? '';
  const match = query.get('resourceVersionMatch') ?? '';
  const token = query.get('continue') ?? '';
  checkListOptions(query, revisionText, match, token);
  const wanted = revisionOf(revisionText, 'resourceVersion');
  const table = cluster.table(resource);
  const prefix = prefixOf(resource, namespace);
  const selector = selectorOf(resource, query);
  // a list at "0" is served from the cache, which knows no pages
  const limit = wanted === 0 ? 0 : (wholeNumber(query, 'limit') ?? 0);
  if (token !== '') return continued(cluster, resource, prefix, selector, limit, token);

  const exact = match === 'Exact' || (match === '' && limit > 0 && (wanted ?? 0) > 0);
  if (wanted !== undefined && !exact) await untilFresh(cluster, wanted);
  const revision = exact ? (wanted ?? 0) : cluster.revisions.current;
  const entries = exact ? table.listAt(prefix, revision) : table.list(prefix);
  return page(entries, selector, limit, revision);
}

function checkListOptions(query: URLSearchParams, revision: string, match: string, token: string): void {
  const errors: FieldError[] = [];
  const field = 'resourceVersionMatch';
  if (query.has('sendInitialEvents')) {
    errors.push(forbiddenField('sendInitialEvents', 'sendInitialEvents is forbidden for list'));
  }
  if (match !== '') {
    if (revision === '')
      errors.push(
        forbiddenField(field, 'resourceVersionMatch is forbidden unless resourceVersion is provided'),
      );
    if (token !== '')
      errors.push(forbiddenField(field, 'resourceVersionMatch is forbidden when continue is provided'));
    if (match !== 'Exact' && match !== 'NotOlderThan')
      errors.push(unsupportedField(field, match, ['Exact', 'NotOlderThan', '']));
    if (match === 'Exact' && revision === '0') {
      errors.push(forbiddenField(field, 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'));
    }
  }
  if (errors.length > 0) throw invalid(LIST_OPTIONS, '', errors);
  if (token !== '' && revision !== '' && revision !== '0') {
    throw badRequest('specifying resource version is not allowed when using continue');
  }
}

interface Continue {
  readonly v: string;
  /** The revision of the first page; -1 for "whatever is current". */
  readonly rv: number;
  readonly start: string;
}

function continueToken(revision: number, lastKey: string): string {
  const token: Continue = { v: 'meta.k8s.io/v1', rv: revision, start: `${lastKey}\u0000` };
  return Buffer.from(JSON.stringify(token)).toString('base64url');
}

function parseContinue(text: string): Continue {
  try {
    const token: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    const { v, rv, start } = token as Continue;
    if (v === 'meta.k8s.io/v1' && Number.isInteger(rv) && typeof start === 'string') return { v, rv, start };
  } catch {
    // falls through to the same answer
  }
  throw badRequest('continue key is not valid: illegal base64 or unknown format');
}

/** The next page. An expired token gives 410 with a new token that goes on inconsistently, as documented. */
function continued(
  cluster: Cluster,
  resource: Resource,
  prefix: string,
  selector: Predicate | undefined,
  limit: number,
  text: string,
): ListResult {
  const token = parseContinue(text);
  const table = cluster.table(resource);
  const revision = token.rv < 0 ? cluster.revisions.current : token.rv;
  let entries: Entry[];
  try {
    entries = token.rv < 0 ? table.list(prefix) : table.listAt(prefix, token.rv);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 410) throw error;
    const again: Continue = { ...token, rv: -1 };
    throw expired(
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.',
      Buffer.from(JSON.stringify(again)).toString('base64url'),
    );
  }
  return page(
    entries.filter((entry) => entry.key >= token.start),
    selector,
    limit,
    revision,
  );
}

function page(
  entries: Entry[],
  selector: Predicate | undefined,
  limit: number,
  revision: number,
): ListResult {
  const matching = selector === undefined ? entries : entries.filter((entry) => selector(entry.object));
  const metadata: JsonObject = { resourceVersion: String(revision) };
  const last = limit > 0 && matching.length > limit ? matching[limit - 1] : undefined;
  if (last === undefined) return { entries: matching, metadata };
  metadata['continue'] = continueToken(revision, last.key);
  // with a selector the rest is unknown to etcd, so the real server leaves the count out
  if (selector === undefined) metadata['remainingItemCount'] = matching.length - limit;
  return { entries: matching.slice(0, limit), metadata };
}

/** True for a LIST request that is a WATCH. */
export function isWatch(query: URLSearchParams): boolean {
  return query.has('watch') && flag(query, 'watch');
}
