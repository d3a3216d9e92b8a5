import { loadConfig } from '../config/io/load.ts';
import { toAddressRequest } from '../iface/address-request.ts';
import { Ownership } from '../iface/io/ownership.ts';
import { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { SILENT_LOGGER } from '../lib/logger.ts';

const DEFAULT_STATE_DIRECTORY = '/var/lib/lbd';

/**
 * Takes off this host whatever lbd put there, by the kernel's own tag: works without the daemon and without its
 * configuration, which only says where the state directory is on kernels that keep no tag. Prints a line for each address. Resolves with the exit status.
 */
export async function cleanup(options: { readonly configFile: string }): Promise<number> {
  const ownership = new Ownership({
    file: addressRecord(stateDirectory(options.configFile)),
    logger: SILENT_LOGGER,
  });
  const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {} });
  try {
    const observed = await rtnetlink.start();
    const ours = [...observed.addresses.values()].filter((address) => ownership.isOurs(address));
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

/** Where lbd remembers its addresses on kernels without the tag. */
export function addressRecord(stateDirectory: string): string {
  return `${stateDirectory}/addresses.json`;
}

function stateDirectory(configFile: string): string {
  const loaded = loadConfig(configFile);
  return loaded.ok ? loaded.value.config.state.directory : DEFAULT_STATE_DIRECTORY;
}
