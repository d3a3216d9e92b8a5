import { errorText, LbdError } from '../lib/errors.ts';
import { missingCapabilities } from '../sys/capabilities.ts';
import { makeDirectory } from '../sys/directory.ts';
import type { DaemonLogger } from './logger.ts';

/** Without them lbd would say of every address that it cannot be held, and could not ask the wire about any. */
export function requireCapabilities(): void {
  const missing = missingCapabilities();
  if (missing.length === 0) return;
  throw new LbdError(
    'host.not-permitted',
    `lbd needs ${missing.join(' and ')}, which it was not given: run it as root, or by its systemd unit`,
    { fields: { missing } },
  );
}

/** Without it lbd works and forgets: on a full or read-only disk the addresses must be served all the same. */
export function makeStateDirectory(path: string, logger: DaemonLogger): void {
  try {
    makeDirectory(path, 0o750);
  } catch (error) {
    logger.error({ path, error: errorText(error) }, 'state.directory-failed');
  }
}
