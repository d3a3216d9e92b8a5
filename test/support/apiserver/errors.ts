/**
 * Failures as the API reports them: a metav1.Status with a machine-readable reason.
 * Message texts follow the ones a client of kube-apiserver sees, since clients (and kubectl) show them.
 */

import type { JsonObject } from './json.ts';

export class ApiError extends Error {
  readonly code: number;
  readonly status: JsonObject;
  readonly headers: Record<string, string>;

  constructor(
    code: number,
    reason: string,
    message: string,
    details?: JsonObject,
    headers: Record<string, string> = {},
    listMetadata: JsonObject = {},
  ) {
    super(message);
    this.code = code;
    this.headers = headers;
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: listMetadata,
      status: 'Failure',
      message,
      reason,
      ...(details === undefined ? {} : { details }),
      code,
    };
  }
}

/** What names a resource in messages and in `details`. */
export interface ResourceName {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

function qualified(name: string, group: string): string {
  return group === '' ? name : `${name}.${group}`;
}

function detailsOf(resource: ResourceName, name: string, kind: string): JsonObject {
  return {
    ...(name === '' ? {} : { name }),
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind,
  };
}

export function notFound(resource: ResourceName, name: string): ApiError {
  const what = qualified(resource.plural, resource.group);
  return new ApiError(
    404,
    'NotFound',
    `${what} "${name}" not found`,
    detailsOf(resource, name, resource.plural),
  );
}

export function noSuchResource(): ApiError {
  return new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});
}

export function alreadyExists(resource: ResourceName, name: string): ApiError {
  const what = qualified(resource.plural, resource.group);
  return new ApiError(
    409,
    'AlreadyExists',
    `${what} "${name}" already exists`,
    detailsOf(resource, name, resource.plural),
  );
}

export function conflict(resource: ResourceName, name: string, why: string): ApiError {
  const what = qualified(resource.plural, resource.group);
  return new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${what} "${name}": ${why}`,
    detailsOf(resource, name, resource.plural),
  );
}

export const MODIFIED_MEANWHILE =
  'the object has been modified; please apply your changes to the latest version and try again';

export function forbidden(
  resource: ResourceName,
  name: string,
  why: string,
  causes?: JsonObject[],
): ApiError {
  const what = qualified(resource.plural, resource.group);
  return new ApiError(403, 'Forbidden', `${what}${name === '' ? '' : ` "${name}"`} is forbidden: ${why}`, {
    ...detailsOf(resource, name, resource.plural),
    ...(causes === undefined ? {} : { causes }),
  });
}

export function unauthorized(): ApiError {
  return new ApiError(401, 'Unauthorized', 'Unauthorized');
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message);
}

export function methodNotAllowed(): ApiError {
  return new ApiError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );
}

export function unsupportedMediaType(accepted: readonly string[]): ApiError {
  return new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
  );
}

export function notAcceptable(accepted: readonly string[]): ApiError {
  return new ApiError(
    406,
    'NotAcceptable',
    `only the following media types are accepted: ${accepted.join(', ')}`,
  );
}

export function expired(message: string, continueToken?: string): ApiError {
  const list = continueToken === undefined ? {} : { continue: continueToken, resourceVersion: '-1' };
  return new ApiError(410, 'Expired', message, undefined, {}, list);
}

export function tooLargeResourceVersion(wanted: number, current: number): ApiError {
  return new ApiError(
    504,
    'Timeout',
    `Timeout: Too large resource version: ${wanted}, current: ${current}`,
    {
      causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
      retryAfterSeconds: 1,
    },
    { 'Retry-After': '1' },
  );
}

export function internalError(message: string): ApiError {
  return new ApiError(500, 'InternalError', `Internal error occurred: ${message}`, {
    causes: [{ message }],
  });
}

// ── field errors: 422 Invalid ────────────────────────────────────────────────────────────────────

export interface FieldError {
  readonly field: string;
  readonly reason: string;
  /** The text without the field in front, e.g. `Invalid value: 0: must be between 1 and 65535, inclusive`. */
  readonly message: string;
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : (JSON.stringify(value) ?? 'null');
}

function withDetail(head: string, detail: string): string {
  return detail === '' ? head : `${head}: ${detail}`;
}

export function invalidField(field: string, value: unknown, detail: string): FieldError {
  return {
    field,
    reason: 'FieldValueInvalid',
    message: withDetail(`Invalid value: ${shown(value)}`, detail),
  };
}

export function requiredField(field: string, detail = ''): FieldError {
  return { field, reason: 'FieldValueRequired', message: withDetail('Required value', detail) };
}

export function duplicateField(field: string, value: unknown): FieldError {
  return { field, reason: 'FieldValueDuplicate', message: `Duplicate value: ${shown(value)}` };
}

export function forbiddenField(field: string, detail: string): FieldError {
  return { field, reason: 'FieldValueForbidden', message: withDetail('Forbidden', detail) };
}

export function unsupportedField(field: string, value: unknown, supported: readonly string[]): FieldError {
  const list = [...supported]
    .sort()
    .map((item) => JSON.stringify(item))
    .join(', ');
  return {
    field,
    reason: 'FieldValueNotSupported',
    message: `Unsupported value: ${shown(value)}: supported values: ${list}`,
  };
}

export function tooLongField(field: string, maximum: number): FieldError {
  return {
    field,
    reason: 'FieldValueTooLong',
    message: `Too long: may not be more than ${maximum} bytes`,
  };
}

/** 422 with one cause per field, as every validation failure is reported. */
export function invalid(resource: ResourceName, name: string, errors: readonly FieldError[]): ApiError {
  const what = qualified(resource.kind, resource.group);
  const texts = errors.map((error) => `${error.field}: ${error.message}`);
  const list = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${what} "${name}" is invalid: ${list}`, {
    ...detailsOf(resource, name, resource.kind),
    causes: errors.map((error) => ({ reason: error.reason, message: error.message, field: error.field })),
  });
}
