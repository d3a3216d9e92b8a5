/** Where the package puts things; apart from the schema, so that a command needs not load it for a default. */
export const DEFAULT_CONFIG_FILE = '/etc/lbd.toml';
export const DEFAULT_SOCKET = '/run/lbd/lbd.sock';
export const DEFAULT_KUBECONFIG = '/etc/lbd/kubeconfig';
export const DEFAULT_KEY_FILE = '/etc/lbd/gossip.keys';

/** Where lbd makes the routes of virtual addresses itself: the main table, and the number that tags all of lbd. */
export const DEFAULT_ROUTES = { table: 254, protocol: 108 };
