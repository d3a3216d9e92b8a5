import * as z from 'zod/mini';
import { text, wholeNumber } from './schema-text.ts';

/** The keys of [virtual]. */

export const DEFAULT_VIRTUAL_INTERFACE = 'kube-lb0';
/** IFNAMSIZ is 16 with its final NUL; the kernel refuses `/`, `:` and white space, and `%` asks it for a number (dev_valid_name). */
const INTERFACE_NAME = /^(?!\.{1,2}$|all$|default$)[^\s/:%*?]{1,15}$/;
/** The kernel keeps the addresses of the host there (linux/rtnetlink.h). */
const RT_TABLE_LOCAL = 255;

export function virtualKeys() {
  return {
    interface: z
      ._default(text(INTERFACE_NAME, 'expected the name of a network interface'), DEFAULT_VIRTUAL_INTERFACE)
      .check(
        z.describe(
          'The name of the network interface that lbd makes for them; one of that name that lbd did not make is left alone.',
        ),
      ),
    type: z
      ._default(z.enum(['auto', 'dummy', 'bridge']), 'auto')
      .check(
        z.describe(
          'What it is: a "dummy", or a "bridge" without ports; "auto" takes a bridge where the kernel has no dummy.',
        ),
      ),
    table: z
      .optional(tableNumber())
      .check(
        z.describe(
          'The routing table in which lbd makes the routes itself, for a routing daemon that reads it; without it, the kernel makes them in the main table, for one that reads interfaces.',
        ),
      ),
    protocol: z
      .optional(wholeNumber(5, 255))
      .check(
        z.describe(
          'The protocol number of the routes that lbd makes itself; with table alone it is 108, and with this alone they are in the main table.',
        ),
      ),
  };
}

function tableNumber() {
  const expected = `expected a whole number from 1 to 4294967295 other than ${RT_TABLE_LOCAL}`;
  return z.number(expected).check(
    z.int(expected),
    z.gte(1, expected),
    z.lte(0xffff_ffff, expected),
    z.refine((value) => value !== RT_TABLE_LOCAL, expected),
  );
}
