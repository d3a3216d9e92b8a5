/**
 * The clock of all measurements in a lab: CLOCK_MONOTONIC in milliseconds with fractions. It is one clock for every
 * process of the machine, whichever namespaces it is in, so times told by one can be compared with those of another.
 */
export function labTimeMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
