import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errorText, LbdError } from '../lib/errors.ts';

/** The shared object as the executable carries it, and how to get it into the process. */
export type AddonImage<Addon> = {
  readonly image: Uint8Array;
  /** Hex, from an asset of its own. */
  readonly sha256: string;
  /** Tried in this order. */
  readonly directories: readonly string[];
  readonly load: (path: string) => Addon;
};

/**
 * Where the addon may be written for the moment of loading it: what the operator says, what systemd gives the unit,
 * then the usual places, memory last.
 */
export function extractionDirectories(environment: Readonly<Record<string, string | undefined>>): string[] {
  const candidates = [
    environment['LBD_NATIVE_DIR'],
    // systemd gives a colon-separated list when the unit has several.
    environment['RUNTIME_DIRECTORY']?.split(':')[0],
    '/run/lbd',
    environment['STATE_DIRECTORY']?.split(':')[0],
    '/var/lib/lbd',
    environment['TMPDIR'],
    '/tmp',
    '/dev/shm',
  ];
  const named = candidates.flatMap((candidate) => (candidate ? [candidate] : []));
  return [...new Set(named)];
}

/**
 * Loads a shared object that exists only in memory: dlopen(3) needs a file, so it is written to a private directory,
 * verified, loaded and removed at once. Goes on to the next directory when one does not allow it (read-only, full,
 * absent, mounted noexec). Throws LbdError `native.corrupt` when the image itself is not what was built, and
 * `native.not-loadable` with the reason for each directory when none would do.
 */
export function loadFromImage<Addon>(options: AddonImage<Addon>): Addon {
  const actual = sha256(options.image);
  if (actual !== options.sha256) {
    throw new LbdError(
      'native.corrupt',
      `the native addon inside the executable is damaged: expected SHA-256 ${options.sha256}, got ${actual}; install lbd again`,
    );
  }
  const reasons: string[] = [];
  for (const directory of options.directories) {
    try {
      return loadIn(directory, options);
    } catch (cause) {
      reasons.push(`${directory}: ${reasonOf(cause)}`);
    }
  }
  throw new LbdError(
    'native.not-loadable',
    'cannot load the native addon from any directory; set LBD_NATIVE_DIR to a writable directory on a mount ' +
      `without noexec. Tried: ${reasons.join('; ')}`,
    { fields: { directories: options.directories, reasons } },
  );
}

function loadIn<Addon>(parent: string, options: AddonImage<Addon>): Addon {
  // mkdtemp makes it 0700 and its own: nobody else can put a file in the way or swap ours.
  const directory = mkdtempSync(join(parent, 'lbd-native-'));
  let descriptor: number | undefined;
  try {
    const file = join(directory, 'lbd_sys.node');
    writeFileSync(file, options.image, { mode: 0o500, flag: 'wx' });
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    verify(descriptor, options.sha256);
    // By descriptor: what is loaded is the very file that was verified, whatever its name means by now.
    return options.load(`/proc/self/fd/${descriptor}`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Throws unless the open file is ours alone and has the expected content. */
function verify(descriptor: number, expected: string): void {
  const status = fstatSync(descriptor);
  const user = process.geteuid?.();
  if (status.uid !== user)
    throw new Error(`the file written there belongs to uid ${status.uid}, not ${user}`);
  if ((status.mode & 0o022) !== 0) throw new Error('the file written there is writable for others');
  const actual = sha256(readFileSync(descriptor));
  if (actual !== expected) {
    throw new Error(`the file written there reads back changed: expected SHA-256 ${expected}, got ${actual}`);
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** dlopen(3) says of a noexec mount only that a segment could not be mapped. */
function reasonOf(cause: unknown): string {
  const text = errorText(cause);
  return text.includes('failed to map segment') ? `mounted noexec (${text})` : text;
}
