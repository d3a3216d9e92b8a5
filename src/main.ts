import { basename } from 'node:path';
import { EXIT_USAGE, processIo } from './cli/cli-io.ts';

/** One executable under two names; a run from the sources says the name first: `node src/main.ts lbctl status`. */
async function main(): Promise<number> {
  const io = processIo();
  const [name, args] = chooseProgram(basename(process.argv0), process.argv.slice(2));
  if (name === 'lbctl') return (await import('./cli/lbctl.ts')).lbctl(args, io);
  if (name === 'lbd') return (await import('./cli/lbd.ts')).lbd(args, io);
  io.err('lbd: expected to be called as lbd or lbctl, or with one of them as the first argument\n');
  return EXIT_USAGE;
}

/** The name the executable was called by, also with a suffix such as `lbctl-1.2`; else the first argument. */
function chooseProgram(
  calledAs: string,
  args: readonly string[],
): readonly [string | undefined, readonly string[]] {
  const called = /^(lbctl|lbd)(?:[^a-z]|$)/.exec(calledAs)?.[1];
  return called === undefined ? [args[0], args.slice(1)] : [called, args];
}

// No top-level await: the executable is bundled as CommonJS. What is thrown here is a bug and ends the process.
main().then((status) => {
  process.exitCode = status;
});
