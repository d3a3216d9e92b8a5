/** The syntax tree behind the public `parse()` of the toml package; it alone knows where each value stands. */
declare module 'toml/lib/parser.js' {
  export type TomlNode =
    | {
        readonly type: 'ObjectPath' | 'ArrayPath';
        readonly value: readonly string[];
        readonly offset: number;
      }
    | TomlAssignment
    | { readonly type: 'Comment' };

  export type TomlAssignment = {
    readonly type: 'Assign' | 'InlineTableValue';
    readonly key: string | readonly string[];
    readonly value: TomlValue;
    readonly offset: number;
  };

  export type TomlValue =
    | { readonly type: 'Array'; readonly value: readonly TomlValue[]; readonly offset: number }
    | { readonly type: 'InlineTable'; readonly value: readonly TomlAssignment[]; readonly offset: number }
    | { readonly type: 'String' | 'Integer' | 'Float' | 'Boolean'; readonly offset: number };

  const parser: { parse(text: string): readonly TomlNode[] };
  export default parser;
}
