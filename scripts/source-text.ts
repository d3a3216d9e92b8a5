/** Just enough of TypeScript's lexical grammar to find imports and words without taking a comment or text for code. */

export type Import = {
  readonly specifier: string;
  /** `import type` and `export type`: gone before the code runs. */
  readonly typeOnly: boolean;
  readonly offset: number;
};

/** After one of these, a slash begins a regular expression; after anything else it divides. */
const BEFORE_REGEXP =
  /(?:^|[(,=:[!&|?{};+\-*%~^<>]|\b(?:return|typeof|case|in|of|delete|void|throw|new|else|do|await|yield))\s*$/;

const QUOTES = ['"', "'"];

/**
 * The source with comments, texts and regular expressions overwritten by spaces (quotes and line ends stay), so that
 * every offset and line is what it was. Code inside a template's `${}` stays.
 */
export function blank(source: string): string {
  const out = source.split('');
  // For each open `${`, how many braces are open inside it.
  const templates: number[] = [];
  let at = 0;

  const erase = (from: number, to: number): void => {
    for (let i = from; i < to; i += 1) if (out[i] !== '\n') out[i] = ' ';
  };
  const eraseTo = (end: number): void => {
    erase(at, end);
    at = end;
  };
  /** From behind the opening backtick or a closing brace to behind the closing backtick or the next `${`. */
  const template = (): void => {
    const match = /(?:\\[\s\S]|(?!\$\{)[^`\\])*(`|\$\{|$)/y;
    match.lastIndex = at;
    const found = match.exec(source);
    const end = found?.[1] ?? '';
    const next = at + (found?.[0].length ?? 0);
    eraseTo(next - end.length);
    at = next;
    if (end === '${') templates.push(0);
  };

  while (at < source.length) {
    const char = source[at] ?? '';
    if (source.startsWith('//', at)) eraseTo(indexOrEnd(source, '\n', at));
    else if (source.startsWith('/*', at))
      eraseTo(Math.min(indexOrEnd(source, '*/', at + 2) + 2, source.length));
    else if (QUOTES.includes(char)) {
      const end = matchEnd(source, at, /(["'])(?:\\[\s\S]|(?!\1)[^\\\n])*/y);
      erase(at + 1, end);
      at = end + 1;
    } else if (char === '`') {
      at += 1;
      template();
    } else if (char === '/' && BEFORE_REGEXP.test(out.slice(Math.max(0, at - 40), at).join(''))) {
      eraseTo(matchEnd(source, at, /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/y));
    } else {
      const inside = templates.length - 1;
      const depth = templates[inside];
      at += 1;
      if (depth === undefined) continue;
      if (char === '{') templates[inside] = depth + 1;
      if (char === '}' && depth > 0) templates[inside] = depth - 1;
      if (char === '}' && depth === 0) {
        templates.pop();
        template();
      }
    }
  }
  return out.join('');
}

/** Every module that the source names: static imports, re-exports and import() of a literal. */
export function importsOf(source: string, blanked: string): Import[] {
  const statement =
    /\b(?:import|export)\s+(type\s+(?!from\b))?(?:[\w$*{][^;'"`=()]*?\bfrom\s*)?(?=['"])|\bimport\s*\(\s*(?=['"])/g;
  return Array.from(blanked.matchAll(statement), (match) => {
    const open = match.index + match[0].length;
    const close = blanked.indexOf(blanked[open] ?? '', open + 1);
    return {
      specifier: source.slice(open + 1, close),
      typeOnly: match[1] !== undefined,
      offset: match.index,
    };
  });
}

function indexOrEnd(source: string, wanted: string, from: number): number {
  const index = source.indexOf(wanted, from);
  return index < 0 ? source.length : index;
}

function matchEnd(source: string, at: number, pattern: RegExp): number {
  pattern.lastIndex = at;
  return at + Math.max(1, pattern.exec(source)?.[0].length ?? 0);
}
