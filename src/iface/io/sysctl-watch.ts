import { type FSWatcher, statSync, watch } from 'node:fs';
import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';

/**
 * Tells when somebody writes to files of /proc/sys. The kernel tells no netlink listener of the ARP sysctls, but write(2)
 * on any file is an inotify event (fsnotify_modify in vfs_write, fs/read_write.c), and files of /proc/sys are no exception.
 *
 * Not everything that is written is told of: each PID namespace has a procfs with inodes of its own, so that a container
 * which writes by its own /proc is not heard; and an inode that the kernel dropped from its cache, as it does when a NIC
 * goes, comes back as another one. So this is beside reading once in a while, when `follow()` looks whether the files are
 * still the same.
 */
export class SysctlWatch {
  readonly #onWrite: () => void;
  readonly #logger: Logger;
  readonly #watched = new Map<string, Watched>();
  #failure: string | undefined;

  constructor(options: { readonly onWrite: () => void; readonly logger: Logger }) {
    this.#onWrite = options.onWrite;
    this.#logger = options.logger;
  }

  /** Watches these files, as they are now, and no others. What is absent is not watched. */
  follow(paths: readonly string[]): void {
    const wanted = new Set(paths);
    for (const [path, { watcher }] of this.#watched) {
      if (wanted.has(path)) continue;
      watcher.close();
      this.#watched.delete(path);
    }
    let failure: string | undefined;
    for (const path of wanted) failure = this.#followOne(path) ?? failure;
    if (failure !== undefined && failure !== this.#failure)
      this.#logger.warn({ error: failure }, 'sysctl.not-watched');
    this.#failure = failure;
  }

  close(): void {
    this.follow([]);
  }

  /** Returns why a file that is there cannot be watched. */
  #followOne(path: string): string | undefined {
    try {
      const inode = statSync(path, { throwIfNoEntry: false })?.ino;
      const known = this.#watched.get(path);
      if (known?.inode === inode) return undefined;
      known?.watcher.close();
      this.#watched.delete(path);
      if (inode === undefined) return undefined;
      const watcher = watch(path, { persistent: false }, () => this.#onWrite());
      watcher.on('error', () => watcher.close());
      this.#watched.set(path, { inode, watcher });
      return undefined;
    } catch (thrown) {
      return errorText(thrown);
    }
  }
}

type Watched = { readonly inode: number; readonly watcher: FSWatcher };
