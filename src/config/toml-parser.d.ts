/** The parser behind the public `parse()` of the toml package; its syntax tree alone knows where each value stands. */
declare module 'toml/lib/parser.js' {
  const parser: { parse(text: string): readonly unknown[] };
  export = parser;
}
