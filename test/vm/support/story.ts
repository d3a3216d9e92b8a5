import { gunzipSync } from 'node:zlib';
import { labTimeMs } from '../../support/lab-time.ts';
import { waitFor } from '../../support/wait.ts';
import type { Machine } from './machine.ts';
import type { MachineLab } from './machine-lab.ts';

/** What a person does with lbd on a machine, and what can be seen of it from there and from the wire. */

export const VIP = '10.77.0.200';

/** Of the lab's API server; every host of the lab sees them. */
export const ADMIN_KUBECONFIG = '/run/lab/apiserver/admin.kubeconfig';
const CA = '/run/lab/apiserver/ca.crt';

/** Long enough for a machine in emulation on a busy one; what tests claim of time they measure. */
const TIMEOUT_MS = 180_000;

export const CONFIG = `[[pool]]
name = "default"
addresses = ["10.77.0.200-10.77.0.220"]
`;

/** Addresses in no subnet of the lab, and one of them. */
export const ROUTED = { prefix: '203.0.113.0/28', ip: '203.0.113.1' } as const;

/** Gives the machine a configuration, a kubeconfig and a web server, as what comes before `systemctl enable --now`. */
export async function configure(lab: MachineLab, machine: Machine, toml = CONFIG): Promise<void> {
  await machine.writeFile('/etc/lbd.toml', toml);
  await machine.run('install -d -m 2750 -o root -g lbd /etc/lbd');
  await machine.writeFile('/etc/lbd/kubeconfig', await lab.lab.apiServer.kubeconfig('lbd'), '640');
}

/** Gives the machine what kubeadm leaves on a control plane node: an administrator's kubeconfig and the CA. */
export async function makeControlPlane(lab: MachineLab, machine: Machine): Promise<void> {
  const { host } = lab.lab.apiServer;
  await machine.writeFile('/etc/kubernetes/admin.conf', await host.readFile(ADMIN_KUBECONFIG), '600');
  await machine.writeFile('/etc/kubernetes/pki/ca.crt', await host.readFile(CA));
}

/** A web server that says the machine's name, on every address of it. */
export async function startWebServer(machine: Machine): Promise<void> {
  await machine.run(
    `mkdir -p /run/www && hostname >/run/www/index.html &&
    systemd-run --quiet --unit web busybox httpd -f -p 80 -h /run/www`,
  );
}

/** Creates a Service of type LoadBalancer and waits until a machine holds its address; resolves with it. */
export async function serve(lab: MachineLab, name = 'web', timeoutMs = TIMEOUT_MS): Promise<string> {
  await lab.lab.api.createService({ name });
  const { addresses } = await lab.lab.api.waitForAddresses(name, { timeoutMs });
  return addresses[0] ?? '';
}

/** Gives the machine a virtual address beside its local one: a pool in a drop-in, and a Service that asks for it. */
export async function serveRouted(lab: MachineLab, machine: Machine): Promise<void> {
  const pool = `[[pool]]\nname = "routed"\naddresses = ["${ROUTED.prefix}"]\n`;
  await machine.writeFile('/etc/lbd.d/routed.toml', pool);
  await machine.run('systemctl reload lbd');
  const annotations = { 'lbd.io/pool': 'routed', 'lbd.io/addresses': ROUTED.ip };
  await lab.lab.api.createService({ name: 'routed', annotations });
  await holdsBoth(machine);
}

/** Waits until the machine has the local address on its NIC and the virtual one on `kube-lb0`, a real dummy. */
export async function holdsBoth(machine: Machine): Promise<void> {
  const [virtual, local] = [new RegExp(`kube-lb0 +inet ${ROUTED.ip}/`), new RegExp(`eth0 +inet ${VIP}/`)];
  await machine.waitFor('ip -o addr show; ip -d -o link show kube-lb0', {
    describe: 'both addresses and a dummy',
    predicate: (text) => virtual.test(text) && local.test(text) && / dummy /.test(text),
    timeoutMs: TIMEOUT_MS,
  });
}

/** Waits until the machine has the address on its NIC, or has it not. */
export async function holds(
  machine: Machine,
  ip: string,
  isThere = true,
  timeoutMs = TIMEOUT_MS,
): Promise<void> {
  await machine.waitFor('ip -o addr show', {
    describe: `${ip} ${isThere ? 'on' : 'gone from'} the machine`,
    predicate: (text) => text.includes(` ${ip}/`) === isThere,
    timeoutMs,
  });
}

/** The pid of the daemon, from systemd; 0 when it does not run. */
export async function mainPid(machine: Machine): Promise<number> {
  return Number(await machine.output('systemctl show --property MainPID --value lbd'));
}

/** Waits until the daemon is ready and is another process than `before`. */
export async function readyAgain(machine: Machine, before: number, timeoutMs = TIMEOUT_MS): Promise<void> {
  await machine.waitFor('systemctl show --property MainPID,ActiveState lbd', {
    describe: `another lbd than pid ${before}, active`,
    predicate: (text) =>
      /ActiveState=active/.test(text) && !text.includes(`MainPID=${before}\n`) && !/MainPID=0\n/.test(text),
    timeoutMs,
  });
}

/** Notes every change of the machine's addresses from now on; the result tells those that went. */
export async function watchAddresses(machine: Machine): Promise<() => Promise<readonly string[]>> {
  await machine.run(
    `systemctl stop watch-addresses 2>/dev/null; rm -f /run/watched
    systemd-run --quiet --unit watch-addresses --property StandardOutput=file:/run/watched ip -o monitor address`,
  );
  return async () => {
    const text = await machine.output('cat /run/watched');
    return text.split('\n').filter((line) => line.startsWith('Deleted'));
  };
}

/**
 * What is on the machine, so that two of them can be compared: files with their owners and modes, what is in those of /etc,
 * users and groups, links, addresses, routes and rules of all tables, packet filters, sysctls of the links, units, packages.
 */
export async function survey(machine: Machine): Promise<ReadonlySet<string>> {
  const packed = await machine.output(`{ ${SURVEY}\n} | gzip -1 | base64 -w 0`, { timeoutMs: 120_000 });
  return new Set(gunzipSync(Buffer.from(packed, 'base64')).toString().trimEnd().split('\n'));
}

/** What is there now and was not before, and the other way round. */
export function changesSince(
  before: ReadonlySet<string>,
  now: ReadonlySet<string>,
): { readonly added: readonly string[]; readonly gone: readonly string[] } {
  return { added: [...now.difference(before)].sort(), gone: [...before.difference(now)].sort() };
}

// What changes on any machine, whatever is installed, is left out: logs, caches, dpkg's and systemd's own records, the copies
// that passwd(5)'s tools keep, and what the tests themselves put into /run. Of sysctls that only root reads, grep says nothing.
// An address that the kernel still checks for duplicates has its route later. Of what is in /etc, the users are looked at line by line.
const SURVEY = `
while ip -6 addr show tentative | grep -q .; do sleep 0.1; done
find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /root \\
  -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/tmp \\
  -o -regex '/etc/g?\\(passwd\\|shadow\\|group\\)-' \\) -prune -o -printf 'file %M %u:%g %p\\n'
find /etc -type f -regextype posix-extended -not -regex '/etc/g?(passwd|shadow|group)-?' -exec sha256sum {} + | sed 's/^/content /'
find /var/lib/systemd/deb-systemd-* -printf 'file %M %u:%g %p\\n' 2>/dev/null
find /run -path '/run/systemd' -prune -o -path /run/udev -prune -o -printf 'file %M %u:%g %p\\n' | grep -v -e /run/watched -e /run/www -e /run/adduser
find /run/systemd/system -printf 'file %M %u:%g %p\\n'
for name in passwd shadow group gshadow; do sed "s/^/$name /" /etc/$name; done
ip -o link | awk '{ print "link", $2 }'
ip -o addr | awk '{ print "address", $2, $4 }'
for family in -4 -6; do
  ip $family rule | sed "s/^/rule $family /"
  ip $family route show table all | sed "s/^/route $family /"
done
nft list ruleset | sed 's/^/nft /'
grep -H -s . /proc/sys/net/ipv[46]/conf/*/* | sed 's/^/sysctl /'
systemctl list-units --all --plain --no-legend 'lbd*' | sed 's/^/unit /'
dpkg-query -W -f 'package \${Package} \${Status}\\n'
dpkg-statoverride --list | sed 's/^/statoverride /'`;

/** Waits for a line in the journal of lbd since the boot. */
export function journalHas(machine: Machine, match: RegExp, timeoutMs = TIMEOUT_MS): Promise<string> {
  return waitFor(
    async () => {
      const text = await machine.output('journalctl --no-pager -o cat -b -u lbd');
      return text.split('\n').find((line) => match.test(line));
    },
    { describe: `${match} in the journal of ${machine.name}`, timeoutMs, everyMs: 500 },
  );
}

export function seconds(sinceMs: number): string {
  return `${((labTimeMs() - sinceMs) / 1_000).toFixed(1)} s`;
}
