/** Writes Events on Services (events.k8s.io/v1), in the background and never in anybody's way. */

import type { Logger } from '../../lib/logger.ts';
import { type Instant, NEVER } from '../../lib/time.ts';
import type { ApiFailure } from '../api-failure.ts';
import {
  type EventQueue,
  type EventWrite,
  emptyEventQueue,
  eventsDeadline,
  eventWritten,
  offerEvent,
  takeEvent,
} from '../events.ts';
import type { EventNote } from '../types.ts';
import { type ApiClient, ApiError, type ApiRequest } from './api-client.ts';
import { microTime } from './lease-shell.ts';

const REPORTING_CONTROLLER = 'lbd.io/lbd';
const MOST_AT_ONCE = 4;
/** events.k8s.io/v1 limits reportingInstance to 128 bytes. */
const LONGEST_INSTANCE = 128;

export type EventWriterOptions = {
  readonly client: ApiClient;
  readonly hostName: string;
  readonly logger: Logger;
  readonly now: () => Instant;
};

export class EventWriter {
  readonly #options: EventWriterOptions;
  readonly #queue: EventQueue;
  #timer: NodeJS.Timeout | undefined;
  #running = 0;
  #serial = 0;
  #error: string | undefined;
  #refusal: string | undefined;
  #stopped = false;

  constructor(options: EventWriterOptions) {
    this.#options = options;
    this.#queue = emptyEventQueue(options.now());
  }

  /** Set while lbd may not write Events at all: what else befalls one of them says nothing about the next. */
  get problem(): string | undefined {
    return this.#refusal;
  }

  /** How many Events were dropped because too many waited. */
  get dropped(): number {
    return this.#queue.dropped;
  }

  /** Takes an Event to be written soon, or drops or counts it (`../events.ts`). Returns at once. */
  offer(note: EventNote): void {
    if (this.#stopped) return;
    offerEvent(this.#queue, note, this.#options.now());
    this.#pump();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #pump(): void {
    clearTimeout(this.#timer);
    while (!this.#stopped && this.#running < MOST_AT_ONCE) {
      const write = takeEvent(this.#queue, this.#options.now());
      if (write === undefined) break;
      this.#running++;
      void this.#send(write).finally(() => {
        this.#running--;
        this.#pump();
      });
    }
    if (this.#stopped || this.#running >= MOST_AT_ONCE) return;
    const now = this.#options.now();
    const deadline = eventsDeadline(this.#queue, now);
    if (deadline !== NEVER)
      this.#timer = setTimeout(() => this.#pump(), Math.ceil(Math.max(1, deadline - now)));
  }

  /** One try: an Event that cannot be written is lost, and said once until one succeeds. */
  async #send(write: EventWrite): Promise<void> {
    try {
      if (write.kind === 'create') {
        const name = this.#eventName(write.note.service.name);
        await this.#options.client.request(createRequest(write.note, name, this.#options.hostName));
        eventWritten(this.#queue, write.digest, name);
      } else await this.#options.client.request(countRequest(write));
      this.#error = undefined;
      this.#refusal = undefined;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (isForbidden(error.failure)) this.#refusal = error.message;
      if (error.message !== this.#error)
        this.#options.logger.warn({ error: error.message }, 'kube.event.lost');
      this.#error = error.message;
    }
  }

  /** Unique as client-go makes them: the object's name and the time in hexadecimal; the serial tells apart within one ms. */
  #eventName(service: string): string {
    this.#serial = (this.#serial + 1) % 0x1_0000;
    const time = Date.now().toString(16);
    return `${service.slice(0, 200)}.${time}${this.#serial.toString(16).padStart(4, '0')}`;
  }
}

/** A namespace that goes away takes no new Events either, and that is as it should be. */
function isForbidden({ status, message }: ApiFailure): boolean {
  return status === 403 && !message.includes('because it is being terminated');
}

function createRequest(note: EventNote, name: string, hostName: string): ApiRequest {
  const { namespace } = note.service;
  return {
    verb: 'create',
    resource: 'events',
    method: 'POST',
    path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
    body: {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name, namespace },
      eventTime: microTime(),
      reportingController: REPORTING_CONTROLLER,
      reportingInstance: hostName.slice(0, LONGEST_INSTANCE),
      action: note.action,
      reason: note.reason,
      regarding: { apiVersion: 'v1', kind: 'Service', ...note.service },
      note: note.note,
      type: note.type,
    },
  };
}

function countRequest(write: Extract<EventWrite, { kind: 'count' }>): ApiRequest {
  return {
    verb: 'patch',
    resource: 'events',
    method: 'PATCH',
    path: `/apis/events.k8s.io/v1/namespaces/${write.namespace}/events/${write.eventName}`,
    contentType: 'application/merge-patch+json',
    body: { series: { count: write.count, lastObservedTime: microTime() } },
  };
}
