// What the bundle holds in place of modules that lbd reaches only through an import at the top of client-node's
// config.js. KubeConfig is used for kubeconfig files, credentials and TLS; the generated API (six hundred modules)
// and undici are behind methods that lbd never calls, and the rarer credentials and proxies can wait until a
// kubeconfig asks for them.

import { dirname } from 'node:path';

const KUBE_CONFIG = '@kubernetes/client-node/dist/config.js';

const unavailable = (name, method) =>
  `export class ${name} { constructor() { throw new Error('${name} is left out of this executable: KubeConfig.${method}() does not work in it'); } }`;

/** An authenticator that knows its provider's name and loads its code at the first user who has it. */
const lazyAuthenticator = (name, provider, module) => `
  export class ${name} {
    isAuthProvider(user) { return user?.authProvider?.name === '${provider}'; }
    async applyAuthentication(user, options) {
      this.loaded ??= new (await import('${module}')).${name}();
      return this.loaded.applyAuthentication(user, options);
    }
  }`;

/** A class whose code is run at the first \`new\`. */
const lazyClass = (name, module) => `
  export const ${name} = function (...args) { return Reflect.construct(require('${module}').${name}, args); };`;

const REPLACEMENTS = {
  './gen/index.js': `
    ${unavailable('ServerConfiguration', 'makeApiClient')}
    export function createConfiguration() { return new ServerConfiguration(); }`,
  undici: `${unavailable('Agent', 'createDispatcher')}\n${unavailable('ProxyAgent', 'createDispatcher')}`,
  './azure_auth.js': lazyAuthenticator('AzureAuth', 'azure', './azure_auth.js'),
  './gcp_auth.js': lazyAuthenticator('GoogleCloudPlatformAuth', 'gcp', './gcp_auth.js'),
  './oidc_auth.js': lazyAuthenticator('OpenIDConnectAuth', 'oidc', './oidc_auth.js'),
  'socks-proxy-agent': lazyClass('SocksProxyAgent', 'socks-proxy-agent'),
  socks: `export const SocksClient = { createConnection(...args) { return require('socks').SocksClient.createConnection(...args); } };`,
};

/**
 * The esbuild plugin, and a check to run after the build: it throws when client-node is in the bundle but one of the
 * imports replaced here is not, which is what an upgrade that moved a file looks like. A name that a replacement lacks
 * is an esbuild warning, and a warning fails the build.
 */
export function replaceModules() {
  const replaced = new Set();
  const plugin = {
    name: 'replace-modules',
    setup(build) {
      build.onResolve({ filter: /^(\.\/|undici$|socks)/ }, ({ path, importer, namespace }) => {
        if (namespace !== 'file' || !importer.endsWith(KUBE_CONFIG) || REPLACEMENTS[path] === undefined)
          return undefined;
        replaced.add(path);
        return { path, namespace: 'replacement', sideEffects: false, pluginData: dirname(importer) };
      });
      build.onLoad({ filter: /.*/, namespace: 'replacement' }, ({ path, pluginData }) => ({
        contents: REPLACEMENTS[path],
        loader: 'js',
        resolveDir: pluginData,
      }));
    },
  };
  return {
    plugin,
    check(inputs) {
      if (!inputs.some((path) => path.endsWith(KUBE_CONFIG))) return;
      const missing = Object.keys(REPLACEMENTS).filter((path) => !replaced.has(path));
      if (missing.length === 0) return;
      throw new Error(
        `bundle: ${KUBE_CONFIG} does not import ${missing.join(', ')}, which scripts/bundle-replacements.mjs replaces: look at what this version of client-node imports instead`,
      );
    },
  };
}
