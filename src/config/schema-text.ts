import * as z from 'zod/mini';

/** Texts of the schema: what each kind of them must look like, and what a message says that it expected. */

const ABSOLUTE_PATH = /^\/[^\0\r\n]*$/;

export function text(pattern: RegExp, expected: string) {
  return z.string().check(z.regex(pattern, expected));
}

export function absolutePath() {
  return text(ABSOLUTE_PATH, 'expected an absolute path');
}

/** A check whose function gives what was expected, or undefined when the text is right. */
export function checkText(problem: (value: string) => string | undefined) {
  return z.check<string>((payload) => {
    const expected = problem(payload.value);
    if (expected !== undefined) {
      payload.issues.push({ code: 'custom', input: payload.value, message: expected, continue: true });
    }
  });
}

/** A whole number; TOML has floats too, and a message says which numbers were expected. */
export function wholeNumber(min: number, max: number) {
  const expected = `expected a whole number from ${min} to ${max}`;
  return z.number(expected).check(z.int(expected), z.gte(min, expected), z.lte(max, expected));
}
