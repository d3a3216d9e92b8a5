import { familyOf, parseIp } from '../lib/ip.ts';
import { type KeyPath, quote } from './problem.ts';
import type { ConfigDocument } from './schema.ts';
import type { InterfaceConfig } from './types.ts';

/** What is wrong among the gateways of one [[interface]]; what has not the right shape is passed over here. */
export function gatewayProblems(
  tables: unknown,
): readonly { readonly path: KeyPath; readonly message: string }[] {
  if (!Array.isArray(tables)) return [];
  return tables.flatMap((table: unknown, index) => {
    const gateways =
      typeof table === 'object' && table !== null && 'gateways' in table ? table.gateways : undefined;
    if (!Array.isArray(gateways)) return [];
    const families = gateways.map((text: unknown) => {
      const ip = typeof text === 'string' ? parseIp(text) : undefined;
      return ip && familyOf(ip);
    });
    return families.flatMap((family, position) => {
      if (family === undefined || families.indexOf(family) === position) return [];
      const message = `expected one gateway of each family, got ${quote(gateways[position])} as well`;
      return [{ path: ['interface', index, 'gateways', position], message }];
    });
  });
}

export function toInterface(table: ConfigDocument['interface'][number]): InterfaceConfig {
  const gateways = table.gateways.flatMap((text) => parseIp(text) ?? []);
  return { name: table.name, sourceRouting: table.source_routing, gateways };
}
