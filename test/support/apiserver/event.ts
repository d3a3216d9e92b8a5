/**
 * Events: one storage, two APIs. core/v1 keeps the old, lenient rules; events.k8s.io/v1 is strict. Objects
 * are stored in the core shape and converted for the other.
 */

import { type FieldError, invalidField, requiredField } from './errors.ts';
import { at, equal, isObject, type JsonObject, type KubeObject, numberOf, stringOf } from './json.ts';
import { metadataErrors, nameProblems, qualifiedNameProblems } from './names.ts';
import type { Strategy } from './resources.ts';

const TEXT_LIMIT = 128;
const NOTE_LIMIT = 1024;

/** events.k8s.io field → core field, where the names differ. */
const RENAMED: Readonly<Record<string, string>> = {
  reportingController: 'reportingComponent',
  regarding: 'involvedObject',
  note: 'message',
  deprecatedSource: 'source',
  deprecatedFirstTimestamp: 'firstTimestamp',
  deprecatedLastTimestamp: 'lastTimestamp',
  deprecatedCount: 'count',
};
const RENAMED_BACK = Object.fromEntries(Object.entries(RENAMED).map(([event, core]) => [core, event]));

function rename(object: KubeObject, apiVersion: string, names: Readonly<Record<string, string>>): KubeObject {
  const out: JsonObject = {};
  for (const [key, value] of Object.entries(object)) out[names[key] ?? key] = value;
  return { ...out, kind: 'Event', apiVersion, metadata: object.metadata };
}

export function coreFromEvent(event: KubeObject): KubeObject {
  return {
    involvedObject: {},
    source: {},
    reportingComponent: '',
    reportingInstance: '',
    ...rename(event, 'v1', RENAMED),
  };
}

export function eventFromCore(event: KubeObject): KubeObject {
  return rename(event, 'events.k8s.io/v1', RENAMED_BACK);
}

/** core/v1: what every event must satisfy, however it was written. */
export class CoreEventStrategy implements Strategy {
  validate(event: KubeObject): FieldError[] {
    return legacyErrors(event);
  }

  validateUpdate(event: KubeObject): FieldError[] {
    return legacyErrors(event);
  }
}

/** events.k8s.io/v1. Both methods see the stored, core shape; that is why errors name its fields. */
export class EventStrategy implements Strategy {
  validate(event: KubeObject): FieldError[] {
    const errors = [
      ...legacyErrors(event),
      ...metadataErrors(event.metadata, 'dns1123Subdomain'),
      ...seriesErrors(event),
    ];
    if (!isSet(event, 'eventTime')) errors.push(requiredField('eventTime'));
    const type = stringOf(event['type']);
    if (type !== 'Normal' && type !== 'Warning')
      errors.push(invalidField('type', '', `has invalid value: ${type}`));
    for (const field of ['firstTimestamp', 'lastTimestamp', 'count']) {
      if (isSet(event, field)) errors.push(invalidField(field, '', 'needs to be unset'));
    }
    if (stringOf(at(event, 'source', 'component')) !== '' || stringOf(at(event, 'source', 'host')) !== '') {
      errors.push(invalidField('source', '', 'needs to be unset'));
    }
    return errors;
  }

  validateUpdate(event: KubeObject, old: KubeObject): FieldError[] {
    const errors = legacyErrors(event);
    if (!equal(event['series'], old['series'])) errors.push(...seriesErrors(event));
    const fixed = [
      'involvedObject',
      'reason',
      'message',
      'source',
      'firstTimestamp',
      'lastTimestamp',
      'count',
      'type',
      'eventTime',
      'action',
      'related',
      'reportingComponent',
      'reportingInstance',
    ];
    for (const field of fixed) {
      if (equal(event[field], old[field])) continue;
      const said = field === 'reportingComponent' ? 'reportingController' : field;
      errors.push(invalidField(said, event[field] ?? null, 'field is immutable'));
    }
    return errors;
  }
}

function isSet(event: KubeObject, field: string): boolean {
  const value = event[field];
  return value !== undefined && value !== null && value !== '' && value !== 0;
}

function legacyErrors(event: KubeObject): FieldError[] {
  const namespace = stringOf(event.metadata['namespace']);
  const involved = stringOf(at(event, 'involvedObject', 'namespace'));
  const errors: FieldError[] = [];
  const mismatch = invalidField('involvedObject.namespace', involved, 'does not match event.namespace');
  if (!isSet(event, 'eventTime')) {
    const matches = involved === '' ? namespace === 'default' : namespace === involved;
    if (!matches) errors.push(mismatch);
  } else {
    if (involved === '' && namespace !== 'default' && namespace !== 'kube-system') errors.push(mismatch);
    errors.push(...newStyleErrors(event));
  }
  for (const problem of nameProblems('dns1123Subdomain', namespace))
    errors.push(invalidField('namespace', namespace, problem));
  return errors;
}

/** Rules for events that carry an eventTime, whichever API wrote them. */
function newStyleErrors(event: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const controller = stringOf(event['reportingComponent']);
  if (controller === '') errors.push(requiredField('reportingController'));
  for (const problem of qualifiedNameProblems(controller))
    errors.push(invalidField('reportingController', controller, problem));
  for (const field of ['reportingInstance', 'action', 'reason']) {
    const value = stringOf(event[field]);
    if (value === '') errors.push(requiredField(field));
    if (value.length > TEXT_LIMIT)
      errors.push(invalidField(field, '', `can have at most ${TEXT_LIMIT} characters`));
  }
  if (Buffer.byteLength(stringOf(event['message'])) > NOTE_LIMIT) {
    errors.push(invalidField('message', '', `can have at most ${NOTE_LIMIT} characters`));
  }
  return errors;
}

function seriesErrors(event: KubeObject): FieldError[] {
  const series = event['series'];
  if (!isObject(series)) return [];
  const errors: FieldError[] = [];
  if (numberOf(series['count']) < 2) errors.push(invalidField('series.count', '', 'should be at least 2'));
  if (stringOf(series['lastObservedTime']) === '') errors.push(requiredField('series.lastObservedTime'));
  return errors;
}
