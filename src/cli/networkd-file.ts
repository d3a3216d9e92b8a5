/** What systemd-networkd's .network files say about addresses that it did not set itself. Pure. */

/** A .network file or one of its drop-ins. */
export type NetworkFile = { readonly path: string; readonly text: string };

/**
 * Which foreign addresses networkd spares when it configures a NIC anew (KeepConfiguration= of systemd.network(5)). `static`
 * are those without a lifetime, `dynamic` those with one, which is `dhcp` to a systemd before 257.
 */
export type Keeps = 'nothing' | 'static' | 'dynamic' | 'everything';

export type NetworkSettings = {
  readonly keeps: Keeps;
  /** Where that is said, as `KeepConfiguration=static (/etc/systemd/network/a.network:4)`; undefined when nowhere. */
  readonly saidBy: string | undefined;
  /** The NIC has an address by DHCP. */
  readonly hasDhcp: boolean;
};

/** What a value keeps once networkd runs again; what it keeps while networkd is stopped is of no interest here. */
const KEEP_VALUES: Readonly<Record<string, Keeps>> = {
  static: 'static',
  dhcp: 'dynamic',
  dynamic: 'dynamic',
  'dhcp-on-stop': 'nothing',
  'dynamic-on-stop': 'nothing',
};
const YES: ReadonlySet<string> = new Set(['1', 'yes', 'y', 'true', 't', 'on']);
const NO: ReadonlySet<string> = new Set(['0', 'no', 'n', 'false', 'f', 'off']);
const DHCP_VALUES: ReadonlySet<string> = new Set(['ipv4', 'ipv6', 'both', 'v4', 'v6']);

type Assignment = {
  readonly section: string;
  readonly key: string;
  readonly value: string;
  readonly line: number;
};

/** The settings of a file and its drop-ins, in the order in which networkd reads them: what is said last counts. */
export function networkSettings(files: readonly NetworkFile[]): NetworkSettings {
  let keep: Pick<NetworkSettings, 'keeps' | 'saidBy'> | undefined;
  let critical: typeof keep;
  let hasDhcp = false;
  for (const { path, text } of files) {
    for (const { section, key, value, line } of assignments(text)) {
      const name = `${section}.${key}`;
      const saidBy = `${key}=${value} (${path}:${line})`;
      if (name === 'Network.DHCP') hasDhcp = YES.has(value.toLowerCase()) || DHCP_VALUES.has(value);
      if (name === 'Network.KeepConfiguration') keep = withKeeps(keepsOf(value), saidBy) ?? keep;
      // Its name until systemd 243, which still counts where the new one is not given.
      if (name === 'DHCP.CriticalConnection') critical = withKeeps(keepsByBoolean(value), saidBy) ?? critical;
    }
  }
  return { ...(keep ?? critical ?? { keeps: 'nothing', saidBy: undefined }), hasDhcp };
}

/** A value that networkd does not know is ignored by it. */
function withKeeps(
  keeps: Keeps | undefined,
  saidBy: string,
): Pick<NetworkSettings, 'keeps' | 'saidBy'> | undefined {
  return keeps === undefined ? undefined : { keeps, saidBy };
}

function keepsOf(value: string): Keeps | undefined {
  return keepsByBoolean(value) ?? (Object.hasOwn(KEEP_VALUES, value) ? KEEP_VALUES[value] : undefined);
}

function keepsByBoolean(value: string): Keeps | undefined {
  const lower = value.toLowerCase();
  if (YES.has(lower)) return 'everything';
  return NO.has(lower) ? 'nothing' : undefined;
}

/** The assignments of a file in systemd.syntax(7). */
function assignments(text: string): readonly Assignment[] {
  const found: Assignment[] = [];
  let section = '';
  let pending = '';
  let startedAt = 0;
  for (const [index, raw] of text.split('\n').entries()) {
    const isComment = /^\s*[#;]/.test(raw);
    if (isComment) continue;
    if (pending === '') startedAt = index + 1;
    const line = `${pending}${raw.trim()}`;
    pending = line.endsWith('\\') ? `${line.slice(0, -1)} ` : '';
    if (pending !== '') continue;
    const header = /^\[(.*)\]$/.exec(line)?.[1];
    if (header !== undefined) section = header;
    const [, key, value] = /^([^=[]+?)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) found.push({ section, key, value, line: startedAt });
  }
  return found;
}
