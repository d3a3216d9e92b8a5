/** debian/changelog from CHANGELOG.md, where `## Unreleased` is the version being built. */

export type ChangelogInputs = {
  readonly markdown: string;
  readonly version: string;
  readonly maintainer: string;
  /** Of the version being built; seconds since 1970. */
  readonly epoch: number;
};

const WIDTH = 78;

export function debianChangelog({ markdown, version, maintainer, epoch }: ChangelogInputs): string {
  const [, ...sections] = markdown.split(/^## /m);
  return sections
    .map((section) => {
      const [title = '', ...rest] = section.split('\n');
      const [, released, date] = /^v?(\d\S*)(?:.*?(\d{4}-\d{2}-\d{2}))?/.exec(title) ?? [];
      const when = date === undefined ? epoch : Date.parse(`${date}T12:00:00Z`) / 1000;
      const changes = bullets(rest.join('\n'));
      return [
        `lbd (${released ?? version}) unstable; urgency=medium`,
        ...(changes.length === 0 ? ['See CHANGELOG.md.'] : changes).map((change) => wrap(change)),
        ` -- ${maintainer}  ${debianDate(when)}`,
      ].join('\n\n');
    })
    .join('\n\n')
    .concat('\n');
}

/** The items of its lists, each on one line, without Markdown's marks. */
function bullets(markdown: string): readonly string[] {
  return markdown
    .split(/^- /m)
    .slice(1)
    .map((item) => (item.split(/\n\s*\n/)[0] ?? '').replaceAll(/\s+/g, ' ').replaceAll('`', '').trim());
}

function wrap(text: string): string {
  const lines: string[] = [];
  let line = '  *';
  for (const word of text.split(' ')) {
    if (line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = '   ';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

/** As in RFC 5322: `Mon, 23 Nov 2026 11:00:00 +0000`. */
function debianDate(epoch: number): string {
  return new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
}
