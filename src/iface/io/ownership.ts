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
 * record in a file that is written before an address is added. The file counts for one boot, as the kernel's addresses do.
 *
 *   (none) ──claim()──► pending ──present()──► settled ──absent()──► (none)
 *                          └──refused(), removed()──► (none)
 *
 * `pending`: asked of the kernel, which has not told yet that it has it. What it tells meanwhile of an absence is older
 * than the request. A record that outlives its address would make a stranger's ours that is put in the same place later.
 */
export class Ownership {
  readonly #options: OwnershipOptions;
  /** Whether this kernel keeps the tag. */
  readonly kernelTags: boolean;
  readonly #recorded: Set<AddressKey>;
  readonly #pending = new Map<AddressKey, 'new' | 'known'>();
  readonly #bootId: string;

  constructor(options: OwnershipOptions) {
    this.#options = options;
    this.kernelTags = options.kernelTags ?? keepsTags(release());
    this.#bootId = readBootId();
    this.#recorded = this.kernelTags ? new Set() : this.#load();
  }

  isOurs(address: KernelAddress): boolean {
    return hasLbdTag(address) || this.#recorded.has(addressKey(address));
  }

  /**
   * To be called before `addresses` are added or renewed. Returns why new ones must not be added: what is not remembered
   * is lost to lbd.
   */
  claim(addresses: readonly Named[]): string | undefined {
    if (this.kernelTags) return undefined;
    const keys = addresses.map(addressKey);
    const added = keys.filter((key) => !this.#recorded.has(key));
    for (const key of keys) if (!this.#pending.has(key)) this.#pending.set(key, 'known');
    for (const key of added) this.#pending.set(key, 'new');
    for (const key of added) this.#recorded.add(key);
    const problem = added.length === 0 ? undefined : this.#save();
    if (problem !== undefined) this.#drop(added);
    return problem;
  }

  /** The kernel has these. */
  present(addresses: readonly Named[]): void {
    for (const address of addresses) this.#pending.delete(addressKey(address));
  }

  /** The kernel has these no more. */
  absent(addresses: readonly Named[]): void {
    this.#forget(addresses.map(addressKey).filter((key) => !this.#pending.has(key)));
  }

  /** The kernel did not take these, so that what it has in their place, if anything, is not what was claimed. */
  refused(addresses: readonly Named[]): void {
    this.#forget(addresses.map(addressKey).filter((key) => this.#pending.get(key) === 'new'));
  }

  /** lbd took these out of the kernel. */
  removed(addresses: readonly Named[]): void {
    this.#forget(addresses.map(addressKey));
  }

  /** At start, when `present` is all that the kernel has. */
  forgetAllBut(present: Iterable<Named>): void {
    const keys = new Set([...present].map(addressKey));
    this.#forget([...this.#recorded].filter((key) => !keys.has(key)));
  }

  #forget(keys: readonly AddressKey[]): void {
    if (!this.#drop(keys)) return;
    const problem = this.#save();
    if (problem !== undefined) this.#options.logger.warn({ error: problem }, 'address.record-failed');
  }

  /** Returns whether any was recorded. */
  #drop(keys: readonly AddressKey[]): boolean {
    let dropped = false;
    for (const key of keys) {
      this.#pending.delete(key);
      if (this.#recorded.delete(key)) dropped = true;
    }
    return dropped;
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
      if (isRecord(parsed) && parsed.bootId === this.#bootId && this.#bootId !== '')
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
