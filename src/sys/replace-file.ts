import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

export type FileOwner = { readonly uid: number; readonly gid: number };

/**
 * Writes beside, syncs, renames and syncs the directory: after a power cut there is the old file or the new one, and nobody
 * ever reads half of one. Rejects with the system's error.
 */
export async function replaceFile(
  path: string,
  text: string,
  mode: number,
  owner?: FileOwner,
): Promise<void> {
  const beside = `${path}.new`;
  try {
    // Anew, because an old one left behind would keep its mode and owner.
    await rm(beside, { force: true });
    const file = await open(beside, 'wx', mode);
    try {
      if (owner !== undefined) await file.chown(owner.uid, owner.gid);
      await file.chmod(mode);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => {});
    throw error;
  }
  const directory = await open(dirname(path), 'r');
  await directory.sync().finally(() => directory.close());
}
