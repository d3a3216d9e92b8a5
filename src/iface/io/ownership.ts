import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { hasLbdTag } from '../nic-selection.ts';
import { type AddressKey, addressKey } from '../observed.ts';
import type { KernelAddress } from '../types.ts';

/** The first Linux that keeps IFA_PROTO: 5.18 (commit 47f0bd503210). */
const TAG_SINCE = { major: 5, minor: 18 };
/** More than a host can hold: a longer file is not ours. */
const FILE_BYTES_MAX = 4 << 20;

type Named = Pick<KernelAddress, 'ifIndex' | 'ip' | 'prefixLength'>;

export type OwnershipOptions = {
  /** Where to remember on kernels without the tag. */
  readonly file: string;
  readonly logger: Logger;
  /** Whether the kernel keeps the tag; by default what its release says. */
  readonly kernelTags?: boolean;
};

/**
 * Tells lbd's addresses from everybody else's (safety rule 5): by the kernel's tag, and on kernels that keep none by a
 * file that is written before an address is added. The file counts for one boot, as the kernel's addresses do.
 */
export class Ownership {
  readonly #options: OwnershipOptions;
  readonly #kernelTags: boolean;
  readonly #recorded: Set<AddressKey>;
  readonly #bootId: string;

  constructor(options: OwnershipOptions) {
    this.#options = options;
    this.#kernelTags = options.kernelTags ?? keepsTags(release());
    this.#bootId = readBootId();
    this.#recorded = this.#kernelTags ? new Set() : this.#load();
  }

  isOurs(address: KernelAddress): boolean {
    return hasLbdTag(address) || this.#recorded.has(addressKey(address));
  }

  /** To be called before `addresses` are added. Returns why they must not be: what is not remembered is lost to lbd. */
  claim(addresses: readonly Named[]): string | undefined {
    return this.#change(addresses, (key) => !this.#recorded.has(key) && this.#recorded.add(key));
  }

  /** To be called after `addresses` left the kernel. */
  release(addresses: readonly Named[]): void {
    const problem = this.#change(addresses, (key) => this.#recorded.delete(key));
    if (problem !== undefined) this.#options.logger.warn({ error: problem }, 'address.record-failed');
  }

  #change(addresses: readonly Named[], apply: (key: AddressKey) => unknown): string | undefined {
    if (this.#kernelTags) return undefined;
    const changed = addresses.filter((address) => Boolean(apply(addressKey(address as KernelAddress))));
    return changed.length === 0 ? undefined : this.#save();
  }

  /** Without fsync: what a power cut loses, it loses together with the addresses. */
  #save(): string | undefined {
    const { file } = this.#options;
    try {
      const text = JSON.stringify({ version: 1, bootId: this.#bootId, addresses: [...this.#recorded] });
      writeFileSync(`${file}.new`, text, { mode: 0o640 });
      renameSync(`${file}.new`, file);
      return undefined;
    } catch (error) {
      return `cannot record lbd's addresses in "${file}", which this kernel (${release()}) needs: ${errorText(error)}`;
    }
  }

  #load(): Set<AddressKey> {
    try {
      const text = readFileSync(this.#options.file, 'utf8');
      const parsed: unknown = text.length > FILE_BYTES_MAX ? undefined : JSON.parse(text);
      if (isRecord(parsed) && parsed.bootId === this.#bootId)
        return new Set(parsed.addresses as AddressKey[]);
    } catch {
      // None yet, or torn: nothing in the kernel is known to be ours, and what is there expires.
    }
    return new Set();
  }
}

function isRecord(value: unknown): value is { bootId: string; addresses: readonly string[] } {
  if (typeof value !== 'object' || value === null || !('bootId' in value) || !('addresses' in value))
    return false;
  const { addresses } = value;
  return Array.isArray(addresses) && addresses.every((address) => typeof address === 'string');
}

function keepsTags(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.').map((part) => Number.parseInt(part, 10));
  return major > TAG_SINCE.major || (major === TAG_SINCE.major && minor >= TAG_SINCE.minor);
}

function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
