import { type Instant, instant } from '../lib/time.ts';
import { loadNative } from './native.ts';

/**
 * The daemon's clock: CLOCK_BOOTTIME in milliseconds with fractions. It is monotonic and goes on while the host is
 * suspended, as the kernel's address lifetimes do not wait either; Node's own `performance.now()` stands still then.
 */
export function bootTimeMs(): Instant {
  return instant(loadNative().bootTimeMs());
}

/** Wall-clock milliseconds, in the unit and from the clock of `Datagram.timestampMs`. For output only. */
export function realTimeMs(): number {
  return loadNative().realTimeMs();
}
