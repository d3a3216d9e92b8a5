import type { Config } from '../config/types.ts';
import type { Rtnetlink } from '../iface/io/rtnetlink.ts';
import {
  removeSourceRouting,
  type SourceRoutingCleanup,
  SourceRoutingDriver,
} from '../iface/io/source-routing-driver.ts';
import type { HostView } from '../iface/nic-selection.ts';
import type { Logger } from '../lib/logger.ts';
import { sourceRoutingSettings } from './source-routing-settings.ts';

export type SourceRouting = SourceRoutingDriver;

export function sourceRoutingOf(
  config: () => Config,
  rtnetlink: Rtnetlink,
  host: () => HostView,
  logger: Logger,
): SourceRouting {
  return new SourceRoutingDriver({
    settings: () => sourceRoutingSettings(config()),
    host,
    routes: () => rtnetlink.observed().routes,
    logger,
  });
}

/** Takes the rules and routes of source routing off the host and prints a line for each. */
export async function cleanUpSourceRouting(): Promise<SourceRoutingCleanup> {
  const cleanup = await removeSourceRouting();
  for (const text of cleanup.removed) process.stdout.write(`removed ${text}\n`);
  for (const text of cleanup.failures) process.stderr.write(`cannot ${text}\n`);
  return cleanup;
}
