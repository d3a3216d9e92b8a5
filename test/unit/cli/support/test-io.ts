import type { CliIo } from '../../../../src/cli/cli-io.ts';

export type TestIo = CliIo & { readonly stdout: () => string; readonly stderr: () => string };

/** A terminal that remembers. */
export function testIo(options: { env?: CliIo['env']; colour?: boolean } = {}): TestIo {
  const written = { out: '', err: '' };
  return {
    out: (text) => {
      written.out += text;
    },
    err: (text) => {
      written.err += text;
    },
    env: options.env ?? {},
    colour: options.colour ?? false,
    stdout: () => written.out,
    stderr: () => written.err,
  };
}
