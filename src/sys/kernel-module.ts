import { readFileSync, statSync } from 'node:fs';
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
  return file.test(readOrNothing(join(directory, 'modules.dep'))) ? 'loadable' : 'missing';
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
