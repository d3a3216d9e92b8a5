import { readFileSync } from 'node:fs';

/** Its members use lbctl without root, and the daemon runs as it. */
export const OPERATORS_GROUP = 'lbd';

/** The id of a group of /etc/group; undefined when there is none of that name. */
export function groupId(name: string, file = '/etc/group'): number | undefined {
  try {
    const line = readFileSync(file, 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`));
    const id = line?.split(':')[2];
    return id !== undefined && /^\d+$/.test(id) ? Number(id) : undefined;
  } catch {
    return undefined;
  }
}
