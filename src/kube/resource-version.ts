/**
 * Whether `left` is the same as or older than `right`. Resource versions are opaque, but Kubernetes documents them as
 * comparable numbers where both are decimal (KEP-5504); false when they are not, so that nothing is ever dropped on a guess.
 */
export function isNotNewer(left: string, right: string): boolean {
  const order = compareResourceVersions(left, right);
  return order !== undefined && order <= 0;
}

/** Negative, zero or positive; undefined when one of them is not a canonical decimal number. */
export function compareResourceVersions(left: string, right: string): number | undefined {
  if (!isDecimal(left) || !isDecimal(right)) return undefined;
  if (left.length !== right.length) return left.length - right.length;
  return left < right ? -1 : left > right ? 1 : 0;
}

function isDecimal(text: string): boolean {
  return /^[1-9]\d*$/.test(text);
}
