import type { Config } from '../config/types.ts';
import type { SourceRoutingSettings } from '../iface/source-routing.ts';

/** The interfaces whose answers are to leave by themselves. */
export function sourceRoutingSettings({ interfaces }: Config): readonly SourceRoutingSettings[] {
  return interfaces
    .filter(({ sourceRouting }) => sourceRouting)
    .map(({ name, gateways }) => ({ name, gateways }));
}
