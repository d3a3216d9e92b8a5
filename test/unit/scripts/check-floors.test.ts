import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkFile } from '../../../scripts/check-floors.ts';

/** The findings of a file, each as `line: problem` up to the first colon of its explanation. */
function problems(path: string, source: string): string[] {
  return checkFile(path, source).map(({ line, problem }) => `${line}: ${problem}`);
}

describe('import floors', () => {
  const allowed: readonly (readonly [path: string, source: string])[] = [
    ['src/main.ts', "import { lbd } from './cli/lbd.ts';"],
    ['src/cli/lbd.ts', "const { run } = await import('../daemon/run.ts');"],
    ['src/daemon/run.ts', "import { Watch } from '../kube/io/watch.ts';"],
    ['src/daemon/run.ts', "import { monotonicMs } from '../sys/clock.ts';"],
    ['src/ipam/plan.ts', "import type { Service } from '../kube/types.ts';"],
    ['src/ipam/plan.ts', "import { formatIp } from '../lib/ip.ts';"],
    ['src/ipam/plan.ts', "import { choose } from './choose.ts';"],
    ['src/iface/io/socket.ts', "import { RawSocket } from '../../sys/socket.ts';"],
    ['src/iface/io/socket.ts', "import { readFileSync } from 'node:fs';"],
    ['src/iface/codec.ts', "import type { RawSocket } from '../sys/socket.ts';"],
    ['src/iface/codec.ts', "import { AF_INET } from '../sys/constants.ts';"],
    ['src/config/schema.ts', "import * as z from 'zod/mini';"],
    ['src/kube/io/kubeconfig.ts', "import { KubeConfig } from '@kubernetes/client-node/dist/config.js';"],
    ['test/unit/x.test.ts', "import { x } from '../../src/iface/io/x.ts';"],
  ];
  for (const [path, source] of allowed) {
    it(`lets ${path} hold ${source}`, () => assert.deepEqual(problems(path, source), []));
  }

  const refused: readonly (readonly [path: string, source: string, problem: RegExp])[] = [
    [
      'src/lib/x.ts',
      "import { bind } from '../sys/socket.ts';",
      /^1: imports src\/sys\/socket\.ts: lib is below sys/,
    ],
    ['src/sys/x.ts', "import type { Pool } from '../ipam/types.ts';", /sys is below ipam/],
    ['src/kube/x.ts', "import { plan } from '../daemon/plan.ts';", /kube is below daemon/],
    [
      'src/ipam/x.ts',
      "import { y } from '../kube/y.ts';",
      /of its sibling kube, ipam may import only types\.ts/,
    ],
    ['src/ipam/io/x.ts', "export { y } from '../../kube/io/y.ts';", /of its sibling kube/],
    ['src/ipam/x.ts', "import { readFileSync } from 'node:fs';", /imports node:fs in a pure core/],
    [
      'src/iface/x.ts',
      "import { RawSocket } from '../sys/socket.ts';",
      /imports src\/sys\/socket\.ts in a pure core/,
    ],
    ['src/iface/x.ts', "import { Driver } from './io/driver.ts';", /must not know its shell/],
    ['src/iface/x.ts', "const y = await import('./io/driver.ts');", /must not know its shell/],
    ['src/iface/x.ts', "import './io/driver.ts';", /must not know its shell/],
    ['src/ipam/x.ts', "import { parse } from 'ip-address';", /imports ip-address, whose place is src\/lib\//],
    [
      'src/daemon/x.ts',
      "import { KubeConfig } from '@kubernetes/client-node';",
      /whose place is src\/kube\/io\//,
    ],
    ['src/bgp/x.ts', "import leftPad from 'left-pad';", /imports left-pad in a pure core/],
    [
      'src/daemon/x.ts',
      "import { lab } from '../../test/support/lab.ts';",
      /test\/support\/lab\.ts, outside src/,
    ],
    ['src/other/x.ts', "import { y } from '../lib/y.ts';", /is in no part that the floors know/],
    ['src/lib/x.ts', "import { y } from '../other/y.ts';", /which is in no part that the floors know/],
  ];
  for (const [path, source, problem] of refused) {
    it(`refuses in ${path} ${source}`, () => {
      const found = problems(path, source);
      assert.equal(found.length, 1);
      assert.match(found[0] ?? '', problem);
    });
  }

  it('names the line of an import that goes over several', () => {
    const source = "import { a } from './a.ts';\nimport {\n  b,\n  c,\n} from '../daemon/b.ts';\n";
    assert.match(problems('src/kube/x.ts', source).join(), /^2: imports src\/daemon\/b\.ts/);
  });
});

describe('pure cores', () => {
  for (const code of [
    'const t = Date.now();',
    'const t = new Date();',
    'const t = performance.now();',
    'const n = Math.random();',
    'setTimeout(step, 1);',
    'setInterval(step, 1);',
    'setImmediate(step);',
    'const e = process.env;',
    `const s = \`\${process.pid}\`;`,
    `const s = \`\${{ a: \`\${Math.random()}\` }}\`;`,
    'const s = a / b; const t = Date.now() / 2;',
  ]) {
    it(`may not hold ${code}`, () => {
      assert.match(problems('src/election/step.ts', code).join(), /^1: .* in a pure core/);
      assert.deepEqual(problems('src/election/io/driver.ts', code), []);
      assert.deepEqual(problems('src/daemon/driver.ts', code), []);
    });
  }

  for (const code of [
    "// Date.now() is the driver's",
    '/* Math.random()\n setTimeout(x) */',
    "const message = 'no Date.now() here';",
    `const message = \`no \${1} process.env here\`;`,
    'const wanted = /process.env/;',
    'state.process.id = event.performance.now;',
    'const { setTimeout } = timers; timers.setTimeout(f);',
    'const at = Date.parse(text);',
    "const quote = /'/; const other = 'Math.random()';",
  ]) {
    it(`may hold ${code}`, () => assert.deepEqual(problems('src/election/step.ts', code), []));
  }
});

describe('style', () => {
  it('refuses a default export, in tests also', () => {
    assert.match(
      problems('test/support/lab.ts', '\nexport default class Lab {}').join(),
      /^2: a default export/,
    );
  });

  it('lets a declaration of another module say what that module has', () => {
    assert.deepEqual(problems('src/config/parser.d.ts', 'export default parse;'), []);
  });

  it('refuses a file of more than 500 lines in src', () => {
    assert.deepEqual(problems('src/lib/x.ts', 'x;\n'.repeat(500)), []);
    assert.match(problems('src/lib/x.ts', 'x;\n'.repeat(501)).join(), /^501: 501 lines, at most 500/);
    assert.deepEqual(problems('test/unit/x.test.ts', 'x;\n'.repeat(501)), []);
  });
});
