/** What the native addon throws for a failed system call: `bind(AF_NETLINK, groups=0x11): EPERM: Operation not permitted`. */
export type SystemError = Error & {
  /** The errno's name: `EPERM`. */
  readonly code: string;
  /** Negative, as in Node's own errors. */
  readonly errno: number;
  /** `bind`. */
  readonly syscall: string;
  /** What the call was given, in words: `AF_NETLINK, groups=0x11`. */
  readonly args: string;
};

/** Whether `thrown` is a failed system call of the addon, and the given one when a code is named. */
export function isSystemError(thrown: unknown, code?: string): thrown is SystemError {
  return (
    thrown instanceof Error &&
    'code' in thrown &&
    'errno' in thrown &&
    'syscall' in thrown &&
    'args' in thrown &&
    (code === undefined || thrown.code === code)
  );
}
