import type { ConfigListing } from './types.ts';

/** What runs after a reload that cannot change the tables in `waiting`: those keep the values of `running`. */
export function withWaiting(
  running: ConfigListing,
  loaded: ConfigListing,
  waiting: readonly string[],
): ConfigListing {
  if (waiting.length === 0) return loaded;
  const kept = new Map(running.values.map((value) => [value.path.join('.'), value]));
  const values = loaded.values.map((value) => {
    const isWaiting = waiting.includes(String(value.path[0]));
    return isWaiting ? (kept.get(value.path.join('.')) ?? value) : value;
  });
  return { ...loaded, values, waiting };
}
