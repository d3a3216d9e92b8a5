import { segmentKey } from './segment-key.ts';
import type { Endpoint, Member, SegmentKey } from './types.ts';

/** Where a member is reached, beside the endpoint that it tells of. */

/** A member whose endpoint does not answer may on one of its other NICs. */
const OTHER_WAYS = 2;

/** Where a member that was heard on a segment is reached for sure. */
export function nearby({ meta }: Member, segment: SegmentKey): Endpoint {
  const there = meta.segments.find(({ subnet }) => segmentKey(subnet) === segment);
  return there === undefined ? meta.endpoint : { ip: there.ip, port: meta.endpoint.port };
}

export function otherWays({ meta }: Member): readonly Endpoint[] {
  const { endpoint, segments } = meta;
  const others = segments.filter(({ ip }) => ip !== endpoint.ip).slice(0, OTHER_WAYS);
  return others.map(({ ip }) => ({ ip, port: endpoint.port }));
}
