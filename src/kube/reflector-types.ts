/** State, events and effects of the reflector machine; what they mean is in `reflector.ts`. */

import type { Instant } from '../lib/time.ts';
import type { ApiFailure } from './api-failure.ts';
import type { ObjectStore } from './object-store.ts';
import type { Item } from './objects.ts';
import type { ReflectorStatus } from './types.ts';

export type ReflectorConfig = {
  readonly resource: ReflectorStatus['resource'];
  /** Whether a mass disappearance is doubted. */
  readonly doubts: boolean;
};

export type ReflectorPhase<Value> =
  | { readonly kind: 'idle' | 'stopped' }
  | {
      readonly kind: 'listing';
      readonly since: Instant;
      readonly items: Map<string, Item<Value>>;
      /** Of the first page: all pages of one list are of one version. */
      readonly resourceVersion: string | undefined;
      /** Objects that writes of our own changed since the list began, at which version. */
      readonly written: Map<string, string>;
    }
  | {
      readonly kind: 'watching';
      readonly since: Instant;
      readonly overdueAt: Instant;
      /** A change that a second watch saw and this one must bring by then. */
      readonly awaited: { readonly resourceVersion: string; readonly by: Instant } | undefined;
    }
  | {
      readonly kind: 'backing-off';
      readonly until: Instant;
      readonly next: 'list' | 'watch';
      /** The server itself said how long (Retry-After). */
      readonly isTold: boolean;
    };

export type ReflectorState<Value> = {
  readonly config: ReflectorConfig;
  readonly store: ObjectStore<Value>;
  readonly phase: ReflectorPhase<Value>;
  readonly attempt: number;
  /** In a row; reset by a complete list or a steady watch. */
  readonly failures: number;
  /** It was told, since the last success, that the server is well: once, or two that fail would hurry each other for ever. */
  readonly isHurried: boolean;
  /** 410s in a row without news from a watch between them. */
  readonly expirations: number;
  readonly pageLimit: number;
  /** Where to watch from: of the last list, event or bookmark. */
  readonly resourceVersion: string | undefined;
  /** A list was completed since start. */
  readonly synced: boolean;
  /** When the last complete list was begun: it holds at least what was true then. */
  readonly listedSince: Instant | undefined;
  readonly relists: number;
  readonly heardAt: Instant | undefined;
  readonly error: string | undefined;
};

export type ReflectorEvent<Value> =
  | { readonly kind: 'started' }
  | {
      readonly kind: 'page-listed';
      readonly attempt: number;
      readonly items: readonly Item<Value>[];
      readonly resourceVersion: string;
      readonly continueToken: string | undefined;
    }
  | { readonly kind: 'watch-opened'; readonly attempt: number }
  | {
      readonly kind: 'object-changed';
      readonly attempt: number;
      readonly item: Item<Value>;
      readonly deleted: boolean;
    }
  | { readonly kind: 'bookmarked'; readonly attempt: number; readonly resourceVersion: string }
  | { readonly kind: 'watch-closed'; readonly attempt: number }
  | { readonly kind: 'request-failed'; readonly attempt: number; readonly failure: ApiFailure }
  /** A second watch, from the version seen when it was opened, brought a change of this version. */
  | { readonly kind: 'change-verified'; readonly attempt: number; readonly resourceVersion: string }
  | {
      readonly kind: 'version-checked';
      readonly attempt: number;
      readonly resumedFrom: string;
      readonly resourceVersion: string;
    }
  /** A view is needed that is no older than now. */
  | { readonly kind: 'list-wanted' }
  /** The same server was seen to be well again, by somebody else. */
  | { readonly kind: 'server-recovered' }
  | { readonly kind: 'object-written'; readonly item: Item<Value> }
  | { readonly kind: 'deadline-passed' }
  | { readonly kind: 'stopped' };

export type ReflectorEffect =
  | {
      readonly kind: 'list';
      readonly attempt: number;
      readonly limit: number;
      readonly continueToken: string | undefined;
    }
  | {
      readonly kind: 'watch';
      readonly attempt: number;
      readonly resourceVersion: string;
      readonly timeoutMs: number;
    }
  /**
   * Ask for the collection's version now, beside the watch. After a restore of its data a server may be behind the version
   * that the watch starts from: it accepts the watch and stays silent until it has caught up.
   */
  | { readonly kind: 'check-version'; readonly attempt: number; readonly resumedFrom: string }
  | { readonly kind: 'cancel' }
  /** The server answers again after it failed. */
  | { readonly kind: 'recovered' }
  /** What is known changed, or became complete for the first time. */
  | { readonly kind: 'notify' }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn';
      readonly event: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };

export type ReflectorStep<Value> = {
  readonly state: ReflectorState<Value>;
  readonly effects: readonly ReflectorEffect[];
};
