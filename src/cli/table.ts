import { printable } from './text.ts';

export type Style = 'bold' | 'red' | 'yellow' | 'green' | 'dim';

/** Marks text up, or leaves it as it is where nobody sees colours. */
export type Paint = (style: Style, text: string) => string;

export type Cell = string | { readonly text: string; readonly style: Style };

const CODES: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
};

/** ECMA-48 select graphic rendition, each style ended by its own reset. */
export const colourPaint: Paint = (style, text) => {
  const [start, end] = CODES[style];
  return text === '' ? text : `\u001b[${start}m${text}\u001b[${end}m`;
};

export const plainPaint: Paint = (_style, text) => text;

const GAP = '  ';

/** Lines of left-aligned columns, two spaces apart, without trailing space; cells are made printable. */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  paint: Paint,
): readonly string[] {
  const bold = header.map((text): Cell => ({ text, style: 'bold' }));
  return renderColumns([bold, ...rows], paint);
}

/** The same without a header, for lists of a name and what it is. */
export function renderColumns(rows: readonly (readonly Cell[])[], paint: Paint): readonly string[] {
  const cells = rows.map((row) => row.map(normalize));
  const widths: number[] = [];
  for (const row of cells) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.width);
  }
  return cells.map((row) => {
    const used = row.findLastIndex((cell) => cell.width > 0) + 1;
    const shown = row.slice(0, used).map((cell, column) => {
      const padding = column === used - 1 ? '' : ' '.repeat((widths[column] ?? 0) - cell.width);
      return `${cell.style === undefined ? cell.text : paint(cell.style, cell.text)}${padding}`;
    });
    return shown.join(GAP);
  });
}

type NormalizedCell = { readonly text: string; readonly style: Style | undefined; readonly width: number };

function normalize(cell: Cell): NormalizedCell {
  const text = printable(typeof cell === 'string' ? cell : cell.text);
  return { text, style: typeof cell === 'string' ? undefined : cell.style, width: [...text].length };
}
