import type { Config } from '../config/types.ts';

/** What only a restart can change. */
const FIXED = ['host', 'kubernetes', 'virtual', 'gossip', 'control', 'metrics', 'state'] as const;

/** What a running daemon takes of a configuration that it reads again, and the tables that wait for a restart. */
export function takeReloaded(
  running: Config,
  read: Config,
): { readonly config: Config; readonly waiting: readonly string[] } {
  const waiting = FIXED.filter((table) => JSON.stringify(read[table]) !== JSON.stringify(running[table]));
  const { host, kubernetes, virtual, gossip, control, metrics, state } = running;
  return { config: { ...read, host, kubernetes, virtual, gossip, control, metrics, state }, waiting };
}
