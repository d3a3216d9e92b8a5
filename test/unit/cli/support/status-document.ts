import type { StatusDocument } from '../../../../src/daemon/types.ts';
import type { Ip } from '../../../../src/lib/ip.ts';
import { parseIp } from '../../../../src/lib/ip.ts';

export function ip(text: string): Ip {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`${text} is no address`);
  return parsed;
}

/** A host that has just started and has nothing to do, changed by `fields`. */
export function statusDocument(fields: Partial<StatusDocument> = {}): StatusDocument {
  return {
    version: 1,
    lbd: { version: '0.1.0', commit: 'abc1234', node: 'v26.10.0', pid: 4242 },
    host: { name: 'edge-1', nodeName: 'edge-1', uptimeMs: 3 * 86_400_000 + 4 * 3_600_000 },
    config: {
      file: '/etc/lbd.toml',
      digest: '3f2a91c0d1e2',
      loadedMsAgo: 65_000,
      reloadProblems: [],
      warnings: [],
    },
    kubernetes: {
      server: 'https://10.0.0.10:6443',
      reachable: true,
      fromCache: false,
      error: undefined,
      unwritten: [],
      reflectors: [],
      allocator: { holder: 'edge-1', self: true, error: undefined },
    },
    pools: [],
    services: [],
    addresses: [],
    sysctls: [],
    problems: [],
    ...fields,
  };
}
