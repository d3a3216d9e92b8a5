/**
 * Renews the ServiceAccount token of the kubeconfig, see `../account-token.ts`. The new one goes into the state directory,
 * because /etc is not the daemon's to write; the kubeconfig stays as it is, and a newer token in it wins.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { doublingPauseMs } from '../../lib/time.ts';
import { makeDirectory } from '../../sys/directory.ts';
import { replaceFile } from '../../sys/replace-file.ts';
import {
  type AccountToken,
  grantedToken,
  isRenewalDue,
  parseAccountToken,
  type TokenStatus,
  tokenRequestBody,
  tokenRequestPath,
  tokenStatus,
} from '../account-token.ts';
import { otherFailure } from '../api-failure.ts';
import { type ApiClient, ApiError } from './api-client.ts';
import type { Credentials } from './credentials.ts';

/** Looked at so often instead of once at a computed time: the wall clock may be set at any moment. */
const CHECK_INTERVAL_MS = 60_000;
const FIRST_RETRY_MS = 60_000;
const LAST_RETRY_MS = 3_600_000;
/** As the kubeconfig: whoever is in the daemon's group may run `lbd check`. */
const MODE = 0o640;

export type TokenRenewalOptions = {
  readonly client: ApiClient;
  readonly credentials: Credentials;
  readonly stateDirectory: string;
  readonly logger: Logger;
  /** Milliseconds since the epoch: tokens end by the wall clock. */
  readonly wallNow: () => number;
  readonly checkIntervalMs?: number;
};

/** The token that an earlier run of the daemon got; undefined when there is none. Never throws. */
export function readRenewedToken(stateDirectory: string): string | undefined {
  try {
    const text = readFileSync(fileIn(stateDirectory), 'utf8').trim();
    return parseAccountToken(text) === undefined ? undefined : text;
  } catch {
    return undefined;
  }
}

function fileIn(stateDirectory: string): string {
  return join(stateDirectory, 'token');
}

export class TokenRenewal {
  readonly #options: TokenRenewalOptions;
  #timer: NodeJS.Timeout | undefined;
  #attempt: Promise<void> | undefined;
  readonly #stopping = new AbortController();
  #failures = 0;
  #restUntilMs = 0;
  /** In use, but not in the state directory yet. */
  #unsaved: string | undefined;
  #error: string | undefined;

  constructor(options: TokenRenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#check();
    this.#timer = setInterval(() => this.#check(), this.#options.checkIntervalMs ?? CHECK_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#attempt;
  }

  /** undefined when the kubeconfig has no token that ends. */
  status(): TokenStatus | undefined {
    const token = this.#token();
    return token && tokenStatus(token, this.#options.wallNow(), this.#error);
  }

  #token(): AccountToken | undefined {
    const text = this.#options.credentials.accountToken();
    return text === undefined ? undefined : parseAccountToken(text);
  }

  #check(): void {
    const now = this.#options.wallNow();
    // A clock that was set back must not make the pause longer.
    const rests = now < this.#restUntilMs && now > this.#restUntilMs - LAST_RETRY_MS;
    const token = this.#token();
    if (rests || this.#attempt !== undefined || token === undefined) return;
    if (isRenewalDue(token, now)) this.#run(() => this.#renew(token));
    else if (this.#unsaved !== undefined) this.#run(() => this.#save());
    else this.#error = undefined;
  }

  #run(work: () => Promise<void>): void {
    this.#attempt = work()
      .then(
        () => this.#succeeded(),
        (error) => this.#failed(error),
      )
      .finally(() => {
        this.#attempt = undefined;
      });
  }

  #succeeded(): void {
    this.#failures = 0;
    this.#error = undefined;
    // Where clocks are so far apart that a new token looks old, this keeps renewals rare.
    this.#restUntilMs = this.#options.wallNow() + LAST_RETRY_MS;
  }

  #failed(error: unknown): void {
    if (this.#stopping.signal.aborted) return;
    this.#failures += 1;
    this.#restUntilMs =
      this.#options.wallNow() + doublingPauseMs(this.#failures, FIRST_RETRY_MS, LAST_RETRY_MS);
    this.#error = errorText(error);
    this.#options.logger.warn({ error: this.#error, failures: this.#failures }, 'kube.token.renewal-failed');
  }

  async #renew(old: AccountToken): Promise<void> {
    const { client, credentials, logger } = this.#options;
    const granted = grantedToken(await this.#request(client, old), old);
    if (granted === undefined) {
      const failure = otherFailure('protocol', 'the answer has no token of this ServiceAccount');
      throw new ApiError(failure, 'create', 'serviceaccounts/token');
    }
    credentials.renewed(granted.text);
    this.#unsaved = granted.text;
    await this.#save();
    const expires = new Date(granted.token.expiresAtMs).toISOString();
    logger.info({ account: `${old.namespace}/${old.name}`, expires }, 'kube.token.renewed');
  }

  #request(client: ApiClient, old: AccountToken): Promise<unknown> {
    return client.request({
      verb: 'create',
      resource: 'serviceaccounts/token',
      method: 'POST',
      path: tokenRequestPath(old),
      body: tokenRequestBody(old.expiresAtMs - old.issuedAtMs),
      signal: this.#stopping.signal,
    });
  }

  async #save(): Promise<void> {
    const { stateDirectory } = this.#options;
    const path = fileIn(stateDirectory);
    try {
      makeDirectory(stateDirectory, 0o750);
      await replaceFile(path, `${this.#unsaved}\n`, MODE);
      this.#unsaved = undefined;
    } catch (error) {
      throw new Error(`the renewed token is in use, but cannot be kept in ${path}`, { cause: error });
    }
  }
}
