/** The two kinds that are answered and not stored: access reviews and token requests. */

import { at, type JsonObject, numberOf, objectOf, stringOf } from './json.ts';
import { SELF_SUBJECT_ACCESS_REVIEW, TOKEN_REQUEST } from './kinds.ts';
import type { Authorizer } from './rbac.ts';
import { decode, timeText } from './schema.ts';
import { authenticated, type Identity, type Users } from './users.ts';

const DEFAULT_TOKEN_SECONDS = 3600;

/** `kubectl auth can-i` for the asking user. */
export function accessReview(body: JsonObject, identity: Identity, authorizer: Authorizer): JsonObject {
  const review = decode(SELF_SUBJECT_ACCESS_REVIEW, body, 'v1', { unknown: [] });
  const asked = at(review, 'spec', 'resourceAttributes');
  const subresource = stringOf(at(asked, 'subresource'));
  const resource = stringOf(at(asked, 'resource'));
  const allowed =
    asked === undefined
      ? authorizer.allowsPath(identity, stringOf(at(review, 'spec', 'nonResourceAttributes', 'path')))
      : authorizer.allows(identity, {
          verb: stringOf(at(asked, 'verb')),
          group: stringOf(at(asked, 'group')),
          resource: subresource === '' ? resource : `${resource}/${subresource}`,
          namespace: stringOf(at(asked, 'namespace')),
          name: stringOf(at(asked, 'name')),
        });
  return {
    ...review,
    kind: 'SelfSubjectAccessReview',
    apiVersion: 'authorization.k8s.io/v1',
    status: { allowed },
  };
}

/** A bearer token for a service account, valid as long as asked (an hour by default). */
export function tokenRequest(body: JsonObject, namespace: string, name: string, users: Users): JsonObject {
  const request = decode(TOKEN_REQUEST, body, 'v1', { unknown: [] });
  const seconds = numberOf(at(request, 'spec', 'expirationSeconds')) || DEFAULT_TOKEN_SECONDS;
  const issuedAtMs = Date.now();
  const expiresAtMs = issuedAtMs + seconds * 1000;
  const identity = authenticated(`system:serviceaccount:${namespace}:${name}`, [
    'system:serviceaccounts',
    `system:serviceaccounts:${namespace}`,
  ]);
  return {
    ...request,
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace },
    spec: { ...objectOf(request['spec']), expirationSeconds: seconds },
    status: {
      token: users.issue(identity, issuedAtMs, expiresAtMs),
      expirationTimestamp: timeText(expiresAtMs),
    },
  };
}
