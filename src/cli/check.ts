import { accessSync, constants } from 'node:fs';
import type { Config } from '../config/types.ts';
import { addressRecord } from '../daemon/cleanup.ts';
import { nicRules } from '../daemon/nic-rules.ts';
import { Ownership } from '../iface/io/ownership.ts';
import { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { type HostView, interfacesInUse, strictArpNics, viewHost } from '../iface/nic-selection.ts';
import { planSysctls, type SysctlPlace, type SysctlReading, sysctlName } from '../iface/sysctl-plan.ts';
import type { KernelRoute, Link } from '../iface/types.ts';
import { checkAccess } from '../kube/io/access-check.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import { SILENT_LOGGER } from '../lib/logger.ts';
import { moduleState } from '../sys/kernel-module.ts';
import { readSysctlNumber, sysctlPath } from '../sys/sysctl.ts';
import { loadOrExplain } from './check-file.ts';
import { countRemarks, renderReport, type Section, unseen } from './check-report.ts';
import { type CliIo, EXIT_FAILURE, EXIT_OK } from './cli-io.ts';
import { describeAccess } from './describe-access.ts';
import { type DefaultRoutes, describeNetwork, describePools, describeSysctls } from './describe-host.ts';
import { describeManagers } from './describe-managers.ts';
import { describeVirtual } from './describe-virtual.ts';
import { findManagers } from './network-managers.ts';
import { colourPaint, plainPaint } from './table.ts';

/** For all that is asked of the API server together. */
const API_TIMEOUT_MS = 5_000;

/**
 * `lbd check`: every problem of the configuration, then what it means on this host. Changes nothing, and needs no privilege:
 * what it could not see, it says. The exit status tells whether lbd would do its work with it.
 */
export async function check(
  file: string,
  options: { readonly offline: boolean },
  io: CliIo,
): Promise<number> {
  const loaded = loadOrExplain(file, io);
  if (loaded === undefined) return EXIT_FAILURE;
  const { config } = loaded;
  const access = checkAccess({
    config: config.kubernetes,
    stateDirectory: config.state.directory,
    isOffline: options.offline,
    timeoutMs: API_TIMEOUT_MS,
  });
  const sections = [...(await describeHost(config)), describeAccess(config, await access)];
  io.out(`\n${renderReport(sections, io.colour ? colourPaint : plainPaint)}`);
  return countRemarks(sections, 'error') > 0 ? EXIT_FAILURE : EXIT_OK;
}

async function describeHost(config: Config): Promise<readonly Section[]> {
  const observed = await observeHost(config);
  if (typeof observed === 'string') {
    const text = `the NICs of this host, and with them what its pools mean here: ${observed}.`;
    return [{ title: 'Network', remarks: [unseen(text)] }];
  }
  const { host, defaults, links, routes } = observed;
  const plan = planSysctls(
    strictArpNics(host).map((nic) => nic.name),
    readPlace,
  );
  const locked = new Map(plan.writes.flatMap((write) => obstacle(write)));
  return [
    describeNetwork(config, host, defaults, routes),
    describePools(config, host),
    describeVirtual(config, host, links, moduleState),
    describeSysctls(config, host, plan, locked),
    describeManagers(findManagers(interfacesInUse(host)), config.local.lifetimeMs),
  ];
}

type SeenHost = {
  readonly host: HostView;
  readonly defaults: DefaultRoutes;
  readonly links: readonly Link[];
  readonly routes: readonly KernelRoute[];
};

/** The host as the daemon would see it, or why not. */
async function observeHost(config: Config): Promise<SeenHost | string> {
  const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {} });
  try {
    const file = addressRecord(config.state.directory);
    const ownership = new Ownership({ file, logger: SILENT_LOGGER });
    const { links, addresses, routes } = await rtnetlink.start();
    const facts = { links: links.values(), addresses: addresses.values(), routes };
    const host = viewHost(facts, nicRules(config), (address) => ownership.isOurs(address));
    const hasDefault = (family: Family) =>
      routes.some((route) => route.family === family && route.destination.length === 0);
    const defaults = { v4: hasDefault('v4'), v6: hasDefault('v6') };
    return { host, defaults, links: [...links.values()], routes };
  } catch (error) {
    if (!(error instanceof LbdError)) throw error;
    return errorText(error);
  } finally {
    rtnetlink.close();
  }
}

function readPlace(place: SysctlPlace): SysctlReading {
  try {
    return { kind: 'value', value: readSysctlNumber({ family: 'ipv4', ...place }) };
  } catch (error) {
    return { kind: 'error', text: errorText(error) };
  }
}

/** Why not even the daemon could write it; that this user may not (EACCES) says nothing about the daemon. */
function obstacle(place: SysctlPlace): readonly (readonly [string, string])[] {
  try {
    accessSync(sysctlPath({ family: 'ipv4', interface: place.interface, key: place.key }), constants.W_OK);
    return [];
  } catch (error) {
    const isReadOnly = error instanceof Error && 'code' in error && error.code === 'EROFS';
    return isReadOnly ? [[sysctlName(place), '/proc/sys is mounted read-only here']] : [];
  }
}
