import { errorText } from '../lib/errors.ts';
import { ADDON, COMMIT, VERSION } from '../lib/version.ts';
import type { CliIo } from './cli-io.ts';
import { fetchStatus } from './control-client.ts';
import { printable } from './text.ts';

export type VersionInfo = {
  readonly version: string;
  readonly commit: string;
  readonly node: string;
  /** A daemon of an older build does not say it. */
  readonly addon?: string | undefined;
};

/** A version is worth no wait: a daemon that is busy for longer is told so by `lbctl status`. */
const TIMEOUT_MS = 1_000;

export function ownVersion(): VersionInfo {
  return { version: VERSION, commit: COMMIT, node: process.version, addon: ADDON };
}

export function formatVersion(info: VersionInfo): string {
  const addon = info.addon === undefined ? '' : `, addon ${info.addon}`;
  return printable(`${info.version} (${info.commit}), Node ${info.node}${addon}`);
}

/** Its own version and that of the daemon, which is another one between an upgrade and the restart after it. */
export async function showVersion(socket: string, json: boolean, io: CliIo): Promise<void> {
  const own = ownVersion();
  const daemon = await fetchStatus(socket, TIMEOUT_MS).catch((thrown: unknown) => errorText(thrown));
  if (json) {
    const lbd = typeof daemon === 'string' ? { error: daemon } : daemon.lbd;
    io.out(`${JSON.stringify({ lbctl: own, lbd }, undefined, 2)}\n`);
    return;
  }
  io.out(`lbctl  ${formatVersion(own)}\n`);
  io.out(`lbd    ${typeof daemon === 'string' ? printable(daemon) : formatVersion(daemon.lbd)}\n`);
}
