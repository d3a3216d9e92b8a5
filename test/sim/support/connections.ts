import type { Message } from '../../../src/election/message.ts';
import type { WatchEnd } from '../../../src/election/watch-types.ts';
import type { SimHost } from './host.ts';
import type { Link } from './lan-plan.ts';
import type { World } from './world.ts';

/** TCP between the hosts' processes: streams that come late or not at all, and ends that tell. */

type Connection = {
  readonly from: SimHost;
  readonly to: SimHost;
  readonly link: Link;
  /** What the one that opened it does with what happens. */
  readonly onMessage: (message: Message) => void;
  readonly onClosed: (how: WatchEnd) => void;
  isOpen: boolean;
};

const CONNECT_TIMEOUT_MS = 3_000;

export class Connections {
  readonly #world: World;
  readonly #open = new Map<number, Connection>();
  #nextId = 1;

  constructor(world: World) {
    this.#world = world;
  }

  /** Connects, and then sends the first message; returns the number of the connection. */
  connect(
    from: SimHost,
    to: SimHost,
    link: Link,
    first: () => Message,
    handlers: Pick<Connection, 'onMessage' | 'onClosed'> & { readonly onOpened?: () => void },
  ): number {
    const id = this.#nextId++;
    const connection: Connection = { from, to, link, ...handlers, isOpen: true };
    this.#open.set(id, connection);
    const lan = this.#world.lanOf(link);
    const there = [from.portOn(link), to.portOn(link)] as const;
    const back = [to.portOn(link), from.portOn(link)] as const;
    const refused = (how: WatchEnd): void => from.toProcess(() => this.#end(id, how));
    lan.stream(
      ...there,
      () => {
        if (!to.isUp) return this.#world.queue.in(CONNECT_TIMEOUT_MS, () => refused('timeout'));
        if (to.process === undefined) return lan.stream(...back, () => refused('rst'));
        // The kernel accepts, whatever the process does.
        lan.stream(...back, () => {
          from.deliver(() => {
            if (!connection.isOpen) return;
            handlers.onOpened?.();
            this.send(id, first());
          });
        });
      },
      { fail: () => refused('timeout'), timeoutMs: CONNECT_TIMEOUT_MS },
    );
    return id;
  }

  /** From the one that opened it to the other. */
  send(id: number, message: Message): void {
    const connection = this.#open.get(id);
    if (connection === undefined) return;
    const { from, to, link } = connection;
    const sentAt = this.#world.now;
    this.#world.lanOf(link).stream(from.portOn(link), to.portOn(link), () => {
      if (connection.isOpen) to.take(message, from, link, id, sentAt);
    });
  }

  /** Back to the one that opened it. */
  reply(id: number, message: Message): void {
    const connection = this.#open.get(id);
    if (connection === undefined) return;
    const { from, to, link } = connection;
    const sentAt = this.#world.now;
    this.#world.lanOf(link).stream(to.portOn(link), from.portOn(link), () => {
      from.deliver(() => {
        if (!connection.isOpen) return;
        this.#world.invariants.heard(from, to, sentAt, link);
        connection.onMessage(message);
      });
    });
  }

  /** The one that opened it has no more use for it. */
  close(id: number): void {
    const connection = this.#open.get(id);
    if (connection !== undefined) connection.isOpen = false;
    this.#open.delete(id);
  }

  /** A process ended: its kernel tells the other ends, unless it is gone as well. */
  processEnded(host: SimHost, how: 'killed' | 'vanished'): void {
    for (const [id, connection] of this.#open) {
      if (connection.from === host) this.close(id);
      else if (connection.to === host && how === 'killed') {
        const { from, link } = connection;
        const lan = this.#world.lanOf(link);
        lan.stream(host.portOn(link), from.portOn(link), () => from.deliver(() => this.#end(id, 'rst')));
      }
    }
  }

  #end(id: number, how: WatchEnd): void {
    const connection = this.#open.get(id);
    if (connection === undefined) return;
    this.close(id);
    connection.onClosed(how);
  }
}
