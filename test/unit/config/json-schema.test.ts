import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configJsonSchema } from '../../../src/config/json-schema.ts';

test('configJsonSchema() describes the file as it is written', () => {
  const schema = configJsonSchema() as {
    readonly additionalProperties: boolean;
    readonly required?: readonly string[];
    readonly properties: Readonly<Record<string, { readonly items?: { readonly required?: unknown } }>>;
  };
  assert.equal(schema.additionalProperties, false);
  assert.equal(schema.required, undefined, 'an empty file is a configuration');
  assert.deepEqual(schema.properties['log'], {
    description: 'What lbd logs.',
    default: {},
    type: 'object',
    properties: {
      level: {
        description: 'The least important level that is logged: trace, debug, info, warn or error.',
        default: 'info',
        type: 'string',
        enum: ['trace', 'debug', 'info', 'warn', 'error'],
      },
    },
    additionalProperties: false,
  });
  assert.deepEqual(schema.properties['pool']?.items?.required, ['name', 'addresses']);
});
