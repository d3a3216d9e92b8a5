import type { Command } from 'commander';
import {
  DEFAULT_CONFIG_FILE,
  DEFAULT_KEY_FILE,
  DEFAULT_KUBECONFIG,
  DEFAULT_SOCKET,
} from '../config/defaults.ts';
import type { CliIo } from './cli-io.ts';
import type { KubeconfigOptions } from './kubeconfig.ts';
import { createProgram, exitWith, runProgram } from './program.ts';

type JsonOption = { readonly json: boolean };

/** The operator's command line. */
export function lbctl(args: readonly string[], io: CliIo): Promise<number> {
  return runProgram(lbctlProgram(io), args, io);
}

/** The commands of lbctl, which are also its manual: what they show is one answer of the daemon's control socket. */
export function lbctlProgram(io: CliIo): Command {
  const program = createProgram('lbctl', 'Shows what lbd does on this host, and why; drains it.', io).option(
    '-s, --socket <path>',
    'where lbd listens',
    io.env['LBD_SOCKET'] || DEFAULT_SOCKET,
  );
  const socket = (): string => program.opts<{ socket: string }>().socket;
  withJson(program.command('status'))
    .description('show the Services of this host, their addresses, and what is wrong')
    .action(async ({ json }: JsonOption) => {
      const { showStatus } = await import('./show.ts');
      await showStatus(socket(), json, io);
    });
  withJson(program.command('addresses'))
    .description('show every address and how it stands on this host')
    .action(async ({ json }: JsonOption) => {
      const { showAddresses } = await import('./show.ts');
      await showAddresses(socket(), json, io);
    });
  withJson(program.command('version'))
    .description('print the version of lbctl, and of the lbd that runs here')
    .action(async ({ json }: JsonOption) => {
      const { showVersion } = await import('./version.ts');
      await showVersion(socket(), json, io);
    });
  addOwnershipCommands(program, socket, io);
  addConfigCommands(program, socket, io);
  addKubeconfigCommand(program, io);
  addKeyCommands(program, io);
  return program;
}

/** What they do is told in docs/election.md. */
function addOwnershipCommands(program: Command, socket: () => string, io: CliIo): void {
  withJson(program.command('members'))
    .description('show the hosts that share out the addresses, as this one sees them')
    .action(async ({ json }: JsonOption) => (await import('./ownership.ts')).showMembers(socket(), json, io));
  withJson(program.command('explain'))
    .description('say why a Service has its address, why the owner owns it, and why each other host does not')
    .argument('<subject>', 'an address, or a Service as namespace/name')
    .action(async (subject: string, { json }: JsonOption) =>
      (await import('./ownership.ts')).showExplanation(socket(), subject, json, io),
    );
  withJson(program.command('drain'))
    .description(
      'have other hosts take the addresses of this one, and own none until it is undrained, also after a restart',
    )
    .option('--wait [duration]', 'until nothing is left here, for at most so long; default: 60s')
    .action(async ({ wait, json }: JsonOption & { wait?: string | true }) =>
      exitWith(await (await import('./ownership.ts')).drain(socket(), wait, json, io)),
    );
  withJson(program.command('undrain'))
    .description('end a drain: let this host own addresses again')
    .action(async ({ json }: JsonOption) => (await import('./ownership.ts')).undrain(socket(), json, io));
  withJson(program.command('rebalance'))
    .description('move addresses from and to this host to where they rank first, some at a time')
    .action(async ({ json }: JsonOption) => (await import('./ownership.ts')).rebalance(socket(), json, io));
}

function addConfigCommands(program: Command, socket: () => string, io: CliIo): void {
  const config = program.command('config').description('work with the configuration');
  config
    .command('check')
    .description('check a configuration file and say what it means')
    .argument('[file]', 'the configuration', DEFAULT_CONFIG_FILE)
    .action(async (file: string) => {
      const { checkFile } = await import('./check-file.ts');
      exitWith(checkFile(file, io));
    });
  withJson(config.command('show'))
    .description('print what lbd runs with as TOML, each value with the line that it comes from')
    .option('-f, --file [file]', 'what this file comes to, without asking lbd')
    .action(async ({ json, file }: JsonOption & { file?: string | true }) => {
      const { showConfig } = await import('./show-config.ts');
      const source = file === true ? DEFAULT_CONFIG_FILE : file;
      exitWith(await showConfig(source === undefined ? { socket: socket() } : { file: source }, json, io));
    });
}

function addKubeconfigCommand(program: Command, io: CliIo): void {
  program
    .command('kubeconfig')
    .description("make lbd's ServiceAccount and roles in the cluster, and a kubeconfig for lbd on this host")
    .option(
      '--server <url>',
      "where lbd is to reach the API server; default: where the administrator's kubeconfig does",
    )
    .option('--ca <file>', "the API server's CA in PEM; default: that of the administrator's kubeconfig")
    .option('--admin-kubeconfig <file>', 'the kubeconfig of an administrator; default: that of kubectl')
    .option('--admin-context <name>', 'its context; default: its current one')
    .option('--lease-namespace <name>', 'kubernetes.lease_namespace of the configuration', 'kube-system')
    .option(
      '--token-lifetime <duration>',
      'how long the token is valid; lbd renews it at half of that',
      '720h',
    )
    .option('-o, --output <file>', 'where to write it, - for standard output', DEFAULT_KUBECONFIG)
    .option('--no-verify', 'write it without asking the API server with it')
    .action(async (options: KubeconfigOptions) => {
      const { makeKubeconfig } = await import('./kubeconfig.ts');
      await makeKubeconfig(options, io);
    });
}

/** They work on files and ask no daemon. */
function addKeyCommands(program: Command, io: CliIo): void {
  program
    .command('keygen')
    .description('make a key of gossip, which every host of the cluster must have')
    .option('-o, --out <file>', 'write it to this new file instead of standard output')
    .action(async ({ out }: { out?: string }) => (await import('./keys.ts')).generateKey(out, io));
  const keys = program.command('keys').description('change the keys of gossip, in steps that lose no packet');
  const file = ['[file]', 'the file of keys', DEFAULT_KEY_FILE] as const;
  withJson(keys.command('list'))
    .description('show which keys there are and which one seals')
    .argument(...file)
    .action(async (path: string, { json }: JsonOption) =>
      (await import('./keys.ts')).listKeys(path, json, io),
    );
  keys
    .command('add')
    .description('step 1: add a key, which opens from then on')
    .argument(...file)
    .option('--from <file>', 'the key of this file, - for standard input; without it, a new one')
    .action(async (path: string, { from }: { from?: string }) =>
      (await import('./keys.ts')).addKeys(path, from, io),
    );
  keys
    .command('use')
    .description('step 2: seal with another key')
    .argument('<key>', 'its id, see "lbctl keys list"')
    .argument(...file)
    .action(async (key: string, path: string) => (await import('./keys.ts')).useKey(path, key, io));
  keys
    .command('remove')
    .description('step 3: remove the key that no host seals with any more')
    .argument('<key>', 'its id, see "lbctl keys list"')
    .argument(...file)
    .action(async (key: string, path: string) => (await import('./keys.ts')).removeKey(path, key, io));
}

function withJson(command: Command): Command {
  return command.option('--json', 'print JSON for programs', false);
}
