import type { core } from 'zod/mini';
import { configSchema } from './schema.ts';

/** One table of lbd.toml. */
export type ConfigTable = {
  /** `['gossip', 'timing']` of [gossip.timing]. */
  readonly path: readonly string[];
  /** Written as [[pool]], any number of times. */
  readonly isList: boolean;
  /** Its keys, without the tables in it, which follow it. */
  readonly keys: readonly string[];
};

/** Every table in the order of the schema, each before the tables in it. */
export function configTables(): readonly ConfigTable[] {
  return Object.entries(configSchema().shape).flatMap(([name, schema]) => tablesOf([name], schema));
}

function tablesOf(path: readonly string[], schema: core.$ZodType): readonly ConfigTable[] {
  const bare = unwrapped(schema);
  const isList = bare.def.type === 'array';
  const shape = shapeOf(isList ? unwrapped(bare.def.element) : bare) ?? {};
  const entries = Object.entries(shape);
  const isTable = (value: core.$ZodType): boolean => shapeOf(unwrapped(value)) !== undefined;
  return [
    { path, isList, keys: entries.flatMap(([key, value]) => (isTable(value) ? [] : [key])) },
    ...entries.flatMap(([key, value]) => (isTable(value) ? tablesOf([...path, key], value) : [])),
  ];
}

/** The part of zod's definitions that says what is inside of what. */
type Bare = { readonly def: { readonly type: string; readonly element: core.$ZodType } };

/** Without its default and without being optional. */
function unwrapped(schema: core.$ZodType): Bare {
  const { def } = schema._zod;
  if ('innerType' in def) return unwrapped(def.innerType as core.$ZodType);
  return { def: def as unknown as Bare['def'] };
}

function shapeOf({ def }: Bare): Readonly<Record<string, core.$ZodType>> | undefined {
  return 'shape' in def ? (def.shape as Readonly<Record<string, core.$ZodType>>) : undefined;
}
