/** What may be on a host when lbd is installed there, and whether that counts as a configuration. */
type Configuration = {
  readonly what: string;
  /** The whole of /etc/lbd.toml, /etc/lbd.d and the kubeconfigs, by their path without the first slash. */
  readonly files: Readonly<Record<string, string>>;
  readonly counts: boolean;
};

const POOL = '[[pool]]\nname = "p"\naddresses = ["192.0.2.0/28"]\n';
const USUAL = { 'etc/lbd/kubeconfig': 'kind: Config\n' };
const ELSEWHERE = { 'srv/the kubeconfig': 'kind: Config\n' };

/** What names the kubeconfig that is elsewhere. */
const WAYS: Readonly<Record<string, string>> = {
  'double quotes': '[kubernetes]\nkubeconfig = "/srv/the kubeconfig"\n',
  'single quotes': "[kubernetes]\nkubeconfig = '/srv/the kubeconfig'\n",
  'spaces and a comment': `\t[ kubernetes ] # API\n  kubeconfig='/srv/the kubeconfig'# not "/nowhere"\n`,
  'a dotted key': "kubernetes.kubeconfig = '/srv/the kubeconfig'\n",
  'another in a comment': `[kubernetes]\nkubeconfig = '/srv/the kubeconfig'\n#kubeconfig = "/nowhere"\n`,
};

export const CONFIGURATIONS: readonly Configuration[] = [
  ...pools(),
  ...Object.entries(WAYS).flatMap(([way, text]) => namedBy(way, text)),
  namedByTwo('the last of which is there', { first: '/nowhere', last: '/srv/the kubeconfig' }, true),
  namedByTwo('the last of which is not there', { first: '/srv/the kubeconfig', last: '/nowhere' }, false),
  {
    what: 'a key of that name in another table',
    files: { ...ELSEWHERE, 'etc/lbd.toml': `${POOL}[log]\nkubeconfig = "/srv/the kubeconfig"\n` },
    counts: false,
  },
];

function pools(): readonly Configuration[] {
  const inline = 'pool = [{ name = "p", addresses = ["192.0.2.1/32"] }]\n';
  return [
    { what: 'nothing', files: { 'etc/lbd.toml': '' }, counts: false },
    { what: 'a pool without a kubeconfig', files: { 'etc/lbd.toml': POOL }, counts: false },
    {
      what: 'a pool and an empty kubeconfig',
      files: { 'etc/lbd.toml': POOL, 'etc/lbd/kubeconfig': '' },
      counts: false,
    },
    {
      what: 'a kubeconfig without a pool',
      files: { ...USUAL, 'etc/lbd.toml': '#[[pool]]\n' },
      counts: false,
    },
    { what: 'both', files: { ...USUAL, 'etc/lbd.toml': POOL }, counts: true },
    { what: 'both, the pool inline', files: { ...USUAL, 'etc/lbd.toml': inline }, counts: true },
    {
      what: 'both, the pool in a drop-in',
      files: { ...USUAL, 'etc/lbd.toml': '', 'etc/lbd.d/pools.toml': POOL },
      counts: true,
    },
    {
      what: 'both, the pool in a file that is no drop-in',
      files: { ...USUAL, 'etc/lbd.toml': '', 'etc/lbd.d/pools.toml.dpkg-old': POOL },
      counts: false,
    },
    {
      what: 'both, and a drop-in with an error',
      files: { ...USUAL, 'etc/lbd.toml': POOL, 'etc/lbd.d/bad.toml': '[log\n' },
      counts: false,
    },
    {
      what: 'both, without /etc/lbd.toml, which the unit asks for',
      files: { ...USUAL, 'etc/lbd.d/pools.toml': POOL },
      counts: false,
    },
  ];
}

function namedBy(way: string, text: string): readonly Configuration[] {
  const both = { 'etc/lbd.toml': `${text}${POOL}` };
  return [
    { what: `a kubeconfig elsewhere, with ${way}`, files: { ...ELSEWHERE, ...both }, counts: true },
    {
      what: `a kubeconfig elsewhere in a drop-in, with ${way}`,
      files: { ...ELSEWHERE, 'etc/lbd.toml': POOL, 'etc/lbd.d/api.toml': text },
      counts: true,
    },
    { what: `one that is not there, with ${way}`, files: { ...USUAL, ...both }, counts: false },
  ];
}

function namedByTwo(
  what: string,
  { first, last }: { readonly first: string; readonly last: string },
  counts: boolean,
): Configuration {
  const files = {
    ...ELSEWHERE,
    'etc/lbd.toml': `${POOL}[kubernetes]\nkubeconfig = "/nowhere/either"\n`,
    // In the order of their characters.
    'etc/lbd.d/B.toml': `kubernetes.kubeconfig = "${first}"\n`,
    'etc/lbd.d/a.toml': `kubernetes.kubeconfig = "${last}"\n`,
  };
  return { what: `drop-ins with two kubeconfigs, ${what}`, files, counts };
}
