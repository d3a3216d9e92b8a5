import { toAddressRequest } from '../iface/address-request.ts';
import { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { hasLbdTag } from '../iface/nic-selection.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { SILENT_LOGGER } from '../lib/logger.ts';

/**
 * Takes off this host whatever lbd put there, by the kernel's own tag: works without the daemon, its configuration
 * and its state. Prints a line for each address. Resolves with the exit status.
 */
export async function cleanup(): Promise<number> {
  const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {} });
  try {
    const observed = await rtnetlink.start();
    const ours = [...observed.addresses.values()].filter(hasLbdTag);
    const requests = ours.map((address) => toAddressRequest({ op: 'remove', ...address, lifetimeMs: 0 }));
    const outcomes = await rtnetlink.apply(requests);
    let failures = 0;
    for (const [index, address] of ours.entries()) {
      const outcome = outcomes[index];
      const name = observed.links.get(address.ifIndex)?.name ?? `interface ${address.ifIndex}`;
      const what = `${address.ip}/${address.prefixLength} from ${name}`;
      // Expired in the meantime: as gone as if we had done it.
      if (outcome?.ok === true || outcome?.errno === 'EADDRNOTAVAIL') {
        process.stdout.write(`removed ${what}\n`);
        continue;
      }
      failures += 1;
      process.stderr.write(`cannot remove ${what}: ${outcome?.message ?? 'no answer from the kernel'}\n`);
    }
    if (ours.length === 0) process.stdout.write('nothing of lbd is on this host\n');
    return failures === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof LbdError)) throw error;
    process.stderr.write(`cannot clean up: ${errorText(error)}\n`);
    return 1;
  } finally {
    rtnetlink.close();
  }
}
