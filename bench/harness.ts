import { plainPaint, renderTable } from '../src/cli/table.ts';

/** One measured figure. `against` is what it is compared with: another system's figure or another tool's, in words. */
export type Figure = {
  readonly bench: string;
  readonly case: string;
  readonly value: number;
  readonly unit: string;
  /** Undefined for a figure that is only printed. */
  readonly target: { readonly atMost: number } | { readonly atLeast: number } | undefined;
  readonly against: string;
};

/** Collects figures: a JSON line for each as it is measured, a table at the end. */
export class Figures {
  readonly #figures: Figure[] = [];

  record(figure: Figure): void {
    this.#figures.push(figure);
    const { target, ...rest } = figure;
    const bound = target === undefined ? null : 'atMost' in target ? target.atMost : target.atLeast;
    const line = { ...rest, value: round(figure.value), target: bound, met: isMet(figure) };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }

  get allMet(): boolean {
    return this.#figures.every(isMet);
  }

  table(): string {
    const rows = this.#figures.map((figure) => [
      figure.bench,
      figure.case,
      `${round(figure.value)} ${figure.unit}`,
      targetText(figure),
      figure.target === undefined ? '' : isMet(figure) ? 'met' : 'MISSED',
      figure.against,
    ]);
    return renderTable(['BENCH', 'CASE', 'VALUE', 'TARGET', '', 'AGAINST'], rows, plainPaint).join('\n');
  }
}

function targetText({ target, unit }: Figure): string {
  if (target === undefined) return '';
  return 'atMost' in target ? `≤ ${target.atMost} ${unit}` : `≥ ${target.atLeast} ${unit}`;
}

function isMet({ target, value }: Figure): boolean {
  if (target === undefined) return true;
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast;
}

function round(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

/** The value below which `fraction` of the samples lie (nearest rank); samples need not be sorted. */
export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  const value = sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)];
  if (value === undefined) throw new Error('a percentile of no samples');
  return value;
}

export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}
