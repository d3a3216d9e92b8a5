import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lbd } from '../test/support/lab-lbd.ts';
import { median } from './harness.ts';

/** Where the memory of lbd goes, in MB of 10^6 bytes. */

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IMPORT_ROUNDS = 5;

export type Part = { readonly name: string; readonly mb: number };

/**
 * What VmRSS is made of: pages of files as the kernel counts them, anonymous ones as V8 and the kernel do. V8 is asked
 * through the debugger that SIGUSR1 opens, after the kernel, and the question is in its own numbers with a few 100 kB.
 */
export async function partsOf(lbd: Lbd): Promise<readonly Part[]> {
  const resident = residentOf(lbd.pid);
  const heap = await heapOf(lbd);
  return [
    { name: "VmRSS: the executable's machine code", mb: resident.code },
    { name: "VmRSS: the executable's constants, V8's snapshot and the bundle", mb: resident.constants },
    { name: 'VmRSS: libraries', mb: resident.libraries },
    { name: "RssAnon: V8's heap", mb: heap.physical },
    { name: "RssAnon: V8's heap, in use", mb: heap.used },
    { name: "RssAnon: V8's heap, machine code of lbd", mb: heap.code },
    { name: 'RssAnon: buffers and other memory that JavaScript holds outside of it', mb: heap.external },
    { name: "RssAnon: malloc's heap of the main thread, with those buffers", mb: resident.malloc },
    {
      name: 'RssAnon: the rest (malloc of other threads and of large blocks, stacks, data of libraries)',
      mb: resident.anonymous - heap.physical - resident.malloc,
    },
  ];
}

type Resident = {
  readonly code: number;
  readonly constants: number;
  readonly libraries: number;
  readonly anonymous: number;
  /** Of that, brk(2)'s. */
  readonly malloc: number;
};

/** Of every mapping in proc(5)'s smaps: whose pages are in memory. */
function residentOf(pid: number): Resident {
  const sums = { code: 0, constants: 0, libraries: 0, anonymous: 0, malloc: 0 };
  for (const mapping of readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const kibibytes = (key: string): number =>
      Number(new RegExp(`^${key}: +(\\d+) kB`, 'm').exec(mapping)?.[1] ?? 0);
    const [, permissions = '', file = ''] = /^\S+ (\S+) \S+ \S+ \d+ *(.*)/.exec(mapping) ?? [];
    const anonymous = kibibytes('Anonymous');
    const ofFile = kibibytes('Rss') - anonymous;
    const isExecutable = permissions.includes('x');
    sums.anonymous += anonymous;
    if (file === '[heap]') sums.malloc += anonymous;
    if (!file.endsWith('/lbd')) sums.libraries += ofFile;
    else if (isExecutable) sums.code += ofFile;
    else sums.constants += ofFile;
  }
  const megabytes = (kibibytes: number): number => (kibibytes * 1024) / 1e6;
  return {
    code: megabytes(sums.code),
    constants: megabytes(sums.constants),
    libraries: megabytes(sums.libraries),
    anonymous: megabytes(sums.anonymous),
    malloc: megabytes(sums.malloc),
  };
}

type Heap = {
  readonly physical: number;
  readonly used: number;
  readonly code: number;
  readonly external: number;
};

const QUESTION =
  '({ ...process.memoryUsage(), spaces: process.getBuiltinModule("node:v8").getHeapSpaceStatistics() })';

/** Asks a debugger, which may still be opening its port; run beside lbd, because the port is the loopback's. */
const ASK_DEBUGGER = `
  let targets;
  while (targets === undefined)
    targets = await fetch('http://127.0.0.1:9229/json/list').then((answer) => answer.json()).catch(() => undefined);
  const socket = new WebSocket(targets[0].webSocketDebuggerUrl);
  socket.onopen = () => socket.send(JSON.stringify({
    id: 1, method: 'Runtime.evaluate', params: { expression: process.argv[1], returnByValue: true },
  }));
  socket.onmessage = ({ data }) => { console.log(JSON.stringify(JSON.parse(data).result.result.value)); socket.close(); };`;

async function heapOf(lbd: Lbd): Promise<Heap> {
  process.kill(lbd.pid, 'SIGUSR1');
  const { stdout } = await lbd.host.run([
    process.execPath,
    ...['--input-type=module', '--eval', ASK_DEBUGGER, '--', QUESTION],
  ]);
  const { external, spaces } = JSON.parse(stdout) as ReturnType<typeof process.memoryUsage> & {
    readonly spaces: ReturnType<typeof import('node:v8').getHeapSpaceStatistics>;
  };
  const sum = (key: 'physical_space_size' | 'space_used_size', of: RegExp): number =>
    spaces.filter(({ space_name }) => of.test(space_name)).reduce((total, space) => total + space[key], 0) /
    1e6;
  return {
    physical: sum('physical_space_size', /(?:)/),
    used: sum('space_used_size', /(?:)/),
    code: sum('space_used_size', /^code_/),
    external: external / 1e6,
  };
}

/** What is imported, and what of lbd imports it. */
const IMPORTS: readonly (readonly [what: string, entry: string])[] = [
  ['the command line (commander)', 'src/cli/program.ts'],
  ['the log (pino)', 'src/daemon/logger.ts'],
  ['the configuration (toml, zod, ip-address)', 'src/config/io/load.ts'],
  ['the API client (client-node, js-yaml)', 'src/kube/io/kubeconfig.ts'],
  ['the whole daemon', 'src/daemon/run.ts'],
];

const SAY_ANONYMOUS = `
  if (process.argv[1]) require(process.argv[1]);
  setTimeout(() => console.log(/^RssAnon:\\s+(\\d+)/m.exec(require('node:fs').readFileSync('/proc/self/status'))[1]), 100);`;

/**
 * What Node has of anonymous memory before lbd, and what an import adds, each in a Node of its own with the flags of the
 * executable. Without its code cache, so that all that V8 compiles is counted, and with the text of what is imported.
 */
export function partsOfImports(): readonly Part[] {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-memory-'));
  try {
    const bare = anonymousWith(undefined);
    const parts = IMPORTS.map(([what, entry], index) => {
      const bundle = join(directory, `${index}.cjs`);
      execFileSync(process.execPath, ['scripts/build-sea.mjs', '--entry', entry, '--bundle', bundle], {
        cwd: ROOT,
      });
      return { name: `RssAnon: imports of ${what}`, mb: anonymousWith(bundle) - bare };
    });
    return [{ name: 'RssAnon: Node.js alone', mb: bare }, ...parts];
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function anonymousWith(bundle: string | undefined): number {
  const args = [
    '--max-semi-space-size=4',
    '--eval',
    SAY_ANONYMOUS,
    ...(bundle === undefined ? [] : [bundle]),
  ];
  const once = (): number =>
    (Number(execFileSync(process.execPath, args, { encoding: 'utf8' })) * 1024) / 1e6;
  return median(Array.from({ length: IMPORT_ROUNDS }, once));
}
