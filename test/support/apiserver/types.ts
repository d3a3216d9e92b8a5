/** What a test or a lab may rely on, whichever API server stands behind it: the stand-in or a real one. */

import { accessRules, DEFAULT_ACCESS } from '../../../src/kube/permissions.ts';

/** One RBAC rule; with a namespace it becomes a Role there, otherwise a ClusterRole. */
export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly namespace?: string;
}

export interface UserOptions {
  readonly rules?: readonly Rule[];
  readonly groups?: readonly string[];
}

/** How a kubeconfig authenticates. `tokenFile` and `exec` follow a rotated token, the others do not. */
export type CredentialForm = 'token' | 'tokenFile' | 'clientCertificate' | 'exec';

export interface KubeconfigOptions {
  readonly form?: CredentialForm;
  /** Another address for the same server, e.g. a proxy in front of it. */
  readonly server?: string;
  readonly namespace?: string;
}

export interface ApiTarget {
  /** `https://host:port`, without a path. */
  readonly url: string;
  readonly caPem: string;
  /** True for the stand-in, false for a real kube-apiserver. */
  readonly isStandIn: boolean;
  /** Makes (or replaces the rules of) a user. `admin` exists from the start and may do everything. */
  createUser(name: string, options?: UserOptions): Promise<void>;
  /** The bearer token of a user. Throws when there is no such user. */
  tokenOf(user: string): string;
  /** Gives the user a new token, writes it to its token file, and refuses the old one from now on. */
  rotateToken(user: string): string;
  /** Refuses every token of the user from now on. */
  revokeTokens(user: string): void;
  /** A kubeconfig as YAML text. */
  kubeconfigFor(user: string, options?: KubeconfigOptions): string;
  close(): Promise<void>;
}

/** What lbd asks of the API, and nothing more. */
export const LBD_RULES: readonly Rule[] = accessRules(DEFAULT_ACCESS);
