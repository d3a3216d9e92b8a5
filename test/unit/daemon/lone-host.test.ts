import assert from 'node:assert/strict';
import { test } from 'node:test';
import { splitLone } from '../../../src/daemon/lone-host.ts';
import type { WantedAddress } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';

const IP = '10.0.0.9' as Ip;
const DESIRED = [{ ip: IP, services: ['default/web'] }];

function split(nodes: readonly string[] | undefined, unready?: ReadonlyMap<Ip, string>): string {
  const wanted: WantedAddress = { ip: IP, nodes: nodes === undefined ? undefined : new Set(nodes) };
  const { here, unserved } = splitLone(
    DESIRED,
    { addresses: new Map([[IP, wanted]]), ...(unready === undefined ? {} : { unready }) },
    'n1',
  );
  assert.equal(here.length + unserved.length, 1);
  const [away] = unserved;
  return away === undefined ? 'here' : `${away.state} ${away.kind}: ${away.reason}`;
}

test('splitLone() keeps what may be anywhere, and what has an endpoint here', () => {
  assert.equal(split(undefined), 'here');
  assert.equal(split(['n1', 'n2']), 'here');
});

test('splitLone() says why nobody announces what has its endpoints elsewhere, or none', () => {
  const policy = 'its externalTrafficPolicy is Local, and';
  assert.equal(split([]), `unserved local: ${policy} no node has a usable endpoint`);
  assert.equal(split(['n2']), `unserved local: ${policy} no endpoint is here, but on n2`);
});

test('splitLone() keeps what nothing is known of', () => {
  assert.deepEqual(splitLone(DESIRED, { addresses: new Map() }, 'n1'), { here: DESIRED, unserved: [] });
});

test('splitLone() keeps nothing that kube-proxy here is not ready for', () => {
  const unready = new Map([[IP, 'kube-proxy is not ready']]);
  assert.equal(split(['n1'], unready), 'unserved local: kube-proxy is not ready');
  assert.match(split(['n2'], unready), /no endpoint is here, but on n2/);
});
