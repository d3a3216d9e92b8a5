import type { Command } from 'commander';
import { DEFAULT_CONFIG_FILE } from '../config/defaults.ts';
import type { CliIo } from './cli-io.ts';
import { createProgram, exitWith, runProgram } from './program.ts';

type CleanupCommand = {
  readonly config: string;
  readonly sysctls: boolean;
  readonly unlessRestarting: boolean;
  readonly unit: string;
};

/** The daemon's own command line. */
export function lbd(args: readonly string[], io: CliIo): Promise<number> {
  return runProgram(lbdProgram(io), args, io);
}

/** The commands of lbd, which are also its manual. Each loads only what it needs. */
export function lbdProgram(io: CliIo): Command {
  const program = createProgram(
    'lbd',
    'Addresses for Kubernetes Services of type LoadBalancer on bare metal.',
    io,
  );
  program
    .command('run')
    .description('run the daemon')
    .option('-c, --config <file>', 'the configuration', DEFAULT_CONFIG_FILE)
    .option('--foreground', 'run for a person who watches: take the addresses off at the end', false)
    .action(async (options: { config: string; foreground: boolean }) => {
      const { run } = await import('../daemon/run.ts');
      exitWith(await run({ configFile: options.config, foreground: options.foreground }));
    });
  program
    .command('check')
    .description('check a configuration and say what it means on this host')
    .argument('[file]', 'the configuration', DEFAULT_CONFIG_FILE)
    .option('--offline', 'do not ask the API server', false)
    .action(async (file: string, options: { offline: boolean }) => {
      const { check } = await import('./check.ts');
      exitWith(await check(file, options, io));
    });
  program
    .command('config')
    .description('work with the configuration')
    .command('show')
    .description('print what a configuration comes to as TOML, each value with the line that it comes from')
    .argument('[file]', 'the configuration', DEFAULT_CONFIG_FILE)
    .option('--json', 'print JSON for programs', false)
    .action(async (file: string, { json }: { json: boolean }) => {
      const { showConfig } = await import('./show-config.ts');
      exitWith(await showConfig({ file }, json, io));
    });
  program
    .command('cleanup')
    .description('take off this host every address that lbd put there')
    .option('-c, --config <file>', 'the configuration', DEFAULT_CONFIG_FILE)
    .option('--sysctls', 'also set the ARP sysctls back to what they were before lbd', false)
    .option(
      '--unless-restarting',
      'for systemd after a stop: do nothing when lbd is about to come back',
      false,
    )
    .option('--unit <name>', 'the unit that --unless-restarting asks systemd about', 'lbd.service')
    .action(async (options: CleanupCommand) => {
      if (options.unlessRestarting) {
        const { restartIsAhead } = await import('./restart-is-ahead.ts');
        if (restartIsAhead(options.unit, io)) return;
      }
      const { cleanup } = await import('../daemon/cleanup.ts');
      exitWith(await cleanup({ configFile: options.config, sysctls: options.sysctls }));
    });
  program
    .command('schema')
    .description('print the JSON Schema of the configuration, for editors')
    .action(async () => {
      const { configJsonSchema } = await import('../config/json-schema.ts');
      io.out(`${JSON.stringify(configJsonSchema(), undefined, 2)}\n`);
    });
  program
    .command('version')
    .description('print the version')
    .action(async () => {
      const { ownVersion, formatVersion } = await import('./version.ts');
      io.out(`lbd ${formatVersion(ownVersion())}\n`);
    });
  return program;
}
