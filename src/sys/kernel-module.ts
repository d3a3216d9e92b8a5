import { globSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';

/** `present`: loaded or built in. `loadable`: the kernel loads it by itself when it is asked for. */
export type ModuleState = 'present' | 'loadable' | 'missing';

/** Whether the running kernel has the module. `root` is another root directory. */
export function moduleState(name: string, root = '/'): ModuleState {
  // One that is built in has a directory there, too, when it has parameters or a version.
  if (exists(join(root, 'sys/module', name))) return 'present';
  const directory = join(root, 'lib/modules', release());
  // kernel/drivers/net/dummy.ko.xz: kernel/…
  const file = new RegExp(`^\\S*/${name}\\.ko(\\.\\w+)?(:|$)`, 'm');
  if (file.test(readOrNothing(join(directory, 'modules.builtin')))) return 'present';
  const isThere = file.test(readOrNothing(join(directory, 'modules.dep')));
  return isThere && !isBarred(name, root) ? 'loadable' : 'missing';
}

/** By a line that keeps the kernel from loading it, as guides for hardening a host have it (modprobe.d(5)). */
function isBarred(name: string, root: string): boolean {
  const line = new RegExp(
    `^\\s*(blacklist\\s+${name}|install\\s+${name}\\s+(/usr)?/bin/(false|true))\\s*$`,
    'm',
  );
  const files = globSync('{etc,run,usr/local/lib,usr/lib,lib}/modprobe.d/*.conf', { cwd: root });
  return files.some((file) => line.test(readOrNothing(join(root, file))));
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
