import { Rtnetlink } from '../../src/iface/io/rtnetlink.ts';
import { hasLbdTag } from '../../src/iface/nic-selection.ts';
import { SILENT_LOGGER } from '../../src/lib/logger.ts';

/** Prints the addresses that carry lbd's tag here, as a JSON list of `IP/LENGTH NIC`: Debian 12's `ip` shows no tag. */

const rtnetlink = new Rtnetlink({ logger: SILENT_LOGGER, onChange: () => {} });
const { addresses, links } = await rtnetlink.start();
const tagged = [...addresses.values()]
  .filter(hasLbdTag)
  .map(({ ip, prefixLength, ifIndex }) => `${ip}/${prefixLength} ${links.get(ifIndex)?.name}`);
process.stdout.write(`${JSON.stringify(tagged.sort())}\n`);
rtnetlink.close();
