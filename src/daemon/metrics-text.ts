/**
 * The text format of Prometheus, version 0.0.4. Every figure of lbd is read from what it knows at the time of the
 * scrape, so that there is nothing to register and nothing that could differ from status.
 */

export type Metric = {
  readonly name: string;
  readonly help: string;
  /** A counter only ever grows, and its name ends in `_total`. */
  readonly type: 'counter' | 'gauge';
  readonly samples: readonly Sample[];
};

type Sample = {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
};

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** One figure; none when `value` is undefined, as what is not known is no number. */
export function metric(
  type: Metric['type'],
  name: string,
  help: string,
  value: number | boolean | undefined,
): Metric {
  const samples = value === undefined ? [] : [{ labels: {}, value: Number(value) }];
  return { name, help, type, samples };
}

/** One figure for each value of a label. */
export function metrics(
  type: Metric['type'],
  name: string,
  help: string,
  label: string,
  values: Iterable<readonly [string, number | boolean]>,
): Metric {
  const samples = [...values].map(([key, value]) => ({ labels: { [label]: key }, value: Number(value) }));
  return { name, help, type, samples };
}

/** Metrics without a sample are left out. */
export function formatMetrics(all: readonly Metric[]): string {
  const lines = all.flatMap(({ name, help, type, samples }) => {
    if (samples.length === 0) return [];
    const head = [`# HELP ${name} ${escaped(help, /[\\\n]/g)}`, `# TYPE ${name} ${type}`];
    return [...head, ...samples.map(({ labels, value }) => `${name}${labelText(labels)} ${value}`)];
  });
  return `${lines.join('\n')}\n`;
}

function labelText(labels: Sample['labels']): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${escaped(value, /[\\\n"]/g)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(text: string, special: RegExp): string {
  return text.replace(special, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}
