/** Why a request to the API server did not do what it was for, and how that is said to an operator. */

import { recordOf, textOf, wholeOf } from './raw.ts';

export type ApiFailure = {
  /**
   * `http`: the server answered and declined. `network`: no answer (connection, TLS).
   * `timeout`: no answer in time. `protocol`: an answer that
   * is not the Kubernetes API. `withdrawn`: never sent, because its sender might not send it any more. `too-large`: more than the named limit of a body or line. `credentials`: nothing to ask with.
   */
  readonly kind: 'http' | 'network' | 'timeout' | 'protocol' | 'too-large' | 'credentials' | 'withdrawn';
  /** HTTP status, or the code of a Status object in a watch; undefined when no server answered. */
  readonly status: number | undefined;
  /** metav1.Status.reason: `Forbidden`, `Expired`, `Conflict`. */
  readonly reason: string | undefined;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
};

const LONGEST_RETRY_AFTER_S = 120;

/** The failure that an HTTP status and a body (parsed, mostly a metav1.Status) stand for. */
export function httpFailure(status: number, body: unknown, retryAfterHeader: string | undefined): ApiFailure {
  const record = recordOf(body);
  const details = recordOf(record['details']);
  const seconds =
    (retryAfterHeader !== undefined && /^\d{1,9}$/.test(retryAfterHeader)
      ? Number(retryAfterHeader)
      : undefined) ?? wholeOf(details['retryAfterSeconds'], 1, 1e9);
  return {
    kind: 'http',
    status,
    reason: textOf(record['reason'], 64),
    message: textOf(record['message'], 512) ?? textOf(body, 256) ?? '',
    retryAfterMs: seconds === undefined ? undefined : Math.min(seconds, LONGEST_RETRY_AFTER_S) * 1_000,
  };
}

export function otherFailure(kind: Exclude<ApiFailure['kind'], 'http'>, message: string): ApiFailure {
  return { kind, status: undefined, reason: undefined, message, retryAfterMs: undefined };
}

/** `cannot list services: 403 … (grant verb list on services)`: what lbd tried, what came back, what to do. */
export function failureText(failure: ApiFailure, verb: string, resource: string): string {
  const what = `cannot ${verb} ${resource}`;
  if (failure.status === undefined) return `${what}: ${failure.message}`;
  const said = `${what}: ${failure.status} ${failure.message || (failure.reason ?? '')}`.trimEnd();
  if (failure.status === 401) return `${said} (the credentials in the kubeconfig are refused)`;
  if (failure.status === 403) return `${said} (grant verb ${verb} on ${resource})`;
  return said;
}
