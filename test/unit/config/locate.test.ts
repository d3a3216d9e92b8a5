import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createLocator, lineAndColumn } from '../../../src/config/locate.ts';

const DOCUMENT = `# a comment
top = 1
dotted.key.deep = 2
"quoted.key" = 3

[table] # another
text = """
name = "not a key"
[not.a.table]
"""
list = [
  "first", # with a comment, and a ] in it
  "second", "same line",

  [
    "nested",
  ],
  { in = "table", other = [ 1,
    2 ] },
]
inline = { a = 1, b.c = 2,
  d = [
    "deep" ],
}

[[array]]
name = "one"
[[array]]
  name = "two"
  [array.sub]
  x = 1
  [[array.items]]
  y = 1
  [[array.items]]
  y = 2

[implicit.child]
z = 1
`;

/** The 1-based line that holds `needle`, so that the expectations are readable. */
function lineOf(needle: string, document = DOCUMENT): number {
  const index = document.split('\n').findIndex((line) => line.includes(needle));
  assert.ok(index >= 0, needle);
  return index + 1;
}

test('createLocator() finds keys, dotted keys, quoted keys and tables', () => {
  const locate = createLocator(DOCUMENT);
  assert.equal(locate(['top']), 2);
  assert.equal(locate(['dotted']), 3);
  assert.equal(locate(['dotted', 'key']), 3);
  assert.equal(locate(['dotted', 'key', 'deep']), 3);
  assert.equal(locate(['quoted.key']), 4);
  assert.equal(locate(['table']), lineOf('[table]'));
  assert.equal(locate(['table', 'text']), lineOf('text = """'));
  assert.equal(locate(['implicit']), lineOf('[implicit.child]'));
  assert.equal(locate(['implicit', 'child', 'z']), lineOf('z = 1'));
});

test('createLocator() finds each element of an array over many lines', () => {
  const locate = createLocator(DOCUMENT);
  assert.equal(locate(['table', 'list']), lineOf('list = ['));
  assert.equal(locate(['table', 'list', 0]), lineOf('"first"'));
  assert.equal(locate(['table', 'list', 1]), lineOf('"second"'));
  assert.equal(locate(['table', 'list', 2]), lineOf('"same line"'));
  assert.equal(locate(['table', 'list', 3, 0]), lineOf('"nested"'));
  assert.equal(locate(['table', 'list', 4, 'in']), lineOf('in = "table"'));
  assert.equal(locate(['table', 'list', 4, 'other', 1]), lineOf('2 ] }'));
});

test('createLocator() finds what is inside an inline table', () => {
  const locate = createLocator(DOCUMENT);
  assert.equal(locate(['table', 'inline', 'a']), lineOf('inline ='));
  assert.equal(locate(['table', 'inline', 'b', 'c']), lineOf('inline ='));
  assert.equal(locate(['table', 'inline', 'd']), lineOf('d = ['));
  assert.equal(locate(['table', 'inline', 'd', 0]), lineOf('"deep"'));
});

test('createLocator() finds each table of an array of tables, and what hangs below its latest', () => {
  const locate = createLocator(DOCUMENT);
  const [first, second] = [lineOf('[[array]]'), lineOf('name = "two"') - 1];
  assert.equal(locate(['array']), first);
  assert.equal(locate(['array', 0]), first);
  assert.equal(locate(['array', 0, 'name']), lineOf('name = "one"'));
  assert.equal(locate(['array', 1]), second);
  assert.equal(locate(['array', 1, 'name']), lineOf('name = "two"'));
  assert.equal(locate(['array', 1, 'sub', 'x']), lineOf('x = 1'));
  assert.equal(locate(['array', 1, 'items', 0, 'y']), lineOf('y = 1'));
  assert.equal(locate(['array', 1, 'items', 1, 'y']), lineOf('y = 2'));
});

test('createLocator() gives the nearest thing around what is not there, and nothing for the root', () => {
  const locate = createLocator(DOCUMENT);
  assert.equal(locate(['array', 1, 'missing']), lineOf('name = "two"') - 1);
  assert.equal(locate(['table', 'list', 99]), lineOf('list = ['));
  assert.equal(locate(['table', 'text', 'deeper']), lineOf('text = """'));
  assert.equal(locate(['nowhere', 'at', 'all']), undefined);
  assert.equal(locate([]), undefined);
});

test('createLocator() counts lines that end in CR LF once', () => {
  const locate = createLocator(DOCUMENT.replaceAll('\n', '\r\n'));
  assert.equal(locate(['table', 'list', 1]), lineOf('"second"'));
});

test('createLocator() finds the line of every key of a generated document', () => {
  const blank = fc.constantFrom('', '\n', '# comment\n', '\r\n', '   \n');
  fc.assert(
    fc.property(fc.array(blank, { minLength: 1, maxLength: 30 }), (blanks) => {
      const text = blanks.map((before, index) => `${before}key${index} = [\n${before}${index}]\n`).join('');
      const locate = createLocator(text);
      const lines = text.split('\n');
      for (const [index] of blanks.entries()) {
        const line = lines.findIndex((one) => one.startsWith(`key${index} `)) + 1;
        assert.equal(locate([`key${index}`]), line);
        assert.ok((locate([`key${index}`, 0]) ?? 0) > line);
      }
    }),
  );
});

test('lineAndColumn() counts both from one', () => {
  assert.deepEqual(lineAndColumn('ab\ncd', 0), { line: 1, column: 1 });
  assert.deepEqual(lineAndColumn('ab\ncd', 2), { line: 1, column: 3 });
  assert.deepEqual(lineAndColumn('ab\ncd', 3), { line: 2, column: 1 });
  assert.deepEqual(lineAndColumn('ab\ncd', 5), { line: 2, column: 3 });
  assert.deepEqual(lineAndColumn('', 0), { line: 1, column: 1 });
  assert.deepEqual(lineAndColumn('\n', 0), { line: 1, column: 1 });
});
