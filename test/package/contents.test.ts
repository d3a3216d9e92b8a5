/** What is in the Debian package, and what Debian's own tools say of it. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { globSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { programs } from '../../scripts/debian/commands.ts';
import { bundledPackages } from '../../scripts/debian/copyright.ts';
import { configJsonSchema } from '../../src/config/json-schema.ts';
import { buildPackage, EPOCH, scratchDirectory, skipWithout } from './support/built.ts';
import { completed } from './support/shells.ts';

const ROOT = join(import.meta.dirname, '../..');
const PACKAGE_MB = 45;
const INSTALLED_MB = 160;
const ARCHITECTURE = process.arch === 'arm64' ? 'arm64' : 'amd64';

describe('the Debian package', { skip: skipWithout('dpkg-deb') }, () => {
  const scratch = scratchDirectory();
  let deb: string;
  let tree: string;

  before(() => {
    deb = buildPackage(scratch.path);
    tree = join(scratch.path, 'tree');
    execFileSync('dpkg-deb', ['-x', deb, tree]);
  });
  after(scratch.remove);

  const inTree = (path: string): string => readFileSync(join(tree, path), 'utf8');
  const unpacked = (path: string): string => gunzipSync(readFileSync(join(tree, path))).toString();

  test('is called by version and architecture, and says so inside', () => {
    assert.match(deb, new RegExp(`/lbd_0\\.1\\.0_${ARCHITECTURE}\\.deb$`));
    const fields = execFileSync('dpkg-deb', ['-f', deb, 'Package', 'Version', 'Architecture'], {
      encoding: 'utf8',
    });
    assert.equal(fields, `Package: lbd\nVersion: 0.1.0\nArchitecture: ${ARCHITECTURE}\n`);
  });

  test('is the same to the byte when built again, elsewhere and under another umask', () => {
    const again = buildPackage(join(scratch.path, 'again'), { umask: 0o077 });
    assert.equal(sha256(again), sha256(deb));
  });

  test('belongs to root, and nothing in it is writable for others, newer than its date or set-uid', () => {
    const listing = execFileSync('dpkg-deb', ['-c', deb], {
      encoding: 'utf8',
      env: { ...process.env, TZ: 'UTC' },
    });
    const date = new Date(EPOCH * 1000).toISOString().slice(0, 16).replace('T', ' ');
    for (const line of listing.trimEnd().split('\n')) {
      assert.match(line, /^([d-]rw[x-]r-[x-]r-[x-]|lrwxrwxrwx) root\/root /);
      assert.ok(line.includes(date), `${line} is of ${date}`);
    }
  });

  test(`fits: at most ${PACKAGE_MB} MB, and ${INSTALLED_MB} MB installed`, () => {
    // As users get it, but packed with the least effort: theirs is smaller.
    const packed = statSync(buildPackage(join(scratch.path, 'packed'), { compression: 'xz' })).size;
    assert.ok(packed <= PACKAGE_MB * 1e6, `${packed} bytes`);
    const kibibytes = Number(execFileSync('dpkg-deb', ['-f', deb, 'Installed-Size'], { encoding: 'utf8' }));
    assert.ok(kibibytes > statSync(join(tree, 'usr/bin/lbd')).size / 1024);
    assert.ok(kibibytes * 1024 <= INSTALLED_MB * 1e6, `${kibibytes} KiB`);
  });

  test('brings the executable under both names', () => {
    for (const name of ['lbd', 'lbctl']) {
      const out = execFileSync(join(tree, 'usr/bin', name), ['--version'], { encoding: 'utf8' });
      assert.equal(out, '0.1.0\n');
    }
  });

  test('brings a configuration that is valid, and a schema that it names', () => {
    const config = join(tree, 'etc/lbd.toml');
    execFileSync(join(tree, 'usr/bin/lbctl'), ['config', 'check', config]);
    assert.equal(inTree('etc/lbd.toml'), readFileSync(join(ROOT, 'etc/lbd.toml.example'), 'utf8'));
    assert.match(inTree('etc/lbd.toml'), /^#:schema file:\/\/\/usr\/share\/lbd\/lbd\.schema\.json\n/);
    assert.deepEqual(JSON.parse(inTree('usr/share/lbd/lbd.schema.json')), configJsonSchema());
    const conffiles = execFileSync('dpkg-deb', ['--ctrl-tarfile', deb]);
    const listed = spawnSync('tar', ['-xO', './conffiles'], { input: conffiles, encoding: 'utf8' });
    assert.equal(listed.stdout, '/etc/lbd.toml\n');
  });

  test('brings the changelog of this version, with every item that CHANGELOG.md has', () => {
    const changelog = unpacked('usr/share/doc/lbd/changelog.gz');
    assert.match(changelog, /^lbd \(0\.1\.0\) unstable; urgency=medium\n/);
    assert.match(changelog, /^ -- .+ <.+@.+> {2}\w{3}, \d\d \w{3} \d{4} [\d:]{8} \+0000$/m);
    const markdown = readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8');
    const words = (text: string): string => text.replaceAll('`', '').replaceAll(/\s+/g, ' ');
    const items = markdown
      .split(/^- /m)
      .slice(1)
      .flatMap((item) => item.split(/\n\n/)[0] ?? []);
    assert.ok(items.length > 10);
    const packaged = words(changelog.replaceAll(/\n {4}(?=\S)/g, ' '));
    for (const item of items) assert.ok(packaged.includes(` * ${words(item).trim()} `), item);
  });

  test('brings the examples of routing daemons, as they are tested', () => {
    const files = globSync('**/*.{md,conf}', { cwd: join(ROOT, 'packaging/examples') });
    assert.ok(files.includes('bird/bgp.conf') && files.includes('frr/bgp.conf'));
    for (const file of files) {
      const source = readFileSync(join(ROOT, 'packaging/examples', file), 'utf8');
      assert.equal(inTree(`usr/share/doc/lbd/examples/${file}`), source);
    }
  });

  test('brings manuals that know every command, every option and every key', () => {
    const { lbd, lbctl } = programs();
    for (const [file, { pages }] of [
      ['man8/lbd.8.gz', lbd],
      ['man1/lbctl.1.gz', lbctl],
    ] as const) {
      const sections = commandSections(unpacked(`usr/share/man/${file}`));
      const commands = pages.filter(({ children }) => children.length === 0);
      const names = commands.map(({ path }) => path.join(' '));
      assert.ok(names.length > 5);
      assert.deepEqual([...sections.keys()], names, file);
      for (const [index, { options }] of commands.entries()) {
        const section = sections.get(names[index] ?? '') ?? '';
        const flags = options.flatMap(({ long }) => (long === '--help' ? [] : (long ?? [])));
        const missing = flags.filter((flag) => !section.includes(flag));
        assert.deepEqual(missing, [], `${file}: ${names[index]}`);
      }
    }
    const config = unpacked('usr/share/man/man5/lbd.toml.5.gz');
    const tables = Object.values((configJsonSchema() as Schema).properties ?? {});
    const keys = tables.flatMap((table) =>
      Object.entries((table.items ?? table).properties ?? {}).flatMap(([key, { properties }]) =>
        properties === undefined ? [key] : Object.keys(properties),
      ),
    );
    assert.ok(keys.length > 10);
    for (const key of keys) assert.ok(config.includes(`\\fB${key.replaceAll('-', '\\-')}\\fR`), key);
  });

  test('brings manuals that man(1) formats without a warning', { skip: skipWithout('man') }, () => {
    for (const path of ['man8/lbd.8.gz', 'man1/lbctl.1.gz', 'man5/lbd.toml.5.gz']) {
      const page = spawnSync('man', ['--warnings', '-l', join(tree, 'usr/share/man', path)], {
        encoding: 'utf8',
        env: { ...process.env, MANWIDTH: '80', LC_ALL: 'C.UTF-8' },
      });
      assert.equal(page.stderr, '', path);
      assert.match(page.stdout, /\nSEE ALSO\n/);
    }
  });

  const completions: readonly (readonly [typed: string, expected: readonly string[]])[] = [
    ['lbctl st', ['status']],
    ['lbctl config ', ['check', 'show', '-h', '--help']],
    ['lbctl status --j', ['--json']],
    ['lbctl --socket ', ['file.toml']],
    ['lbd cle', ['cleanup']],
    ['lbd check fi', ['file.toml']],
    ['lbd run --config ', ['file.toml']],
    ['lbd cleanup --unless', ['--unless-restarting']],
    ['lbd cleanup --unit ', []],
  ];
  for (const [typed, expected] of completions) {
    test(`bash completes "${typed}"`, () => {
      const work = mkdtempSync(join(scratch.path, 'bash-'));
      writeFileSync(join(work, 'file.toml'), '');
      const [offered = []] = completed('bash', tree, work, [typed]);
      assert.deepEqual([...offered].sort(), [...expected].sort());
    });
  }

  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    test(`${shell} completes every command and every option of lbd and lbctl`, {
      skip: skipWithout(shell),
    }, () => {
      const lines = Object.values(programs()).flatMap(({ name, pages }) =>
        pages.flatMap(({ path, children, options }) => {
          const typed = [name, ...path].join(' ');
          const flags = options.flatMap(({ long }) => long ?? []);
          const commands = children.length > 0 ? [{ typed: `${typed} `, expected: children }] : [];
          return [...commands, { typed: `${typed} --`, expected: flags }];
        }),
      );
      assert.ok(lines.some(({ typed, expected }) => typed === 'lbctl keys ' && expected.includes('add')));
      const typed = lines.map((line) => line.typed);
      const offered = completed(shell, tree, mkdtempSync(join(scratch.path, `${shell}-`)), typed);
      for (const [index, { typed, expected }] of lines.entries()) {
        const missing = expected.filter((word) => offered[index]?.includes(word) !== true);
        assert.deepEqual(missing, [], `"${typed}" offers ${offered[index]?.join(' ')}`);
      }
    });
  }

  test('brings completions that zsh and fish find no fault with', {
    skip: skipWithout('zsh', 'fish'),
  }, () => {
    for (const name of ['lbd', 'lbctl']) {
      execFileSync('zsh', ['-n', join(tree, `usr/share/zsh/vendor-completions/_${name}`)]);
      execFileSync('fish', ['-n', join(tree, `usr/share/fish/vendor_completions.d/${name}.fish`)]);
    }
  });

  test('names the copyright and the license of each package that the executable was made of', () => {
    const text = inTree('usr/share/doc/lbd/copyright');
    const packages = bundledPackages(ROOT, readFileSync(join(ROOT, 'build/lbd.cjs.map'), 'utf8'));
    assert.ok(packages.includes('node_modules/commander') && packages.length > 10);
    const stanzas = new Map(
      text.split('\n\n').map((stanza) => [/^Files: (.*)\/\*$/m.exec(stanza)?.[1] ?? '', stanza]),
    );
    for (const directory of packages) {
      const stanza = stanzas.get(directory);
      assert.match(stanza ?? '', /^Copyright: \S.*\n(?: .*\n)*License: \S/m, directory);
    }
    assert.match(text, /^Files: node_modules\/node\/node_modules\/node-linux-\w+\/\*$/m);
    assert.match(text, /OpenSSL/);
  });

  test('depends on what its executable links to', { skip: skipWithout('dpkg-shlibdeps', 'objdump') }, () => {
    const work = join(scratch.path, 'shlibdeps');
    execFileSync('mkdir', ['-p', join(work, 'debian')]);
    execFileSync('cp', [join(ROOT, 'packaging/deb/control'), join(work, 'debian/control')]);
    execFileSync('sed', ['-i', '1i Source: lbd\\n', join(work, 'debian/control')]);
    const computed = execFileSync('dpkg-shlibdeps', ['-O', join(tree, 'usr/bin/lbd')], {
      cwd: work,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const named = (text: string): readonly string[] =>
      [...text.matchAll(/(?:^|[=\s,])((?:lib)[a-z0-9+-]+)/g)].map(([, name = '']) => name).sort();
    const depends = execFileSync('dpkg-deb', ['-f', deb, 'Depends'], { encoding: 'utf8' });
    assert.deepEqual(named(depends), named(computed));
  });

  test('gives lintian nothing to say that is not overridden with a reason', {
    skip: skipWithout('lintian'),
  }, () => {
    const { stdout, status } = spawnSync('lintian', ['--allow-root', '--tag-display-limit', '0', deb], {
      encoding: 'utf8',
    });
    assert.deepEqual({ stdout, status }, { stdout: '', status: 0 });
    const lines = inTree('usr/share/lintian/overrides/lbd').trimEnd().split('\n');
    const overrides = [...lines.entries()].filter(([, line]) => !line.startsWith('#'));
    assert.ok(overrides.length > 0);
    const unreasoned = overrides.filter(([index]) => lines[index - 1]?.startsWith('# ') !== true);
    assert.deepEqual(unreasoned, []);
  });
});

type Schema = {
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
};

/** The sections of a manual's COMMANDS by the words of the command, each without the escapes of roff. */
function commandSections(page: string): ReadonlyMap<string, string> {
  const chapter = page.split(/^\.SH /m).find((text) => text.startsWith('"COMMANDS"')) ?? '';
  const [, ...sections] = chapter.replaceAll('\\-', '-').split(/^\.SS /m);
  return new Map(sections.map((section) => [/^[a-z -]*[a-z]/.exec(section)?.[0] ?? '', section]));
}

function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}
