import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ServiceCacheFile } from '../../../src/kube/io/service-cache-file.ts';
import { serviceItem } from '../../../src/kube/objects.ts';
import {
  cacheText,
  LARGEST_CACHE_BYTES,
  MOST_CACHED_SERVICES,
  parseCache,
} from '../../../src/kube/service-cache.ts';
import type { Service } from '../../../src/kube/types.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';

const SERVER = 'https://192.0.2.10:6443';

function service(name: string, extra: Record<string, unknown> = {}): Service {
  const item = serviceItem({
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      resourceVersion: '7',
      creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: { 'lbd.io/pool': 'públic' },
      ...extra,
    },
    spec: { type: 'LoadBalancer', loadBalancerClass: 'x/y', ports: [{ port: 80 }], ipFamilies: ['IPv4'] },
    status: { loadBalancer: { ingress: [{ ip: '192.0.2.1', ipMode: 'VIP' }] } },
  });
  assert.ok(item?.value !== undefined);
  return item.value;
}

describe('parseCache()', () => {
  it('gives back exactly what cacheText() was given', () => {
    const services = [service('a'), service('b', { deletionTimestamp: '2026-01-02T00:00:00Z' })];
    const parsed = parseCache(cacheText(services, SERVER).text, SERVER);
    assert.ok(parsed.ok);
    assert.deepEqual(
      parsed.value.map((item) => item.value),
      services,
    );
  });

  it('refuses what is torn, of another version, of another cluster or no list', () => {
    const { text } = cacheText([service('a')], SERVER);
    const refusal = (candidate: string, server = SERVER) => {
      const parsed = parseCache(candidate, server);
      assert.ok(!parsed.ok);
      return parsed.error;
    };
    assert.match(refusal(text.slice(0, -9)), /no JSON/);
    assert.match(refusal(text.replace('"version":1', '"version":2')), /expected version 1, got 2/);
    assert.match(refusal(text, 'https://other:6443'), /192\.0\.2\.10.*other:6443/);
    assert.match(refusal(`{"version":1,"server":"${SERVER}"}`), /no list/);
  });

  it('drops single services that are damaged and keeps the others', () => {
    const text = `{"version":1,"server":"${SERVER}","services":[7,{"metadata":{}},${JSON.stringify({
      metadata: { name: 'a', namespace: 'b' },
      spec: { type: 'LoadBalancer' },
    })}]}`;
    const parsed = parseCache(text, SERVER);
    assert.ok(parsed.ok);
    assert.deepEqual(
      parsed.value.map((item) => item.key),
      ['b/a'],
    );
  });
});

describe('cacheText()', () => {
  it('leaves out the newest beyond its number and its size, and says how many', () => {
    const one = service('a');
    const many = Array.from({ length: MOST_CACHED_SERVICES + 3 }, (_, index) => ({
      ...one,
      name: `s${index}`,
      createdAt: index,
    }));
    const numbered = cacheText(many, SERVER);
    assert.equal(numbered.omitted, 3);
    assert.ok(!numbered.text.includes('"s10000"') && numbered.text.includes('"s9999"'));
    const annotations = Object.fromEntries(
      Array.from({ length: 64 }, (_, index) => [`lbd.io/${index}`, 'x'.repeat(1_000)]),
    );
    const big = cacheText(
      many.slice(0, 1_000).map((each) => ({ ...each, annotations })),
      SERVER,
    );
    assert.ok(big.omitted > 0 && Buffer.byteLength(big.text) <= LARGEST_CACHE_BYTES);
  });
});

describe('ServiceCacheFile', () => {
  let directory = '';
  const logged: string[] = [];
  const logger = {
    ...SILENT_LOGGER,
    warn: (_: unknown, event: string) => logged.push(event),
    error: (fields: Readonly<Record<string, unknown>>, event: string) =>
      logged.push(`${event} ${fields['problem']}`),
  };
  const file = (services: readonly Service[], where = directory) =>
    new ServiceCacheFile({ directory: where, server: SERVER, services: () => services, logger });

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lbd-cache-'));
    logged.length = 0;
  });
  afterEach(() => {
    chmodSync(directory, 0o700);
    rmSync(directory, { recursive: true });
  });

  it('writes on close() what changed, readable by the next run and not by others', async () => {
    const cache = file([service('a')]);
    cache.changed();
    await cache.close();
    assert.deepEqual(
      file([])
        .load()
        .map((item) => item.key),
      ['shop/a'],
    );
    assert.deepEqual(logged, []);
    assert.ok(!existsSync(join(directory, 'services.json.new')));
  });

  it('ignores a damaged file with a warning and an absent one silently', () => {
    assert.deepEqual(file([]).load(), []);
    assert.deepEqual(logged, []);
    writeFileSync(join(directory, 'services.json'), '{"version":1,"serv');
    assert.deepEqual(file([]).load(), []);
    assert.deepEqual(logged, ['kube.cache.ignored']);
  });

  it('keeps the old file and says once why, when writing fails', async () => {
    const good = file([service('a')]);
    good.changed();
    await good.close();
    // A directory in the place of the temporary file: fails for root too, as a full disk does.
    mkdirSync(join(directory, 'services.json.new'));
    const cache = file([service('b')]);
    cache.changed();
    await cache.close();
    cache.changed();
    await cache.close();
    assert.match(cache.problem ?? '', /cannot write .*services\.json/);
    assert.equal(logged.filter((line) => line.startsWith('kube.cache.failed')).length, 1);
    assert.match(readFileSync(join(directory, 'services.json'), 'utf8'), /"name":"a"/);
  });
});
