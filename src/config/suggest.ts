/** The candidate that `text` is most likely a misspelling of, or undefined when none is near enough to help. */
export function nearest(text: string, candidates: readonly string[]): string | undefined {
  if (text.length > LONGEST_SUGGESTED) return undefined;
  const wanted = fold(text);
  let best: { readonly candidate: string; readonly distance: number } | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(wanted, fold(candidate));
    const allowed = Math.max(1, Math.floor(Math.max(wanted.length, fold(candidate).length) / 3));
    if (distance <= allowed && (best === undefined || distance < best.distance))
      best = { candidate, distance };
  }
  return best?.candidate;
}

const LONGEST_SUGGESTED = 64;

/** `autoAssign`, `auto-assign` and `auto_assign` are one key in three dialects. */
function fold(text: string): string {
  return text.replaceAll(/[-_\s]/g, '').toLowerCase();
}

/** Damerau-Levenshtein, in its optimal string alignment form: insertions, deletions, substitutions, swaps of neighbours. */
export function editDistance(left: string, right: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1];
      let distance = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (same ? 0 : 1),
      );
      const swapped =
        row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      if (swapped) distance = Math.min(distance, at(beforeLast, column - 2) + 1);
      current.push(distance);
    }
    beforeLast = last;
    last = current;
  }
  return at(last, right.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
