import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/**
 * debian/copyright of what is really in the executable: lbd itself, the npm packages whose files the bundle was made
 * of (its source map names them), and Node.js with all that its own LICENSE lists.
 */

/** Debian has the whole texts of these; a package only points there. */
const APACHE_ON_DEBIAN = 'On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.';

export type CopyrightInputs = {
  readonly root: string;
  /** build/lbd.cjs.map. */
  readonly sourceMap: string;
};

export function copyrightFile({ root, sourceMap }: CopyrightInputs): string {
  const packages = bundledPackages(root, sourceMap);
  return [
    `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: lbd
Comment: /usr/bin/lbd is one file made of lbd, of Node.js and of the npm packages
 below, each under the directory that it has in lbd's source tree.`,
    `Files: *
Copyright: 2026 lbd maintainers
License: Apache-2.0`,
    ...packages.map((directory) => packageStanza(root, directory)),
    nodeStanza(root),
    `License: Apache-2.0\n${field(APACHE_NOTICE)}`,
    '',
  ].join('\n\n');
}

const APACHE_NOTICE = `Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at
.
    https://www.apache.org/licenses/LICENSE-2.0
.
Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
.
${APACHE_ON_DEBIAN}`.replaceAll(/^\.$/gm, '');

/** Directories under node_modules that gave at least one file to the bundle, sorted. */
export function bundledPackages(root: string, sourceMap: string): readonly string[] {
  const { sources } = JSON.parse(sourceMap) as { sources: readonly string[] };
  const directories = sources.flatMap((source) => {
    const [, directory] = /(node_modules\/(?:.*node_modules\/)?(?:@[^/]+\/)?[^/]+)\//.exec(source) ?? [];
    return directory === undefined ? [] : [directory];
  });
  const missing = directories.find((directory) => !existsSync(join(root, directory, 'package.json')));
  if (missing !== undefined) throw new Error(`copyright: ${missing} is bundled, but not in the tree`);
  return [...new Set(directories)].sort();
}

type PackageFile = {
  readonly version: string;
  readonly license?: string;
  readonly author?: string | { readonly name: string };
};

function packageStanza(root: string, directory: string): string {
  const { version, license, author } = JSON.parse(
    readFileSync(join(root, directory, 'package.json'), 'utf8'),
  ) as PackageFile;
  if (license === undefined) throw new Error(`copyright: ${directory}/package.json names no license`);
  const texts = licenseFiles(join(root, directory)).map((file) => readFileSync(file, 'utf8').trim());
  const name = directory.replace(/^.*node_modules\//, '');
  const holders = texts.flatMap(copyrightLines);
  const byAuthor = typeof author === 'string' ? author : author?.name;
  const copyright = holders.length > 0 ? [...new Set(holders)] : [byAuthor ?? `the authors of ${name}`];
  const isApache = license === 'Apache-2.0';
  return [
    `Files: ${directory}/*`,
    `Copyright: ${copyright.join('\n ')}`,
    // A text of its own, because the notice in it is the package's own; so each needs a name of its own.
    `License: ${isApache ? license : `${license.replaceAll(/[^\w.+-]+/g, '-')}~${name.replaceAll('/', '-')}`}`,
    ...(isApache ? [] : [field(texts.join('\n\n') || `${license}, as its package.json says.`)]),
    `Comment: ${name} ${version}`,
  ].join('\n');
}

function licenseFiles(directory: string): readonly string[] {
  return globSync('*', { cwd: directory })
    .filter((file) => /^(licen[cs]e|copying|notice)([.-].*)?$/i.test(basename(file)))
    .sort()
    .map((file) => join(directory, file));
}

function copyrightLines(text: string): readonly string[] {
  return [...text.matchAll(/^[\s*#]*(?:copyright\b\s*(?:\(c\)|©)?|\(c\)|©)\s*:?\s*(\d{4}.*)$/gim)].map(
    ([, rest = '']) => rest.trim().replace(/[,.]$/, ''),
  );
}

function nodeStanza(root: string): string {
  const machine = process.arch === 'arm64' ? 'arm64' : 'x64';
  const directory = `node_modules/node/node_modules/node-linux-${machine}`;
  const text = readFileSync(join(root, directory, 'LICENSE'), 'utf8').trim();
  return [
    `Files: ${directory}/*`,
    `Copyright: Node.js contributors, and the holders named in the text\n ${copyrightLines(text)
      .filter((line, index, all) => all.indexOf(line) === index)
      .join('\n ')}`,
    'License: Node.js',
    field(withoutApacheText(text)),
    `Comment: Node.js ${process.version} with V8, libuv, OpenSSL, ICU and what else the text lists`,
  ].join('\n');
}

/** Node.js repeats the whole Apache license for some of its parts. */
function withoutApacheText(text: string): string {
  return text.replaceAll(
    /^.*Apache License\n(.*\n)?.*Version 2\.0, January 2004[\s\S]*?(?:END OF TERMS AND CONDITIONS.*$|9\. Accepting Warranty[\s\S]*?additional liability\.)/gm,
    `Apache License, Version 2.0. ${APACHE_ON_DEBIAN}`,
  );
}

/** A text as the continuation of a field: indented, with a dot in each empty line. */
function field(text: string): string {
  return text
    .replaceAll('\r', '')
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n');
}
