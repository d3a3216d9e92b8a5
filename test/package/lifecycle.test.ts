/**
 * Installing, upgrading, removing and purging the package with dpkg, in a minimal Debian in a directory. Nothing runs
 * there, so this is about files, users and what the maintainer scripts decide; test/vm has the services.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { buildPackage, scratchDirectory, skipWithout } from './support/built.ts';
import { CONFIGURATIONS } from './support/configurations.ts';

const CACHE = join(import.meta.dirname, '../../.cache');
const SUITE = 'bookworm';
/** What the package depends on, and nothing that a minimal Debian has anyway. */
const PACKAGES = ['adduser', 'systemd', 'dbus', 'libatomic1', 'libstdc++6'];

const needsRoot = process.getuid?.() === 0 ? false : 'needs root, to make a Debian in a directory';
const obstacle = needsRoot || skipWithout('mmdebstrap', 'dpkg-deb', 'unshare') || debianObstacle();

describe('dpkg', { skip: obstacle }, () => {
  const scratch = scratchDirectory();
  const root = join(scratch.path, 'root');

  before(() => {
    buildPackage(scratch.path, { version: '0.1.0' });
    buildPackage(scratch.path, { version: '0.1.1' });
  });
  beforeEach(() => {
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root);
    execFileSync('tar', ['-xpf', minimalDebian(), '-C', root]);
    for (const version of ['0.1.0', '0.1.1']) {
      execFileSync('ln', ['-f', packageFile(scratch.path, version), join(root, `lbd_${version}.deb`)]);
    }
  });
  after(scratch.remove);

  const inRoot = (path: string): string => join(root, path);

  /** Runs a script in the Debian, with mounts, processes and a network of its own. */
  const run = (script: string): string => {
    const inside = `mount -t proc proc /proc && ip link set lo up 2>/dev/null; set -e; ${script}`;
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      ['--mount', '--pid', '--fork', '--net', '--uts', '--root', root, 'bash', '-c', inside],
      { encoding: 'utf8', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', DEBIAN_FRONTEND: 'noninteractive' } },
    );
    assert.equal(status, 0, `${script}\n${stdout}${stderr}`);
    return `${stdout}${stderr}`;
  };
  const install = (version: string): string =>
    run(`dpkg -i --force-unsafe-io --force-confdef --force-confold /lbd_${version}.deb`);

  const configure = (): void => {
    mkdirSync(inRoot('etc/lbd'), { recursive: true });
    writeFileSync(inRoot('etc/lbd/kubeconfig'), 'kind: Config\n');
    writeFileSync(inRoot('etc/lbd.toml'), '[[pool]]\nname = "p"\naddresses = ["192.0.2.0/28"]\n');
  };

  const isEnabled = (): boolean => {
    const wants = inRoot('etc/systemd/system/multi-user.target.wants');
    return existsSync(wants) && globSync('lbd.service', { cwd: wants }).length === 1;
  };

  test('install without a configuration enables nothing and says what to do next', () => {
    const said = install('0.1.0');
    assert.match(said, /not started yet/);
    assert.match(said, /\/etc\/lbd\/kubeconfig/);
    assert.match(said, /systemctl enable --now lbd/);
    assert.equal(isEnabled(), false);
    assert.match(run('lbd version'), /^lbd 0\.1\.0 /);
  });

  test('install makes a user and a group without a home, a shell or a password, and a directory for credentials', () => {
    install('0.1.0');
    assert.match(run('getent passwd lbd'), /^lbd:x:\d+:\d+:[^:]*:\/nonexistent:\/usr\/sbin\/nologin$/m);
    assert.match(run('getent shadow lbd'), /^lbd:[!*]/m);
    assert.equal(run('stat -c "%a %U:%G" /etc/lbd'), '2750 root:lbd\n');
    // What root puts there, the group may read.
    run('umask 027; echo "kind: Config" >/etc/lbd/kubeconfig');
    assert.equal(run('stat -c "%a %U:%G" /etc/lbd/kubeconfig'), '640 root:lbd\n');
    assert.match(run('setpriv --reuid lbd --regid lbd --clear-groups cat /etc/lbd/kubeconfig'), /kind/);
  });

  test('install with a configuration in place enables the service', () => {
    configure();
    assert.doesNotMatch(install('0.1.0'), /not started yet/);
    assert.equal(isEnabled(), true);
  });

  test('install counts as a configuration what lbd would run with, in whatever file and way it is written', () => {
    install('0.1.0');
    const found = CONFIGURATIONS.map(({ files, ...configuration }) => {
      for (const path of ['etc/lbd.toml', 'etc/lbd.d', 'etc/lbd/kubeconfig', 'srv'])
        rmSync(inRoot(path), { recursive: true, force: true });
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(inRoot(path)), { recursive: true });
        writeFileSync(inRoot(path), text);
      }
      const said = run(`
        export DPKG_MAINTSCRIPT_PACKAGE=lbd
        deb-systemd-helper purge lbd.service
        /var/lib/dpkg/info/lbd.postinst configure`);
      assert.equal(!/not started yet/.test(said), isEnabled(), said);
      return { ...configuration, files, counts: isEnabled() };
    });
    assert.deepEqual(found, CONFIGURATIONS);
  });

  test('upgrade keeps the configuration, the user and what the administrator enabled', () => {
    install('0.1.0');
    configure();
    run('systemctl --quiet enable lbd');
    const user = run('getent passwd lbd');
    const config = readFileSync(inRoot('etc/lbd.toml'), 'utf8');
    assert.doesNotMatch(install('0.1.1'), /not started yet/);
    assert.match(run('dpkg -s lbd'), /^Version: 0\.1\.1$/m);
    assert.equal(readFileSync(inRoot('etc/lbd.toml'), 'utf8'), config);
    assert.equal(run('getent passwd lbd'), user);
    assert.equal(isEnabled(), true);
  });

  test('upgrade leaves disabled what the administrator disabled', () => {
    configure();
    install('0.1.0');
    run('systemctl --quiet disable lbd');
    install('0.1.1');
    assert.equal(isEnabled(), false);
  });

  test('upgrade leaves an owner and a mode that the administrator set by dpkg-statoverride', () => {
    install('0.1.0');
    run('dpkg-statoverride --update --add root root 700 /etc/lbd');
    install('0.1.1');
    assert.equal(run('stat -c "%a %U:%G" /etc/lbd'), '700 root:root\n');
    run('dpkg --purge lbd');
  });

  test('remove keeps the configuration and takes everything else, and a second install starts where it was', () => {
    install('0.1.0');
    configure();
    run('systemctl --quiet enable lbd; dpkg --remove lbd');
    assert.equal(existsSync(inRoot('usr/bin/lbd')), false);
    assert.deepEqual(globSync('usr/**/*lbd*', { cwd: root }), []);
    assert.ok(existsSync(inRoot('etc/lbd.toml')) && existsSync(inRoot('etc/lbd/kubeconfig')));
    assert.doesNotMatch(install('0.1.0'), /not started yet/);
    assert.equal(isEnabled(), true);
  });

  for (const [what, before, asked] of [
    ['an upgrade restarts one that runs', 'true', 'try-restart lbd.service'],
    ['an install after a removal starts it again', 'dpkg --remove lbd', 'start lbd.service'],
  ] as const) {
    test(what, () => {
      configure();
      install('0.1.0');
      // As if systemd ran here: deb-systemd-invoke only says what it is asked for.
      const said = run(`
        ${before}
        mkdir -p /run/systemd/system
        printf '#!/bin/sh\necho "$@" >>/asked\n' >/usr/local/bin/deb-systemd-invoke
        printf '#!/bin/sh\n' >/usr/local/bin/systemctl
        chmod 755 /usr/local/bin/*
        PATH=/usr/local/bin:$PATH dpkg -i --force-unsafe-io --force-confold /lbd_0.1.1.deb >&2
        cat /asked; ls /run`);
      assert.match(said, new RegExp(`^${asked}$`, 'm'));
      assert.doesNotMatch(said, /lbd-is-back/);
    });
  }

  test("remove sets lbd's sysctls back, and touches no address of anybody else", () => {
    install('0.1.0');
    const said = run(`
      ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip address add 192.0.2.1/24 dev eth0
      echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_ignore
      mkdir -p /var/lib/lbd && echo '{"net.ipv4.conf.eth0.arp_ignore":"0"}' >/var/lib/lbd/sysctls.json
      dpkg --remove lbd
      echo "left: $(ip -o -4 address show dev eth0 | awk '{ print $4 }' | xargs)"
      echo "arp_ignore: $(cat /proc/sys/net/ipv4/conf/eth0/arp_ignore)"`);
    assert.match(said, /^left: 192\.0\.2\.1\/24$/m);
    assert.match(said, /^arp_ignore: 0$/m);
  });

  test('purge leaves nothing: the same files, users and groups as before', () => {
    const before = everything(root);
    install('0.1.0');
    configure();
    run(
      'systemctl --quiet enable lbd; install -d -o lbd -g lbd /var/lib/lbd /run/lbd; touch /var/lib/lbd/services.json',
    );
    install('0.1.1');
    run('dpkg --purge lbd');
    assert.deepEqual(differences(before, everything(root)), []);
  });

  test('purge of what was removed long ago works without adduser', () => {
    const before = everything(root);
    install('0.1.0');
    run('dpkg --remove lbd; dpkg --force-depends --purge adduser');
    run('dpkg --purge lbd');
    const left = differences(before, everything(root)).filter((line) => /lbd/.test(line));
    assert.deepEqual(left, []);
  });
});

function packageFile(directory: string, version: string): string {
  const [file] = globSync(`lbd_${version}_*.deb`, { cwd: directory });
  assert.ok(file, `a package of ${version}`);
  return join(directory, file);
}

/** A minimal Debian as an archive, made once. */
function minimalDebian(): string {
  const name = createHash('sha256')
    .update([SUITE, ...PACKAGES].join(' '))
    .digest('hex')
    .slice(0, 12);
  const archive = join(CACHE, `${SUITE}-${name}.tar`);
  if (existsSync(archive)) return archive;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = `${archive}.${process.pid}.tar`;
  execFileSync(
    'mmdebstrap',
    ['--quiet', '--variant=minbase', `--include=${['iproute2', ...PACKAGES].join(',')}`, SUITE, unfinished],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  renameSync(unfinished, archive);
  return archive;
}

/** Why no minimal Debian can be had, or false. */
function debianObstacle(): string | false {
  try {
    minimalDebian();
    return false;
  } catch (error) {
    const { stderr } = error as { stderr?: Uint8Array };
    const reason = stderr === undefined ? String(error) : Buffer.from(stderr).toString();
    return `mmdebstrap cannot make a Debian here: ${reason.trim().split('\n').at(-1)}`;
  }
}

/** Every file with its mode, owner and, for small ones, content: what dpkg and its tools write about themselves is left out. */
function everything(root: string): ReadonlyMap<string, string> {
  const listing = execFileSync(
    'find',
    [root, '-xdev', '(', ...PRUNED, ')', '-prune', '-o', '-printf', '%P\\t%M %U:%G\\t%y\\t%s\\n'],
    { encoding: 'utf8', maxBuffer: 64 << 20 },
  );
  const entries = listing.split('\n').map((line) => line.split('\t'));
  return new Map(
    entries.map(([path = '', owner = '', type, size]) => {
      const isSmall = type === 'f' && Number(size) < 100_000 && path.startsWith('etc/');
      const content = isSmall ? ` ${readFileSync(join(root, path), 'utf8')}` : '';
      return [path, `${owner}${content}`];
    }),
  );
}

const PRUNED = [
  '*/proc',
  '*/var/lib/dpkg',
  '*/var/log',
  '*/var/cache',
  '*/dev',
  '*/run/adduser',
  '*/run/mount',
  '*/etc/passwd-',
  '*/etc/group-',
  '*/etc/shadow-',
  '*/etc/gshadow-',
  '*/etc/subuid-',
  '*/etc/subgid-',
  '*/etc/.pwd.lock',
].flatMap((path, index) => [...(index === 0 ? [] : ['-o']), '-path', path]);

function differences(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): readonly string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths]
    .filter((path) => before.get(path) !== after.get(path))
    .map((path) => `${path}: ${before.get(path) ?? 'was not there'} -> ${after.get(path) ?? 'is gone'}`);
}
