/**
 * The token authentication webhook of a real kube-apiserver, answered from our own user table: that is what
 * makes tokens of a real server as changeable at run time as the stand-in's.
 */

import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { CertificateAuthority } from './certificates.ts';
import { at, stringOf } from './json.ts';
import type { Users } from './users.ts';

export interface TokenWebhook {
  readonly url: string;
  close(): void;
}

export async function startTokenWebhook(
  authority: CertificateAuthority,
  users: Users,
): Promise<TokenWebhook> {
  const { certPem, keyPem } = authority.server(['127.0.0.1']);
  const server: Server = createServer({ cert: certPem, key: keyPem }, async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const identity = users.identify(stringOf(at(JSON.parse(text), 'spec', 'token')), Date.now());
    const status =
      identity === undefined
        ? { authenticated: false }
        : { authenticated: true, user: { username: identity.name, groups: identity.groups } };
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', status }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
