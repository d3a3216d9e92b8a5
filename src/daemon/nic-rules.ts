import type { Config } from '../config/types.ts';
import type { NicRules } from '../iface/nic-rules.ts';

/** Which NICs the configuration selects. */
export function nicRules({ local, pools }: Config): NicRules {
  return {
    interfaces: local.interfaces,
    pools: pools.map(({ name, ranges, interfaces }) => ({ name, ranges, interfaces: interfaces ?? [] })),
  };
}
