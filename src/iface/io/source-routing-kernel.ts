import { errorText } from '../../lib/errors.ts';
import { formatPrefix } from '../../lib/ip.ts';
import { fail, ok, type Result } from '../../lib/result.ts';
import type { Datagram, RawSocket } from '../../sys/socket.ts';
import { decodeDatagram, type NetlinkMessage } from '../netlink-codec.ts';
import { errnoName, RT_TABLE_UNSPEC } from '../netlink-constants.ts';
import { encodeDumpRoutes } from '../netlink-requests.ts';
import { encodeDumpRules, encodeSourceRequest } from '../netlink-rule-requests.ts';
import {
  isOwnRule,
  isOwnSourceRoute,
  type SourceRequest,
  type SourceRoute,
  type SourceRoutes,
  type SourceRule,
} from '../source-routing.ts';
import { LBD_PROTOCOL } from '../types.ts';
import { readDump } from './netlink-answers.ts';
import { isFromKernel, openRuleSocket } from './netlink-socket.ts';
import { RequestSocket } from './request-socket.ts';

const FAMILIES = ['v4', 'v6'] as const;
/** Only that something changed counts: what is lost of it changes nothing. */
const NOTIFICATION_BUFFER_BYTES = 64 * 1024;

/** The rules and routes of lbd's source routing, in the kernel. Requests go one after the other. */
export class SourceRoutingKernel {
  readonly #requests = new RequestSocket();
  #notifications: RawSocket | undefined;

  /**
   * Calls `onChange` when rules, or routes of lbd's protocol, changed, whoever did it; with the netlink port of who took
   * one of ours away, if the kernel tells and it was not lbd. Throws `SystemError`.
   */
  subscribe(onChange: (askedBy?: number) => void): void {
    if (this.#notifications !== undefined) return;
    const socket = openRuleSocket(NOTIFICATION_BUFFER_BYTES, LBD_PROTOCOL);
    this.#notifications = socket;
    socket.startPolling({
      onDatagrams: (datagrams) =>
        onChange(removerOf(datagrams, (portId) => this.#requests.isOwnPort(portId))),
      onError: (error) => {
        if (error.stopped) this.#notifications = undefined;
        onChange();
      },
      onThrow: (thrown) => {
        throw thrown;
      },
    });
  }

  /** Everything of ours that is there, or why it could not be read. */
  async read(): Promise<Result<SourceRoutes, string>> {
    const rules: SourceRule[] = [];
    const routes: SourceRoute[] = [];
    const filter = { table: RT_TABLE_UNSPEC, protocol: LBD_PROTOCOL };
    for (const family of FAMILIES) {
      for (const [what, encode] of [
        ['rules', (sequence: number) => encodeDumpRules(sequence, family)],
        ['routes', (sequence: number) => encodeDumpRoutes(sequence, family, filter)],
      ] as const) {
        const messages = await this.#dump(what, encode);
        if (!messages.ok) return messages;
        for (const message of messages.value) {
          if (message.kind === 'rule' && isOwnRule(message.rule)) rules.push(message.rule);
          if (message.kind === 'route') routes.push(...message.routes.flatMap(asOwn));
        }
      }
    }
    return ok({ rules, routes });
  }

  /** Returns why it was not done. What is there or gone already counts as done. */
  async apply(request: SourceRequest): Promise<string | undefined> {
    const sequence = this.#requests.takeSequences(1);
    const bytes = encodeSourceRequest(sequence, request);
    const exchange = await this.#requests.exchange(bytes, sequence, sequence);
    if (exchange.kind !== 'answered') return `${describe(request)}: ${exchange.errno}: ${exchange.text}`;
    const answer = exchange.messages.find((message) => message.kind === 'ack');
    if (answer?.kind !== 'ack' || answer.status.errno === 0) return undefined;
    const errno = errnoName(answer.status.errno);
    const isDone = request.kind.startsWith('delete')
      ? errno === 'ENOENT' || errno === 'ESRCH'
      : errno === 'EEXIST';
    return isDone ? undefined : `${describe(request)}: ${errno}: ${answer.status.text ?? ''}`;
  }

  close(): void {
    this.#notifications?.close();
    this.#notifications = undefined;
    this.#requests.close();
  }

  async #dump(
    what: string,
    encode: (sequence: number) => Uint8Array,
  ): Promise<Result<readonly NetlinkMessage[], string>> {
    const sequence = this.#requests.takeSequences(1);
    try {
      return readDump(what, await this.#requests.exchange(encode(sequence), sequence, sequence));
    } catch (error) {
      return fail(errorText(error));
    }
  }
}

function removerOf(
  datagrams: readonly Datagram[],
  isOwnPort: (portId: number) => boolean,
): number | undefined {
  for (const datagram of datagrams) {
    if (!isFromKernel(datagram)) continue;
    for (const message of decodeDatagram(datagram.bytes).messages) {
      if ((message.kind !== 'rule' && message.kind !== 'route') || message.event !== 'del') continue;
      const isOurs =
        message.kind === 'rule' ? isOwnRule(message.rule) : message.routes.some(isOwnSourceRoute);
      if (isOurs && message.portId !== 0 && !isOwnPort(message.portId)) return message.portId;
    }
  }
  return undefined;
}

function asOwn(route: Parameters<typeof isOwnSourceRoute>[0]): readonly SourceRoute[] {
  const { table, ifIndex, gateway } = route;
  if (!isOwnSourceRoute(route) || ifIndex === undefined || gateway === undefined) return [];
  return [{ table, ifIndex, gateway }];
}

/** For a person, in the words of `ip`. */
export function describe(request: SourceRequest): string {
  const verb = request.kind.split('-')[0];
  if ('route' in request)
    return `${verb} the default route via ${request.route.gateway} in table ${request.route.table}`;
  const { from, table, suppressPrefixLength } = request.rule;
  const suppressed =
    suppressPrefixLength === undefined ? '' : ` suppress_prefixlength ${suppressPrefixLength}`;
  return `${verb} the rule from ${formatPrefix(from)} lookup ${table}${suppressed}`;
}
