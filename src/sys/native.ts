import os from 'node:os';
import { getAsset, getRawAsset, isSea } from 'node:sea';
import { fileURLToPath } from 'node:url';
import { assert } from '../lib/assert.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { extractionDirectories, loadFromImage } from './native-image.ts';

/** A socket of the addon. Opaque: only the addon's functions take it. */
export type SocketHandle = { readonly __handle: 'lbd_sys socket' };

/** First argument of the event function given to `startPolling` (enum event_kind in native/receive.c). */
export const EVENT_DATAGRAMS = 0;
export const EVENT_ERROR = 1;
export const EVENT_WRITABLE = 2;

/**
 * What the addon exports (native/module.c). All calls are synchronous and never block. A failed system call throws a
 * `SystemError`, an argument of a wrong type a TypeError.
 */
export type NativeAddon = {
  openSocket(domain: number, type: number, protocol: number): SocketHandle;
  close(handle: SocketHandle): void;
  release(handle: SocketHandle): number;
  bind(handle: SocketHandle, address: Uint8Array): void;
  connect(handle: SocketHandle, address: Uint8Array): number;
  getsockname(handle: SocketHandle): Uint8Array;
  setsockopt(handle: SocketHandle, level: number, option: number, value: Uint8Array): void;
  getsockopt(handle: SocketHandle, level: number, option: number, length: number): Uint8Array;
  setSocketOptionOnFd(fd: number, level: number, option: number, value: Uint8Array): void;
  getSocketOptionOnFd(fd: number, level: number, option: number, length: number): Uint8Array;
  attachFilter(handle: SocketHandle, program: Uint8Array): void;
  attachReuseportFilter(handle: SocketHandle, program: Uint8Array): void;
  send(handle: SocketHandle, bytes: Uint8Array, address: Uint8Array | undefined, flags: number): number;
  sendBefore(
    handle: SocketHandle,
    bytes: Uint8Array,
    address: Uint8Array | undefined,
    deadlineMs: number,
  ): number;
  sendMany(
    handle: SocketHandle,
    datagrams: readonly { readonly bytes: Uint8Array; readonly address?: Uint8Array | undefined }[],
  ): { readonly sent: number; readonly errno: number };
  startPolling(
    handle: SocketHandle,
    onEvent: (kind: number, payload: unknown) => void,
    onThrow: (thrown: unknown) => void,
    maxDatagramBytes: number,
  ): void;
  stopPolling(handle: SocketHandle): void;
  watchWritable(handle: SocketHandle): void;
  pausePolling(handle: SocketHandle, paused: number): void;
  deliverNow(handle: SocketHandle): boolean;
  bootTimeMs(): number;
  realTimeMs(): number;
};

const FUNCTION_NAMES: readonly (keyof NativeAddon)[] = [
  'openSocket',
  'close',
  'release',
  'bind',
  'connect',
  'getsockname',
  'setsockopt',
  'getsockopt',
  'setSocketOptionOnFd',
  'getSocketOptionOnFd',
  'attachFilter',
  'attachReuseportFilter',
  'send',
  'sendBefore',
  'sendMany',
  'startPolling',
  'stopPolling',
  'watchWritable',
  'pausePolling',
  'deliverNow',
  'bootTimeMs',
  'realTimeMs',
];

/** The assets of the single executable: the addon, and its SHA-256 in hex. */
export const ADDON_ASSET = 'lbd_sys.node';
export const ADDON_HASH_ASSET = 'lbd_sys.sha256';

// A loaded object stays in its process for good, so this one piece of state is the process's own.
let loaded: NativeAddon | undefined;

/**
 * The addon, loaded on first use: in the single executable from its asset, else from `path`, by default
 * build/native/lbd_sys.node of the source tree. Later calls return what the first one loaded.
 * Throws LbdError `native.not-built`, `native.not-loadable` or `native.corrupt`.
 */
export function loadNative(path?: string): NativeAddon {
  loaded ??= load(path);
  return loaded;
}

function load(path: string | undefined): NativeAddon {
  assert(
    os.endianness() === 'LE',
    'lbd runs on little-endian machines only: netlink is parsed in host order',
  );
  if (path === undefined && isSea()) {
    return loadFromImage({
      image: new Uint8Array(getRawAsset(ADDON_ASSET)),
      sha256: getAsset(ADDON_HASH_ASSET, 'utf8').trim(),
      directories: extractionDirectories(process.env),
      load: openAddon,
    });
  }
  const file = path ?? fileURLToPath(new URL('../../build/native/lbd_sys.node', import.meta.url));
  try {
    return openAddon(file);
  } catch (cause) {
    throw new LbdError(
      'native.not-built',
      `cannot load the native addon ${file}: ${errorText(cause)}; build it with: node scripts/build-native.mjs`,
      { fields: { file }, cause },
    );
  }
}

/** dlopen(3) with every symbol bound at once: a missing one shows here and not in the middle of a failover. */
function openAddon(file: string): NativeAddon {
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, file, os.constants.dlopen.RTLD_NOW);
  const { exports } = module;
  assert(isNativeAddon(exports), `${file} is not the addon of this lbd: a function is missing`);
  return exports;
}

function isNativeAddon(exports: unknown): exports is NativeAddon {
  if (typeof exports !== 'object' || exports === null) return false;
  const functions = exports as Partial<Record<string, unknown>>;
  return FUNCTION_NAMES.every((name) => typeof functions[name] === 'function');
}
