/** Writes a kubeconfig with one cluster, one user and one context. */

export type Credential =
  | { readonly form: 'token'; readonly token: string }
  | { readonly form: 'tokenFile'; readonly path: string }
  | { readonly form: 'clientCertificate'; readonly certPem: string; readonly keyPem: string }
  | { readonly form: 'exec'; readonly command: string; readonly args: readonly string[] };

export interface Kubeconfig {
  readonly server: string;
  readonly caPem: string;
  readonly user: string;
  readonly credential: Credential;
  readonly namespace: string | undefined;
}

export function kubeconfig(config: Kubeconfig): string {
  const user = JSON.stringify(config.user);
  return [
    'apiVersion: v1',
    'kind: Config',
    'clusters:',
    '- name: test',
    '  cluster:',
    `    server: ${config.server}`,
    `    certificate-authority-data: ${base64(config.caPem)}`,
    'users:',
    `- name: ${user}`,
    '  user:',
    ...credentialLines(config.credential).map((line) => `    ${line}`),
    'contexts:',
    '- name: test',
    '  context:',
    '    cluster: test',
    `    user: ${user}`,
    ...(config.namespace === undefined ? [] : [`    namespace: ${config.namespace}`]),
    'current-context: test',
    '',
  ].join('\n');
}

function credentialLines(credential: Credential): string[] {
  switch (credential.form) {
    case 'token':
      return [`token: ${credential.token}`];
    case 'tokenFile':
      return [`tokenFile: ${credential.path}`];
    case 'clientCertificate':
      return [
        `client-certificate-data: ${base64(credential.certPem)}`,
        `client-key-data: ${base64(credential.keyPem)}`,
      ];
    case 'exec':
      return [
        'exec:',
        '  apiVersion: client.authentication.k8s.io/v1',
        `  command: ${credential.command}`,
        `  args: ${JSON.stringify(credential.args)}`,
        '  interactiveMode: Never',
      ];
    default:
      return credential satisfies never;
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
