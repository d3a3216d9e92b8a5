import { ARP_KEYS, type SysctlPlace, type SysctlReading, type SysctlWrite, WANTED } from './sysctl-plan.ts';

/**
 * Which sysctls to write so that a host is as it was before lbd, from the record that lbd kept: value by the name that
 * `sysctlName()` gives. Only what is still as lbd left it: another value is somebody's later decision. The record is
 * taken for no more than text, because the one who acts on it may have more rights than the one who wrote it.
 */
export function planRestore(
  before: ReadonlyMap<string, string>,
  read: (place: SysctlPlace) => SysctlReading,
): readonly SysctlWrite[] {
  return [...before].flatMap(([name, text]): SysctlWrite[] => {
    const place = parseSysctlName(name);
    if (place === undefined || !/^\d$/.test(text)) return [];
    const reading = read(place);
    const isAsLbdLeftIt = reading.kind === 'value' && reading.value === WANTED[place.key];
    return isAsLbdLeftIt && reading.value !== Number(text) ? [{ ...place, value: Number(text) }] : [];
  });
}

/** The inverse of `sysctlName()`; undefined for what that cannot have given. */
function parseSysctlName(name: string): SysctlPlace | undefined {
  const [, nic, key] = /^net\.ipv4\.conf\.([^.\0]{1,15})\.(\w+)$/.exec(name) ?? [];
  const known = ARP_KEYS.find((each) => each === key);
  return nic === undefined || known === undefined
    ? undefined
    : { interface: nic.replaceAll('/', '.'), key: known };
}
