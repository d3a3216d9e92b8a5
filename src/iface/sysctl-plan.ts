/**
 * What the ARP sysctls of the NICs that carry local addresses should be, and which file to write where they are not.
 *
 * A VIP is answered by the one host that has it only if no other host answers for addresses of its other devices
 * (arp_ignore, e.g. kube-ipvs0) and nobody's requests carry one of them as their sender (arp_announce). The kernel
 * takes the greater of `conf.all` and `conf.<nic>` (IN_DEV_MAXCONF, include/linux/inetdevice.h), although a greater
 * number is not always stricter (arp_ignore() in net/ipv4/arp.c):
 *
 *   arp_ignore    0 answers for every address of the host         → 1
 *                 1 only for addresses of the NIC itself            kept
 *                 2 as 1, and only to neighbours of its subnet      kept
 *                 3 hides host-scope addresses only               → 1
 *                 8 answers for nothing                             error: somebody wants silence
 *                 4 to 7 and above 8: no meaning, as 0            → 1
 *   arp_announce  0, 1 any source address                         → 2
 *                 2 the best one for the target                     kept
 *                 above 2: as 0                                   → 2
 *
 * A value of `conf.all` that makes every NIC wrong, whatever its own is, can only be put right in `conf.all`.
 */

export type ArpKey = 'arp_ignore' | 'arp_announce';

export const ARP_KEYS: readonly ArpKey[] = ['arp_ignore', 'arp_announce'];

/** The `interface` of the values that hold for every NIC. */
export const ALL_INTERFACES = 'all';

/** One file of /proc/sys/net/ipv4/conf. */
export type SysctlPlace = { readonly interface: string; readonly key: ArpKey };

/** What a file holds, or why it could not be read. */
export type SysctlReading =
  | { readonly kind: 'value'; readonly value: number }
  | { readonly kind: 'error'; readonly text: string };

export type SysctlWrite = SysctlPlace & { readonly value: number };

/** How one NIC stands before the writes of the same plan are made. */
export type SysctlFinding = SysctlPlace & {
  readonly expected: string;
  /** What the kernel goes by; undefined when it could not be read. */
  readonly effective: number | undefined;
  readonly error: string | undefined;
};

export type SysctlPlan = {
  readonly findings: readonly SysctlFinding[];
  readonly writes: readonly SysctlWrite[];
};

type Rule = {
  readonly expected: string;
  readonly wanted: number;
  readonly accepts: (effective: number) => boolean;
};

const RULES: Readonly<Record<ArpKey, Rule>> = {
  arp_ignore: { expected: '1 or 2', wanted: 1, accepts: (effective) => effective === 1 || effective === 2 },
  arp_announce: { expected: '2', wanted: 2, accepts: (effective) => effective === 2 },
};

/** What lbd writes where the value in effect is not accepted. */
export const WANTED: Readonly<Record<ArpKey, number>> = {
  arp_ignore: RULES.arp_ignore.wanted,
  arp_announce: RULES.arp_announce.wanted,
};

/** Whether the value in effect is one to be left as it is. */
export function isAsExpected(finding: SysctlFinding): boolean {
  return finding.effective !== undefined && RULES[finding.key].accepts(finding.effective);
}

/** arp_ignore: do not reply for any local address. */
const ARP_IGNORE_EVERYTHING = 8;

/** `net.ipv4.conf.eth0.arp_ignore`, with the dot of a NIC's name as sysctl(8) writes it: `eth0/100`. */
export function sysctlName(place: SysctlPlace): string {
  return `net.ipv4.conf.${place.interface.replaceAll('.', '/')}.${place.key}`;
}

/**
 * Compares what is with what should be, for NICs by name. `read` gives what each file holds now; a NIC without a
 * reading (it just went) gives an error, no write.
 */
export function planSysctls(
  interfaces: readonly string[],
  read: (place: SysctlPlace) => SysctlReading,
): SysctlPlan {
  const findings: SysctlFinding[] = [];
  const writes: SysctlWrite[] = [];
  if (interfaces.length === 0) return { findings, writes };
  for (const key of ARP_KEYS) {
    const all = read({ interface: ALL_INTERFACES, key });
    if (all.kind === 'value' && isHarmfulForAll(key, all.value)) {
      writes.push({ interface: ALL_INTERFACES, key, value: RULES[key].wanted });
    }
    for (const name of interfaces) {
      const own = read({ interface: name, key });
      const { finding, value } = judge({ interface: name, key }, all, own);
      findings.push(finding);
      if (value !== undefined) writes.push({ interface: name, key, value });
    }
  }
  return { findings, writes };
}

/** Whether no value of a NIC's own could make its effective one right. 8 is left to whoever set it. */
function isHarmfulForAll(key: ArpKey, value: number): boolean {
  return value > 2 && !silences(key, value);
}

function silences(key: ArpKey, value: number): boolean {
  return key === 'arp_ignore' && value === ARP_IGNORE_EVERYTHING;
}

type Judgement = { readonly finding: SysctlFinding; readonly value?: number };

function judge(place: SysctlPlace, all: SysctlReading, own: SysctlReading): Judgement {
  const rule = RULES[place.key];
  const { expected } = rule;
  if (all.kind === 'error') {
    return { finding: { ...place, expected, effective: undefined, error: all.text } };
  }
  if (own.kind === 'error') {
    return { finding: { ...place, expected, effective: undefined, error: own.text } };
  }
  const effective = Math.max(all.value, own.value);
  if (silences(place.key, effective)) {
    const culprit = silences(place.key, own.value) ? place : { ...place, interface: ALL_INTERFACES };
    const error =
      `${sysctlName(culprit)} is ${ARP_IGNORE_EVERYTHING}: ${place.interface} answers ARP for no address at all, ` +
      `so no Service is reachable through it; set it to ${rule.wanted}`;
    return { finding: { ...place, expected, effective, error } };
  }
  const finding = { ...place, expected, effective, error: undefined };
  if (rule.accepts(effective)) return { finding };
  // With `all` put right, the NIC's own value may be right as it is.
  const allAfter = isHarmfulForAll(place.key, all.value) ? rule.wanted : all.value;
  if (rule.accepts(Math.max(allAfter, own.value))) return { finding };
  return { finding, value: rule.wanted };
}
