import { type Paint, plainPaint, type Style } from './table.ts';
import { plural, printable } from './text.ts';

/** What `lbd check` has to say: sentences under headings, each with how much it matters. */

export type Remark = {
  /**
   * `note`: how it is. `unseen`: what this user or this run could not look at. `warning`: allowed, but perhaps not meant.
   * `error`: lbd would not do its work with it.
   */
  readonly severity: 'note' | 'unseen' | 'warning' | 'error';
  readonly text: string;
};

export type Section = { readonly title: string; readonly remarks: readonly Remark[] };

export function note(text: string): Remark {
  return { severity: 'note', text };
}

export function unseen(text: string): Remark {
  return { severity: 'unseen', text };
}

export function warning(text: string): Remark {
  return { severity: 'warning', text };
}

export function error(text: string): Remark {
  return { severity: 'error', text };
}

const STYLES: Readonly<Record<Remark['severity'], Style | undefined>> = {
  note: undefined,
  unseen: 'dim',
  warning: 'yellow',
  error: 'red',
};

const LABELS: Readonly<Record<Remark['severity'], string>> = {
  note: '',
  unseen: 'not seen: ',
  warning: 'WARNING: ',
  error: 'ERROR: ',
};

/** Headings with their sentences, then one line that sums up. */
export function renderReport(sections: readonly Section[], paint: Paint = plainPaint): string {
  const blocks = sections
    .filter(({ remarks }) => remarks.length > 0)
    .map(({ title, remarks }) => [
      paint('bold', title),
      ...remarks.map((remark) => renderRemark(remark, paint)),
    ]);
  return [...blocks, [verdict(sections, paint)]].map((lines) => `${lines.join('\n')}\n`).join('\n');
}

function renderRemark({ severity, text }: Remark, paint: Paint): string {
  const style = STYLES[severity];
  const line = printable(`${LABELS[severity]}${text}`);
  return `  ${style === undefined ? line : paint(style, line)}`;
}

export function countRemarks(sections: readonly Section[], severity: Remark['severity']): number {
  return sections.flatMap(({ remarks }) => remarks).filter((remark) => remark.severity === severity).length;
}

function verdict(sections: readonly Section[], paint: Paint): string {
  const [errors, warnings, hidden] = (['error', 'warning', 'unseen'] as const).map((severity) =>
    countRemarks(sections, severity),
  ) as [number, number, number];
  const rest = [
    ...(warnings > 0 ? [paint('yellow', plural(warnings, 'warning'))] : []),
    ...(hidden > 0 ? [`${hidden} not seen`] : []),
  ];
  if (errors > 0) return [paint('red', plural(errors, 'error')), ...rest].join(', ');
  return [paint('green', 'no errors'), ...rest].join(', ');
}
