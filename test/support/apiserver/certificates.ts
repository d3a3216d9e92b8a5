/** A throw-away certificate authority, minted with the openssl command at start. */

import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Pair {
  readonly certPem: string;
  readonly keyPem: string;
}

const VALID_DAYS = '3650';

/** Signs server and client certificates. Everything lives in memory; openssl's files are removed at once. */
export class CertificateAuthority {
  readonly certPem: string;
  private readonly keyPem: string;

  private constructor(pair: Pair) {
    this.certPem = pair.certPem;
    this.keyPem = pair.keyPem;
  }

  static create(commonName: string): CertificateAuthority {
    const extensions = [
      'basicConstraints=critical,CA:TRUE',
      'keyUsage=critical,digitalSignature,keyCertSign,cRLSign',
      'subjectKeyIdentifier=hash',
    ];
    return new CertificateAuthority(mint({ CN: [commonName] }, extensions, undefined));
  }

  /** A certificate for a server reachable under the given names and addresses. */
  server(hosts: readonly string[]): Pair {
    const names = [...new Set(hosts)].map((host) => (isIP(host) === 0 ? `DNS:${host}` : `IP:${host}`));
    return this.sign({ CN: ['kube-apiserver'] }, [
      `subjectAltName=${names.join(',')}`,
      'extendedKeyUsage=serverAuth',
    ]);
  }

  /** A client certificate: the common name is the user, each organization one group. */
  client(user: string, groups: readonly string[]): Pair {
    return this.sign({ O: groups, CN: [user] }, ['extendedKeyUsage=clientAuth']);
  }

  private sign(subject: Subject, extensions: readonly string[]): Pair {
    return mint(
      subject,
      ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', ...extensions],
      { certPem: this.certPem, keyPem: this.keyPem },
    );
  }
}

type Subject = Readonly<Record<string, readonly string[]>>;

function mint(subject: Subject, extensions: readonly string[], issuer: Pair | undefined): Pair {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-ca-'));
  try {
    const keyPem = newKey();
    const file = (name: string, text: string): string => {
      const path = join(directory, name);
      writeFileSync(path, text, { mode: 0o600 });
      return path;
    };
    const config = file('openssl.cnf', opensslConfig(subject, extensions));
    const key = file('key.pem', keyPem);
    const request = ['req', '-new', '-config', config, '-key', key, '-sha256'];
    const out = join(directory, 'cert.pem');
    const serial = `0x${randomBytes(8).toString('hex')}`;
    if (issuer === undefined) {
      openssl([...request, '-x509', '-days', VALID_DAYS, '-set_serial', serial, '-out', out]);
    } else {
      const csr = join(directory, 'request.pem');
      openssl([...request, '-out', csr]);
      const ca = ['-CA', file('ca.pem', issuer.certPem), '-CAkey', file('ca-key.pem', issuer.keyPem)];
      openssl([
        'x509',
        '-req',
        '-in',
        csr,
        ...ca,
        '-set_serial',
        serial,
        '-days',
        VALID_DAYS,
        '-sha256',
        '-extfile',
        config,
        '-extensions',
        'extensions',
        '-out',
        out,
      ]);
    }
    return { certPem: readFileSync(out, 'utf8'), keyPem };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function newKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' }))
    .export({ type: 'sec1', format: 'pem' })
    .toString();
}

function opensslConfig(subject: Subject, extensions: readonly string[]): string {
  const names = Object.entries(subject).flatMap(([type, values]) => values.map((value) => [type, value]));
  return [
    '[req]',
    'prompt = no',
    'distinguished_name = subject',
    'x509_extensions = extensions',
    '[subject]',
    // openssl tells repeated attributes apart by a numbered prefix
    ...names.map(([type, value], index) => `${index}.${type} = ${value}`),
    '[extensions]',
    ...extensions,
    '',
  ].join('\n');
}

function openssl(parameters: readonly string[]): void {
  execFileSync('openssl', parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
}
