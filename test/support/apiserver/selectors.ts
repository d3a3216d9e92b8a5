/** Label and field selectors, parsed once per request into predicates. */

import { badRequest } from './errors.ts';
import { at, type KubeObject, objectOf, stringOf } from './json.ts';

export type Predicate = (object: KubeObject) => boolean;

interface Requirement {
  readonly key: string;
  readonly operator: '=' | '!=' | 'in' | 'notin' | 'exists' | 'absent';
  readonly values: readonly string[];
}

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Throws 400 on anything else. */
export function labelSelector(text: string): Predicate | undefined {
  if (text.trim() === '') return undefined;
  const requirements = splitOutsideParentheses(text).map((part) => labelRequirement(part, text));
  return (object) => {
    const labels = objectOf(object.metadata['labels']);
    return requirements.every((requirement) => satisfies(requirement, labels[requirement.key]));
  };
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let index = 0; index < text.length; index += 1) {
    if (text[index] === '(') depth += 1;
    else if (text[index] === ')') depth -= 1;
    else if (text[index] === ',' && depth === 0) {
      parts.push(text.slice(start, index));
      start = index + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

const KEY = '[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?';
const VALUE = '([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?';
const EQUALITY = new RegExp(`^\\s*(?<key>${KEY})\\s*(?<operator>==|=|!=)\\s*(?<value>${VALUE})\\s*$`);
const SET = new RegExp(`^\\s*(?<key>${KEY})\\s+(?<operator>in|notin)\\s*\\((?<values>[^()]*)\\)\\s*$`);
const PRESENCE = new RegExp(`^\\s*(?<not>!)?\\s*(?<key>${KEY})\\s*$`);

function labelRequirement(part: string, whole: string): Requirement {
  const equality = EQUALITY.exec(part)?.groups;
  if (equality !== undefined) {
    const operator = equality['operator'] === '!=' ? '!=' : '=';
    return { key: equality['key'] ?? '', operator, values: [equality['value'] ?? ''] };
  }
  const set = SET.exec(part)?.groups;
  if (set !== undefined) {
    const values = (set['values'] ?? '').split(',').map((value) => value.trim());
    return { key: set['key'] ?? '', operator: set['operator'] === 'in' ? 'in' : 'notin', values };
  }
  const presence = PRESENCE.exec(part)?.groups;
  if (presence !== undefined) {
    return {
      key: presence['key'] ?? '',
      operator: presence['not'] === '!' ? 'absent' : 'exists',
      values: [],
    };
  }
  throw badRequest(
    `unable to parse requirement: ${JSON.stringify(part)} in label selector ${JSON.stringify(whole)}`,
  );
}

function satisfies(requirement: Requirement, label: unknown): boolean {
  const present = typeof label === 'string';
  switch (requirement.operator) {
    case '=':
    case 'in':
      return present && requirement.values.includes(label);
    case '!=':
    case 'notin':
      return !present || !requirement.values.includes(label);
    case 'exists':
      return present;
    case 'absent':
      return !present;
    default:
      return requirement.operator satisfies never;
  }
}

/**
 * Parses `metadata.name=x,involvedObject.kind!=y`. Only the fields a resource declares selectable are
 * allowed; others are refused with 400 as the real server does.
 */
export function fieldSelector(
  text: string,
  selectable: Readonly<Record<string, readonly string[]>>,
  describe: string,
): Predicate | undefined {
  if (text.trim() === '') return undefined;
  const tests = text.split(',').map((part): Predicate => {
    const match = /^(?<key>[^=!]+)(?<operator>==|=|!=)(?<value>.*)$/.exec(part.trim())?.groups;
    if (match === undefined) {
      throw badRequest(
        `invalid field selector ${JSON.stringify(text)}; can't understand ${JSON.stringify(part)}`,
      );
    }
    const key = match['key'] ?? '';
    const path = selectable[key];
    if (path === undefined) {
      throw badRequest(
        `Unable to find ${JSON.stringify(describe)} that match label selector "", field selector ${JSON.stringify(text)}: field label not supported: ${key}`,
      );
    }
    const wanted = match['value'] ?? '';
    const negated = match['operator'] === '!=';
    return (object) => (selected(object, path) === wanted) !== negated;
  });
  return (object) => tests.every((test) => test(object));
}

function selected(object: KubeObject, path: readonly string[]): string {
  const value = at(object, ...path);
  return typeof value === 'boolean' ? String(value) : stringOf(value);
}

/** Every selector given, or undefined when everything matches. */
export function all(...predicates: (Predicate | undefined)[]): Predicate | undefined {
  const given = predicates.filter((predicate) => predicate !== undefined);
  if (given.length === 0) return undefined;
  return (object) => given.every((predicate) => predicate(object));
}
