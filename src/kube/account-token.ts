/**
 * ServiceAccount tokens: JSON Web Tokens (RFC 7519) with a beginning and an end, which whoever has one may ask to be
 * followed by another (TokenRequest). lbd reads them only to know when to ask; what they are worth the API server decides.
 *
 *   issued ────────── half of its life: renewed ────────── 80 %: a failure is an error ────────── expired
 *
 * At half of its life, so that a host may be switched off for as long as the other half and still get a new one.
 */

import { recordOf, shortTextOf, wholeOf } from './raw.ts';

export type AccountToken = {
  readonly issuer: string;
  readonly namespace: string;
  /** The name of the ServiceAccount. */
  readonly name: string;
  /** Milliseconds since the epoch, by the API server's clock. */
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
};

const LONGEST_TOKEN = 16_384;
const LATEST_EPOCH_S = 8.64e12;
/** What clocks may be apart: beyond it, a token that is not issued yet shows that ours is wrong. */
const CLOCK_SKEW_MS = 60_000;
/** TokenRequest takes no less (apiserver validation). */
const SHORTEST_REQUEST_S = 600;

/** The token's claims when it is a ServiceAccount's and expires; undefined for every other token. Never throws. */
export function parseAccountToken(token: string): AccountToken | undefined {
  const parts = token.split('.');
  if (token.length > LONGEST_TOKEN || parts.length !== 3) return undefined;
  const claims = recordOf(decodePart(parts[1] ?? ''));
  const subject = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(shortTextOf(claims['sub'], 512) ?? '');
  const issuedAt = wholeOf(claims['iat'], 0, LATEST_EPOCH_S);
  const expiresAt = wholeOf(claims['exp'], 0, LATEST_EPOCH_S);
  const [, namespace, name] = subject ?? [];
  if (namespace === undefined || name === undefined || issuedAt === undefined || expiresAt === undefined) {
    return undefined;
  }
  if (expiresAt <= issuedAt) return undefined;
  return {
    issuer: shortTextOf(claims['iss'], 1_024) ?? '',
    namespace,
    name,
    issuedAtMs: issuedAt * 1_000,
    expiresAtMs: expiresAt * 1_000,
  };
}

function decodePart(part: string): unknown {
  try {
    const bytes = atob(part.replaceAll('-', '+').replaceAll('_', '/'));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
  } catch {
    return undefined;
  }
}

/**
 * Whether `renewed` is to be used in place of the kubeconfig's own `given`: it is the same account's and not older. An
 * operator who writes a new kubeconfig has the last word.
 */
export function supersedes(renewed: string, given: string): boolean {
  const [ours, theirs] = [parseAccountToken(renewed), parseAccountToken(given)];
  if (ours === undefined || theirs === undefined) return false;
  const sameAccount =
    ours.issuer === theirs.issuer && ours.namespace === theirs.namespace && ours.name === theirs.name;
  return sameAccount && ours.issuedAtMs >= theirs.issuedAtMs;
}

/** Milliseconds since the epoch at which a token is to be renewed. */
export function renewalTimeMs(token: AccountToken): number {
  return token.issuedAtMs + (token.expiresAtMs - token.issuedAtMs) / 2;
}

/** Also when our clock stands before the token's issue: it is wrong then, and a renewal too early harms nobody. */
export function isRenewalDue(token: AccountToken, nowMs: number): boolean {
  return nowMs >= renewalTimeMs(token) || nowMs < token.issuedAtMs - CLOCK_SKEW_MS;
}

/** Past four fifths of its life: somebody has to look. */
export function isRenewalLate(token: AccountToken, nowMs: number): boolean {
  return nowMs >= token.issuedAtMs + (token.expiresAtMs - token.issuedAtMs) * 0.8;
}

/** The body of a TokenRequest (authentication.k8s.io/v1); the server may grant a shorter life. */
export function tokenRequestBody(lifetimeMs: number): Readonly<Record<string, unknown>> {
  const expirationSeconds = Math.max(SHORTEST_REQUEST_S, Math.round(lifetimeMs / 1_000));
  return {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { expirationSeconds },
  };
}

/** The path of the TokenRequest of a ServiceAccount. */
export function tokenRequestPath({ namespace, name }: Pick<AccountToken, 'namespace' | 'name'>): string {
  const [where, who] = [encodeURIComponent(namespace), encodeURIComponent(name)];
  return `/api/v1/namespaces/${where}/serviceaccounts/${who}/token`;
}

/** The token in the answer to a TokenRequest; undefined when there is none of this account. */
export function grantedToken(
  answer: unknown,
  account: Pick<AccountToken, 'namespace' | 'name'>,
): { readonly text: string; readonly token: AccountToken } | undefined {
  const text = shortTextOf(recordOf(recordOf(answer)['status'])['token'], LONGEST_TOKEN);
  const token = text === undefined ? undefined : parseAccountToken(text);
  if (text === undefined || token === undefined) return undefined;
  return token.namespace === account.namespace && token.name === account.name ? { text, token } : undefined;
}

/** How the token stands, for status: the daemon's clock is not the API server's, so these are about. */
export type TokenStatus = {
  /** `namespace/name` of the ServiceAccount. */
  readonly account: string;
  /** Negative once it is expired. */
  readonly expiresInMs: number;
  readonly renewsInMs: number;
  /** Past four fifths of its life. */
  readonly isLate: boolean;
  /** Why the last attempt to renew it failed; undefined when it did not. */
  readonly error: string | undefined;
};

export function tokenStatus(token: AccountToken, nowMs: number, error: string | undefined): TokenStatus {
  return {
    account: `${token.namespace}/${token.name}`,
    expiresInMs: token.expiresAtMs - nowMs,
    renewsInMs: renewalTimeMs(token) - nowMs,
    isLate: isRenewalLate(token, nowMs),
    error,
  };
}
