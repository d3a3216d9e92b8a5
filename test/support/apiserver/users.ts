/** Who may knock: users, their bearer tokens (with files that follow a rotation) and client certificates. */

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CertificateAuthority, Pair } from './certificates.ts';
import { type Credential, kubeconfig } from './kubeconfig.ts';
import type { CredentialForm, KubeconfigOptions } from './types.ts';

export interface Identity {
  readonly name: string;
  readonly groups: readonly string[];
}

export const ANONYMOUS: Identity = { name: 'system:anonymous', groups: ['system:unauthenticated'] };
const AUTHENTICATED = 'system:authenticated';

/** The identity of a user that proved who it is. */
export function authenticated(name: string, groups: readonly string[]): Identity {
  return { name, groups: [...groups.filter((group) => group !== AUTHENTICATED), AUTHENTICATED] };
}

interface Token {
  readonly identity: Identity;
  readonly expiresAtMs: number;
}

interface User {
  readonly name: string;
  readonly groups: readonly string[];
  token: string;
  certificate: Pair | undefined;
}

export class Users {
  private readonly authority: CertificateAuthority;
  private readonly users = new Map<string, User>();
  private readonly tokens = new Map<string, Token>();
  private ownDirectory: string | undefined;
  private readonly givenDirectory: string | undefined;

  /** Token files go to the directory, or to a temporary one that dispose() removes. */
  constructor(authority: CertificateAuthority, directory: string | undefined) {
    this.authority = authority;
    this.givenDirectory = directory;
  }

  /** Creates the user, or changes the groups of an existing one, whose token stays. */
  set(name: string, groups: readonly string[]): void {
    const known = this.users.get(name);
    const user: User = { name, groups, token: known?.token ?? newToken(), certificate: undefined };
    this.users.set(name, user);
    this.tokens.set(user.token, {
      identity: authenticated(name, groups),
      expiresAtMs: Number.POSITIVE_INFINITY,
    });
  }

  /** A token for a service account: a JSON Web Token with the claims that a real one has, signed by nobody. */
  issue(identity: Identity, issuedAtMs: number, expiresAtMs: number): string {
    const token = webToken({
      aud: ['https://kubernetes.default.svc'],
      iss: 'https://kubernetes.default.svc',
      sub: identity.name,
      jti: newToken(),
      iat: Math.floor(issuedAtMs / 1000),
      nbf: Math.floor(issuedAtMs / 1000),
      exp: Math.floor(expiresAtMs / 1000),
    });
    this.tokens.set(token, { identity, expiresAtMs });
    return token;
  }

  /** Who the token stands for; undefined when it is unknown, expired or revoked. */
  identify(token: string, nowMs: number): Identity | undefined {
    const known = this.tokens.get(token);
    return known === undefined || known.expiresAtMs <= nowMs ? undefined : known.identity;
  }

  tokenOf(name: string): string {
    return this.user(name).token;
  }

  rotate(name: string): string {
    const user = this.user(name);
    this.tokens.delete(user.token);
    user.token = newToken();
    this.set(name, user.groups);
    this.writeFiles(user.name);
    return user.token;
  }

  revoke(name: string): void {
    for (const [token, { identity }] of this.tokens) if (identity.name === name) this.tokens.delete(token);
  }

  kubeconfigFor(name: string, url: string, options: KubeconfigOptions): string {
    const credential = this.credential(name, options.form ?? 'token');
    return kubeconfig({
      server: options.server ?? url,
      caPem: this.authority.certPem,
      user: name,
      credential,
      namespace: options.namespace,
    });
  }

  private credential(name: string, form: CredentialForm): Credential {
    const user = this.user(name);
    switch (form) {
      case 'token':
        return { form, token: user.token };
      case 'tokenFile':
        return { form, path: this.writeFiles(name).token };
      case 'exec':
        return { form, command: 'cat', args: [this.writeFiles(name).execCredential] };
      case 'clientCertificate':
        user.certificate ??= this.authority.client(user.name, user.groups);
        return { form, ...user.certificate };
      default:
        return form satisfies never;
    }
  }

  private writeFiles(name: string): { token: string; execCredential: string } {
    const { token } = this.user(name);
    const files = {
      token: join(this.directory(), `${name}.token`),
      execCredential: join(this.directory(), `${name}.exec.json`),
    };
    writeFileSync(files.token, token, { mode: 0o600 });
    const credential = {
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token },
    };
    writeFileSync(files.execCredential, JSON.stringify(credential), { mode: 0o600 });
    return files;
  }

  private directory(): string {
    if (this.givenDirectory !== undefined) {
      mkdirSync(this.givenDirectory, { recursive: true });
      return this.givenDirectory;
    }
    this.ownDirectory ??= mkdtempSync(join(tmpdir(), 'lbd-users-'));
    return this.ownDirectory;
  }

  private user(name: string): User {
    const user = this.users.get(name);
    if (user === undefined) throw new Error(`no user ${JSON.stringify(name)}: createUser() it first`);
    return user;
  }

  dispose(): void {
    if (this.ownDirectory !== undefined) rmSync(this.ownDirectory, { recursive: true, force: true });
  }
}

function webToken(claims: object): string {
  const [head, body] = [{ alg: 'RS256', kid: 'test' }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  );
  return `${head}.${body}.${newToken()}`;
}

function newToken(): string {
  return randomBytes(24).toString('base64url');
}
