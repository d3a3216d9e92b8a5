import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SourceRoutingDriver } from '../../../src/iface/io/source-routing-driver.ts';
import { hasLbdTag, viewHost } from '../../../src/iface/nic-selection.ts';
import type { SourceRequest, SourceRoute, SourceRule } from '../../../src/iface/source-routing.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import type { Logger } from '../../../src/lib/logger.ts';
import { ok } from '../../../src/lib/result.ts';
import { defaultRoute, ETH1, kernelAddress, link } from '../../support/fake-host.ts';
import { sleep, waitFor } from '../../support/wait.ts';

/** Longer than the pause after a look that failed. */
const FAULT_MS = 2_500;

/** Rules and routes as the kernel keeps them, that refuses what it is told to. */
class Kernel {
  rules: readonly SourceRule[] = [];
  routes: readonly SourceRoute[] = [];
  readonly asked: string[] = [];
  refused: { readonly kind: SourceRequest['kind']; readonly errno: string } | undefined;
  closed = false;

  subscribe(): void {}

  async read() {
    return ok({ rules: this.rules, routes: this.routes });
  }

  async apply(request: SourceRequest): Promise<string | undefined> {
    this.asked.push(request.kind);
    if (this.refused?.kind === request.kind) return `${request.kind}: ${this.refused.errno}: as told`;
    switch (request.kind) {
      case 'add-rule':
        this.rules = [...this.rules, request.rule];
        break;
      case 'delete-rule':
        this.rules = this.rules.filter((rule) => rule !== request.rule);
        break;
      case 'replace-source-route':
        this.routes = [...this.routes.filter(({ table }) => table !== request.route.table), request.route];
        break;
      case 'delete-source-route':
        this.routes = this.routes.filter((route) => route !== request.route);
        break;
      default:
        request satisfies never;
    }
    return undefined;
  }

  close(): void {
    this.closed = true;
  }
}

const ROUTES = [{ ...defaultRoute(ETH1, '10.1.0.1' as Ip), metric: 200 }];
const HOST = viewHost(
  {
    links: [link(ETH1, 'eth1')],
    addresses: [kernelAddress(ETH1, '10.1.0.2' as Ip, 24, undefined, Number.POSITIVE_INFINITY)],
    routes: ROUTES,
  },
  { interfaces: ['eth*'] },
  hasLbdTag,
  new Map(),
);

function start() {
  const kernel = new Kernel();
  const warnings: unknown[] = [];
  const ignore = () => {};
  const logger = {
    debug: ignore,
    info: ignore,
    error: ignore,
    warn: (...line: unknown[]) => warnings.push(line),
  };
  let isWanted = true;
  const driver = new SourceRoutingDriver({
    settings: () => (isWanted ? [{ name: 'eth1', gateways: [] }] : []),
    host: () => HOST,
    routes: () => ROUTES,
    logger: logger as unknown as Logger,
    kernel,
  });
  const want = (is: boolean) => {
    isWanted = is;
    driver.hostChanged();
  };
  return { driver, kernel, warnings, want };
}

const ADDING = ['add-rule', 'replace-source-route'] as const;
const REMOVING = ['delete-rule', 'delete-source-route'] as const;
const ERRNOS = ['EPERM', 'ENODEV', 'ENETUNREACH', 'ENOBUFS', 'ENOMEM', 'EINVAL', 'EOPNOTSUPP', 'EIO'];

for (const kind of ADDING) {
  test(`${kind} refused by the kernel, whatever for: said in status and once in the log, asked for once a second, and there when that is over`, async () => {
    await Promise.all(
      ERRNOS.map(async (errno) => {
        const { driver, kernel, warnings, want } = start();
        kernel.refused = { kind, errno };
        want(true);
        await sleep(FAULT_MS);
        const problem = driver.problems().join();
        assert.equal(problem, `source routing: cannot ${kind}: ${errno}: as told`);
        assert.equal(warnings.length, 1, JSON.stringify(warnings));
        const count = kernel.asked.filter((each) => each === kind).length;
        assert.ok(count >= 2 && count <= 8, `${count} requests for ${errno}`);
        kernel.refused = undefined;
        await waitFor(() => driver.problems().length === 0, { describe: 'an end of it' });
        assert.deepEqual([kernel.rules.length, kernel.routes.length, driver.repairs], [2, 1, 0]);
        driver.close();
        assert.ok(kernel.closed);
      }),
    );
  });
}

for (const kind of REMOVING) {
  test(`${kind} refused by the kernel, whatever for: asked for once a second, and gone when that is over`, async () => {
    await Promise.all(
      ERRNOS.map(async (errno) => {
        const { driver, kernel, want } = start();
        want(true);
        await waitFor(() => kernel.rules.length === 2, { describe: 'the rules' });
        kernel.refused = { kind, errno };
        want(false);
        await sleep(FAULT_MS);
        assert.match(driver.problems().join(), new RegExp(`^source routing: cannot ${kind}: ${errno}`));
        kernel.refused = undefined;
        await waitFor(() => driver.problems().length === 0, { describe: 'an end of it' });
        assert.deepEqual([kernel.rules, kernel.routes], [[], []]);
        driver.close();
      }),
    );
  });
}
