import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { errorText } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';

/** What each sysctl was before lbd first wrote it, kept in the state directory for `lbctl status` of later runs. */

const FILE_BYTES_MAX = 1 << 20;

export function loadSysctlsBefore(stateDirectory: string): ReadonlyMap<string, string> {
  try {
    const text = readFileSync(fileIn(stateDirectory), 'utf8');
    const parsed: unknown = text.length > FILE_BYTES_MAX ? undefined : JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) {
      return new Map(Object.entries(parsed).filter(([, value]) => typeof value === 'string'));
    }
  } catch {
    // None yet, or torn: the history begins anew.
  }
  return new Map();
}

export function saveSysctlsBefore(
  stateDirectory: string,
  before: ReadonlyMap<string, string>,
  logger: Logger,
): void {
  const file = fileIn(stateDirectory);
  try {
    writeFileSync(`${file}.new`, `${JSON.stringify(Object.fromEntries(before), undefined, 2)}\n`, {
      mode: 0o640,
    });
    renameSync(`${file}.new`, file);
  } catch (error) {
    removeTorn(`${file}.new`);
    logger.warn({ file, error: errorText(error) }, 'state.write-failed');
  }
}

function removeTorn(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // On a disk that takes no writes there is nothing to remove.
  }
}

function fileIn(stateDirectory: string): string {
  return `${stateDirectory}/sysctls.json`;
}
