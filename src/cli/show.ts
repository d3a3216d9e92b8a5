import type { CliIo } from './cli-io.ts';
import { asStatusDocument, fetchStatus } from './control-client.ts';
import { colourPaint, plainPaint } from './table.ts';

/** `lbctl status`; with `json` the whole document as the daemon gave it, of whatever version. */
export async function showStatus(socket: string, json: boolean, io: CliIo): Promise<void> {
  const answer = await fetchStatus(socket);
  if (json) return io.out(toJson(answer));
  const { renderStatus } = await import('./render-status.ts');
  io.out(renderStatus(asStatusDocument(answer), io.colour ? colourPaint : plainPaint));
}

/** `lbctl addresses`. */
export async function showAddresses(socket: string, json: boolean, io: CliIo): Promise<void> {
  const document = asStatusDocument(await fetchStatus(socket));
  const { listAddresses, renderAddresses } = await import('./render-addresses.ts');
  if (json) return io.out(toJson(listAddresses(document)));
  io.out(renderAddresses(document, io.colour ? colourPaint : plainPaint));
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
