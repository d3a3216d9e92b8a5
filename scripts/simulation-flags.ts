/**
 * What a process is started with that runs the simulation: it makes garbage all the time and keeps little, and with a small
 * young generation it spends a third of its time on that.
 */
export const SIMULATION_FLAGS: readonly string[] = ['--min-semi-space-size=64', '--max-semi-space-size=64'];
