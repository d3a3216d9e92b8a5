import { request } from 'node:http';
import { errorText } from '../../lib/errors.ts';
import { formatEndpoint, type Ip } from '../../lib/ip.ts';
import type { CheckAnswer } from '../health-checks.ts';

const TIMEOUT_MS = 1_000;

/** Asks a healthCheckNodePort of this host as load balancers do; resolves with what it said, also when that is nothing. */
export function askHealth(ip: Ip, port: number): Promise<CheckAnswer> {
  const { promise, resolve } = Promise.withResolvers<CheckAnswer>();
  const where = formatEndpoint(ip, port);
  const asked = request({ host: ip, port, path: '/healthz', agent: false }, (response) => {
    const { statusCode } = response;
    resolve({ reason: statusCode === 200 ? undefined : `${where} answers ${statusCode}` });
    // What it says besides is not read.
    asked.destroy();
  });
  const timer = setTimeout(() => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
  asked.on('error', (error) => resolve({ reason: `${where}: ${errorText(error)}` }));
  asked.on('close', () => clearTimeout(timer));
  asked.end();
  return promise;
}
