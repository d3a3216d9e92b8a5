import type { ConfigListing, ConfigValue } from '../config/types.ts';
import type { Paint } from './table.ts';
import { printable } from './text.ts';

/** Longer lines keep their comment right behind them instead of moving all the others to the right. */
const WIDEST_ALIGNED = 60;

/**
 * A configuration as TOML that means the same, each value with where it was written: `# /etc/lbd.toml:3` or `# default`.
 */
export function renderConfig(listing: ConfigListing, paint: Paint): string {
  const [main = '', ...dropIns] = listing.files;
  const header = [`# ${main} (digest ${listing.digest})`, ...dropIns.map((file) => `# with ${file}`)];
  const blocks = [
    header.map((line) => paint('dim', printable(line))),
    ...groupByTable(listing.values).map((values) => renderTable(values, listing.waiting, paint)),
  ];
  return blocks.map((lines) => `${lines.join('\n')}\n`).join('\n');
}

/** Values follow each other table by table; each [[pool]] is one of its own. */
function groupByTable(values: readonly ConfigValue[]): readonly (readonly ConfigValue[])[] {
  const groups = new Map<string, ConfigValue[]>();
  for (const value of values) {
    const table = value.path.slice(0, -1).join('.');
    const group = groups.get(table);
    if (group === undefined) groups.set(table, [value]);
    else group.push(value);
  }
  return [...groups.values()];
}

function renderTable(
  values: readonly ConfigValue[],
  waiting: readonly string[],
  paint: Paint,
): readonly string[] {
  const path = values[0]?.path ?? [];
  const name = String(path[0]);
  const table = path.slice(0, -1);
  const isList = typeof table.at(-1) === 'number';
  const names = table.filter((part) => typeof part === 'string').join('.');
  const header = paint('bold', isList ? `[[${names}]]` : `[${names}]`);
  const note = '# changed on disk: that takes effect when lbd is restarted';
  const lines = values.map(assignment);
  const aligned = lines.map((line) => line.length).filter((length) => length <= WIDEST_ALIGNED);
  const width = Math.max(0, ...aligned);
  return [
    header,
    ...(waiting.includes(name) ? [paint('yellow', note)] : []),
    ...values.map((value, index) => {
      const line = lines[index] ?? '';
      if (value.value === undefined) return paint('dim', line);
      return `${line.padEnd(width)}  ${paint('dim', printable(`# ${originText(value)}`))}`;
    }),
  ];
}

function assignment({ path, value }: ConfigValue): string {
  const key = String(path.at(-1));
  return value === undefined ? `# ${key} is not set` : `${key} = ${toToml(value)}`;
}

function originText({ origin }: ConfigValue): string {
  if (origin === undefined) return 'default';
  return origin.line === undefined ? origin.file : `${origin.file}:${origin.line}`;
}

function toToml(value: NonNullable<ConfigValue['value']>): string {
  if (typeof value === 'string') return tomlString(value);
  if (typeof value === 'object') return `[${value.map(tomlString).join(', ')}]`;
  return String(value);
}

/** A basic string: JSON's escapes are TOML's too, but DEL and what `printable()` would replace need one here. */
function tomlString(text: string): string {
  return JSON.stringify(text).replaceAll(
    /[\u007f-\u009f\u200b-\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
