/** Name, label and address formats shared by the validations (RFC 1035 / 1123 as Kubernetes narrows them). */

import { isIP } from 'node:net';
import { type FieldError, forbiddenField, invalidField, requiredField, tooLongField } from './errors.ts';
import { arrayOf, type JsonObject, objectOf, stringOf } from './json.ts';

export type NameRule = 'dns1035Label' | 'dns1123Label' | 'dns1123Subdomain' | 'pathSegment';

const LABEL_LIMIT = 63;
const SUBDOMAIN_LIMIT = 253;
const ANNOTATIONS_LIMIT = 256 * 1024;

const LABEL_1123 = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const SUBDOMAIN_1123 = '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*';
const LABEL_1035 = '[a-z]([-a-z0-9]*[a-z0-9])?';
const QUALIFIED = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]';
const LABEL_VALUE = '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?';

const TEXTS: Record<
  'dns1035Label' | 'dns1123Label' | 'dns1123Subdomain',
  { pattern: string; text: string; limit: number }
> = {
  dns1035Label: {
    pattern: LABEL_1035,
    limit: LABEL_LIMIT,
    text: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
  },
  dns1123Label: {
    pattern: LABEL_1123,
    limit: LABEL_LIMIT,
    text: "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
  },
  dns1123Subdomain: {
    pattern: SUBDOMAIN_1123,
    limit: SUBDOMAIN_LIMIT,
    text: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
  },
};

/** What is wrong with the value under the rule; empty when nothing. */
export function nameProblems(rule: NameRule, value: string): string[] {
  if (rule === 'pathSegment') {
    if (value === '.' || value === '..') return [`may not be '${value}'`];
    return ['/', '%'].filter((part) => value.includes(part)).map((part) => `may not contain '${part}'`);
  }
  const { pattern, text, limit } = TEXTS[rule];
  const problems = value.length > limit ? [`must be no more than ${limit} bytes`] : [];
  if (!new RegExp(`^${pattern}$`).test(value)) problems.push(text);
  return problems;
}

/** Problems of a qualified name, `[prefix/]name`, as used for label keys, finalizers and controllers. */
export function qualifiedNameProblems(value: string): string[] {
  const parts = value.split('/');
  const name = parts.at(-1) ?? '';
  const problems: string[] = [];
  if (parts.length > 2) {
    return [
      "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
    ];
  }
  if (parts.length === 2) {
    const prefix = parts[0] ?? '';
    if (prefix === '') problems.push('prefix part must be non-empty');
    else problems.push(...nameProblems('dns1123Subdomain', prefix).map((text) => `prefix part ${text}`));
  }
  if (name === '') problems.push('name part must be non-empty');
  else if (name.length > LABEL_LIMIT) problems.push(`name part must be no more than ${LABEL_LIMIT} bytes`);
  if (!new RegExp(`^${QUALIFIED}$`).test(name)) {
    problems.push(
      "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    );
  }
  return problems;
}

function labelValueProblems(value: string): string[] {
  const problems = value.length > LABEL_LIMIT ? [`must be no more than ${LABEL_LIMIT} bytes`] : [];
  if (!new RegExp(`^${LABEL_VALUE}$`).test(value)) {
    problems.push(
      "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    );
  }
  return problems;
}

/** A plain IPv4 or IPv6 address: no zone, no leading zeros. */
export function isAddress(value: string): boolean {
  return isIP(value) !== 0 && !value.includes('%');
}

export const ADDRESS_EXPECTED = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';

export function labelsErrors(labels: JsonObject, field: string): FieldError[] {
  return Object.entries(labels).flatMap(([key, value]) => [
    ...qualifiedNameProblems(key).map((problem) => invalidField(field, key, problem)),
    ...labelValueProblems(stringOf(value)).map((problem) => invalidField(field, stringOf(value), problem)),
  ]);
}

/** The rules for metadata of every object. */
export function metadataErrors(metadata: JsonObject, rule: NameRule): FieldError[] {
  const name = stringOf(metadata['name']);
  const errors: FieldError[] = [];
  if (name === '') errors.push(requiredField('metadata.name', 'name or generateName is required'));
  else
    errors.push(...nameProblems(rule, name).map((problem) => invalidField('metadata.name', name, problem)));
  errors.push(...labelsErrors(objectOf(metadata['labels']), 'metadata.labels'));
  errors.push(...annotationErrors(objectOf(metadata['annotations'])));
  arrayOf(metadata['finalizers']).forEach((finalizer, index) => {
    const field = `metadata.finalizers[${index}]`;
    const value = stringOf(finalizer);
    for (const problem of qualifiedNameProblems(value)) errors.push(invalidField(field, value, problem));
    if (!value.includes('/') && !['orphan', 'foregroundDeletion', 'kubernetes'].includes(value)) {
      errors.push(
        invalidField(field, value, 'name is neither a standard finalizer name nor is it fully qualified'),
      );
    }
  });
  return errors;
}

function annotationErrors(annotations: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    for (const problem of qualifiedNameProblems(key.toLowerCase())) {
      errors.push(invalidField('metadata.annotations', key, problem));
    }
    size += Buffer.byteLength(key) + Buffer.byteLength(stringOf(value));
  }
  if (size > ANNOTATIONS_LIMIT) errors.push(tooLongField('metadata.annotations', ANNOTATIONS_LIMIT));
  return errors;
}

/** What an update may not do to metadata. */
export function metadataUpdateErrors(metadata: JsonObject, old: JsonObject): FieldError[] {
  if (old['deletionTimestamp'] === undefined) return [];
  const before = arrayOf(old['finalizers']);
  const added = arrayOf(metadata['finalizers']).filter((finalizer) => !before.includes(finalizer));
  if (added.length === 0) return [];
  const list = added.map((finalizer) => JSON.stringify(finalizer)).join(', ');
  return [
    forbiddenField(
      'metadata.finalizers',
      `no new finalizers can be added if the object is being deleted, found new finalizers []string{${list}}`,
    ),
  ];
}
