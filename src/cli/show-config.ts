import type { ConfigListing } from '../config/types.ts';
import { type CliIo, EXIT_FAILURE, EXIT_OK } from './cli-io.ts';
import { renderConfig } from './render-config.ts';
import { colourPaint, plainPaint } from './table.ts';

/** `config show`: what the daemon behind a socket runs with, or what a file comes to. Resolves with the exit status. */
export async function showConfig(
  source: { readonly socket: string } | { readonly file: string },
  json: boolean,
  io: CliIo,
): Promise<number> {
  const listing = 'file' in source ? await listFile(source.file, io) : await listRunning(source.socket);
  if (listing === undefined) return EXIT_FAILURE;
  const text = json
    ? `${JSON.stringify(listing, undefined, 2)}\n`
    : renderConfig(listing, io.colour ? colourPaint : plainPaint);
  io.out(text);
  return EXIT_OK;
}

async function listRunning(socket: string): Promise<ConfigListing> {
  const { fetchConfig } = await import('./control-client.ts');
  return fetchConfig(socket);
}

async function listFile(file: string, io: CliIo): Promise<ConfigListing | undefined> {
  const [{ listConfig, loadConfig }, { formatProblem }] = await Promise.all([
    import('../config/io/load.ts'),
    import('../config/problem.ts'),
  ]);
  const loaded = loadConfig(file);
  for (const problem of loaded.ok ? loaded.value.warnings : loaded.error)
    io.err(`${formatProblem(problem)}\n`);
  return loaded.ok ? listConfig(loaded.value) : undefined;
}
