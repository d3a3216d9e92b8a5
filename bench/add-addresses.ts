import { toAddressRequest } from '../src/iface/address-request.ts';
import { Rtnetlink } from '../src/iface/io/rtnetlink.ts';
import { type Ip, ipFromNumber, ipToNumber } from '../src/lib/ip.ts';
import { SILENT_LOGGER } from '../src/lib/logger.ts';

/**
 * `add-addresses.ts NIC FIRST COUNT`: adds COUNT addresses from FIRST on as lbd does, prints the milliseconds that
 * took, and removes them again. Runs inside a lab host.
 */
const [nic, first, count] = process.argv.slice(2);
const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {} });
const observed = await rtnetlink.start();
const link = [...observed.links.values()].find((candidate) => candidate.name === nic);
if (link === undefined || first === undefined) throw new Error(`no NIC ${nic}, or no first address`);
const base = ipToNumber(first as Ip);
const programs = Array.from({ length: Number(count) }, (_, index) => ({
  op: 'add' as const,
  ip: ipFromNumber('v4', base + BigInt(index)),
  ifIndex: link.index,
  prefixLength: 32,
  lifetimeMs: 30_000,
}));
const started = performance.now();
const outcomes = await rtnetlink.apply(programs.map(toAddressRequest));
const elapsedMs = performance.now() - started;
const failed = outcomes.find((outcome) => !outcome.ok);
if (failed !== undefined) throw new Error(JSON.stringify(failed));
await rtnetlink.apply(programs.map((program) => toAddressRequest({ ...program, op: 'remove' })));
rtnetlink.close();
process.stdout.write(`${elapsedMs}\n`);
