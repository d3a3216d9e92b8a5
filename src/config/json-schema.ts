import * as z from 'zod/mini';
import { configSchema } from './schema.ts';

/** The JSON Schema (draft 2020-12) of lbd.toml as it is written, defaults and documentation included, for editors. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  return { title: 'lbd.toml', ...z.toJSONSchema(configSchema(), { io: 'input' }) };
}
