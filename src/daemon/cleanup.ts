import { loadConfig } from '../config/io/load.ts';
import { toAddressRequest } from '../iface/address-request.ts';
import { Ownership } from '../iface/io/ownership.ts';
import { allowPromotion, type Promotion } from '../iface/io/promotion.ts';
import { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { ALL_TABLES } from '../iface/netlink-requests.ts';
import type { Observed } from '../iface/observed.ts';
import { type SysctlPlace, type SysctlReading, sysctlName } from '../iface/sysctl-plan.ts';
import { planRestore } from '../iface/sysctl-restore.ts';
import type { IfIndex, KernelAddress, Link } from '../iface/types.ts';
import { hasMade, isVirtualLink, routeProtocolOf } from '../iface/virtual-link.ts';
import { occupantOf } from '../iface/virtual-plan.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { familyOf, formatPrefix } from '../lib/ip.ts';
import { SILENT_LOGGER } from '../lib/logger.ts';
import { readSysctlNumber, writeSysctl } from '../sys/sysctl.ts';
import { hostLockHolder } from './host-lock.ts';
import { cleanUpSourceRouting } from './source-routing.ts';
import { loadSysctlsBefore } from './sysctl-record.ts';

const DEFAULT_STATE_DIRECTORY = '/var/lib/lbd';

export type CleanupOptions = {
  readonly configFile: string;
  /** Also set the ARP sysctls back to what they were before lbd. */
  readonly sysctls: boolean;
};

/**
 * Takes off this host whatever lbd put there, by the kernel's own tag: works without the daemon and without its
 * configuration, which only says where the state directory is. Prints a line for each thing. Resolves with the exit
 * status: 1 when something of lbd's could not be taken off; a link that somebody else uses too is left to him.
 */
export async function cleanup(options: CleanupOptions): Promise<number> {
  const pid = await hostLockHolder();
  if (pid !== undefined) {
    process.stderr.write(`lbd runs on this host (pid ${pid}) and would put everything back: stop it first\n`);
    return 1;
  }
  const directory = stateDirectory(options.configFile);
  const removed = await removeFromKernel(directory);
  const failures = removed.failures + (options.sysctls ? restoreSysctls(directory) : 0);
  if (removed.found === 0 && failures === 0) process.stdout.write('nothing of lbd is on this host\n');
  return failures === 0 ? 0 : 1;
}

async function removeFromKernel(directory: string): Promise<Removed> {
  const ownership = new Ownership({ file: addressRecord(directory), logger: SILENT_LOGGER });
  const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {} });
  try {
    const observed = await rtnetlink.start();
    // Of an address that goes with its link, the kernel is not asked on its own.
    const links = await removeLinks(rtnetlink, observed, ownership);
    const addresses = await removeAddresses(rtnetlink, observed, ownership, links.gone);
    const routing = await cleanUpSourceRouting();
    return {
      found: links.found + addresses.found + routing.removed.length,
      failures: links.failures + addresses.failures + routing.failures.length,
    };
  } catch (error) {
    if (!(error instanceof LbdError)) throw error;
    process.stderr.write(`cannot clean up: ${errorText(error)}\n`);
    return { found: 0, failures: 1 };
  } finally {
    rtnetlink.close();
  }
}

type Removed = { readonly found: number; readonly failures: number };

/** The links of virtual addresses, with all that is on them. One that somebody else uses too stays, without our addresses. */
async function removeLinks(
  rtnetlink: Rtnetlink,
  observed: Observed,
  ownership: Ownership,
): Promise<Removed & { readonly gone: ReadonlySet<IfIndex> }> {
  const isOurs = (address: KernelAddress) => ownership.isOurs(address);
  const links = [...observed.links.values()].filter(isVirtualLink);
  const gone = new Set<IfIndex>();
  let failures = 0;
  for (const link of links) {
    const { name, index, kind } = link;
    const addresses = [...observed.addresses.values()].filter(({ ifIndex }) => ifIndex === index);
    const occupant = occupantOf({ index }, { observed, isOurs });
    if (occupant !== undefined) {
      process.stdout.write(`left ${name}: ${occupant} is on it and was not put there by lbd\n`);
      failures += await removeRoutes(link);
      continue;
    }
    const [outcome] = await rtnetlink.apply([{ kind: 'delete-link', ifIndex: index }]);
    if (outcome?.ok !== true && outcome?.errno !== 'ENODEV') {
      failures += 1;
      process.stderr.write(`cannot remove ${name}: ${outcome?.message ?? 'no answer from the kernel'}\n`);
      continue;
    }
    gone.add(index);
    ownership.removed(addresses);
    const held = addresses.filter(isOurs).map(({ ip, prefixLength }) => `${ip}/${prefixLength}`);
    process.stdout.write(`removed ${name}, a ${kind}, with ${listed(held)}\n`);
  }
  return { found: links.length, failures, gone };
}

/** The routes that lbd made over a link that stays, in whatever table. Returns how many are left. */
async function removeRoutes(link: Link): Promise<number> {
  const protocol = routeProtocolOf(link);
  if (protocol === undefined) return 0;
  const ownRoutes = { table: ALL_TABLES, protocol };
  const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {}, ownRoutes });
  try {
    const observed = await rtnetlink.start();
    const routes = observed.ownRoutes.filter((route) => hasMade(link, route));
    const requests = routes.map(({ destination, table }) => {
      return { kind: 'delete-route' as const, ifIndex: link.index, destination, table, protocol };
    });
    let failures = 0;
    for (const outcome of await rtnetlink.apply(requests)) {
      const { destination, table } = outcome.request;
      const what = `the route ${formatPrefix(destination)} over ${link.name} from table ${table}`;
      if (outcome.ok || outcome.errno === 'ESRCH') process.stdout.write(`removed ${what}\n`);
      else {
        failures += 1;
        process.stderr.write(`cannot remove ${what}: ${outcome.message}\n`);
      }
    }
    return failures;
  } finally {
    rtnetlink.close();
  }
}

/** Beyond it, addresses are counted. */
const LISTED_MAX = 20;

function listed(addresses: readonly string[]): string {
  if (addresses.length === 0) return 'no address';
  const rest = addresses.length - LISTED_MAX;
  return `${addresses.slice(0, LISTED_MAX).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

async function removeAddresses(
  rtnetlink: Rtnetlink,
  observed: Observed,
  ownership: Ownership,
  gone: ReadonlySet<IfIndex>,
): Promise<Removed> {
  const found = [...observed.addresses.values()].filter(
    (address) => ownership.isOurs(address) && !gone.has(address.ifIndex),
  );
  const nameOf = ({ ifIndex }: KernelAddress) => observed.links.get(ifIndex)?.name ?? `interface ${ifIndex}`;
  const promotions = allowPromotions(found, nameOf);
  const ours = found.filter((address) => promotions.get(nameOf(address))?.ok !== false);
  const requests = ours.map((address) => toAddressRequest({ op: 'remove', ...address, lifetimeMs: 0 }));
  const outcomes = await rtnetlink.apply(requests);
  let failures = found.length - ours.length;
  for (const [nic, promotion] of promotions) {
    if (promotion.ok) promotion.restore();
    else
      process.stderr.write(
        `left the addresses on ${nic}, as the host's own might go with them: ${promotion.error}\n`,
      );
  }
  for (const [index, address] of ours.entries()) {
    const outcome = outcomes[index];
    const what = `${address.ip}/${address.prefixLength} from ${nameOf(address)}`;
    // Expired in the meantime: as gone as if we had done it.
    if (outcome?.ok === true || outcome?.errno === 'EADDRNOTAVAIL') {
      process.stdout.write(`removed ${what}\n`);
      continue;
    }
    failures += 1;
    process.stderr.write(`cannot remove ${what}: ${outcome?.message ?? 'no answer from the kernel'}\n`);
  }
  ownership.removed(ours.filter((_, index) => outcomes[index]?.ok === true));
  return { found: found.length, failures };
}

/** For each NIC with an address that may be the primary one of its subnet: those after it are to stay. */
function allowPromotions(
  addresses: readonly KernelAddress[],
  nameOf: (address: KernelAddress) => string,
): ReadonlyMap<string, Promotion> {
  const shared = addresses.filter(({ ip, prefixLength }) => familyOf(ip) === 'v4' && prefixLength < 32);
  return new Map([...new Set(shared.map(nameOf))].map((nic) => [nic, allowPromotion(nic)]));
}

/** Returns how many could not be written. */
function restoreSysctls(directory: string): number {
  let failures = 0;
  for (const write of planRestore(loadSysctlsBefore(directory), readPlace)) {
    const name = sysctlName(write);
    try {
      writeSysctl({ family: 'ipv4', interface: write.interface, key: write.key }, write.value);
      process.stdout.write(`set ${name} back to ${write.value}\n`);
    } catch (error) {
      failures += 1;
      process.stderr.write(`${errorText(error)}\n`);
    }
  }
  return failures;
}

function readPlace(place: SysctlPlace): SysctlReading {
  try {
    return { kind: 'value', value: readSysctlNumber({ family: 'ipv4', ...place }) };
  } catch (error) {
    return { kind: 'error', text: errorText(error) };
  }
}

/** Where lbd remembers its addresses on kernels without the tag. */
export function addressRecord(stateDirectory: string): string {
  return `${stateDirectory}/addresses.json`;
}

function stateDirectory(configFile: string): string {
  const loaded = loadConfig(configFile);
  return loaded.ok ? loaded.value.config.state.directory : DEFAULT_STATE_DIRECTORY;
}
