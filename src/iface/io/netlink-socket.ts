import {
  assemble,
  DROP,
  JUMP_EQUAL,
  KEEP_ALL,
  LOAD_BYTE,
  LOAD_HALF,
  LOAD_WORD,
  RETURN,
} from '../../sys/bpf.ts';
import {
  AF_NETLINK,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NETLINK_ROUTE,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
} from '../../sys/constants.ts';
import { parseSockaddrNetlink, sockaddrNetlink } from '../../sys/sockaddr.ts';
import { type Datagram, RawSocket } from '../../sys/socket.ts';
import { isSystemError } from '../../sys/system-error.ts';
import {
  NLMSG_HDRLEN,
  RT_TABLE_LOCAL,
  RT_TABLE_MAIN,
  RTM_DELROUTE,
  RTM_NEWROUTE,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
  RTNLGRP_LINK,
} from '../netlink-constants.ts';

const NOTIFICATION_GROUPS = [
  RTNLGRP_LINK,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
];

/**
 * Lets everything pass but routes of other tables than main: each address of the host has one in the local table, and
 * a BGP daemon may keep a million in one of its own. Routes of lbd's own protocol pass in any table; of the local table,
 * those that somebody deleted himself do, as the kernel names nobody for those that go with their address.
 */
function notificationFilter(ownProtocol: number): Uint8Array {
  return assemble([
    [LOAD_HALF, 0, 0, 4], // nlmsg_type, in host order
    [JUMP_EQUAL, 5, 0, swapped(RTM_NEWROUTE)],
    [JUMP_EQUAL, 0, 8, swapped(RTM_DELROUTE)],
    [LOAD_BYTE, 0, 0, NLMSG_HDRLEN + 4],
    [JUMP_EQUAL, 0, 2, RT_TABLE_LOCAL],
    [LOAD_WORD, 0, 0, 12], // nlmsg_pid
    [JUMP_EQUAL, 5, 4, 0],
    [LOAD_BYTE, 0, 0, NLMSG_HDRLEN + 4], // rtm_table; RT_TABLE_COMPAT for those above 255
    [JUMP_EQUAL, 2, 0, RT_TABLE_MAIN],
    [LOAD_BYTE, 0, 0, NLMSG_HDRLEN + 5], // rtm_protocol
    [JUMP_EQUAL, 0, 1, ownProtocol],
    [RETURN, 0, 0, KEEP_ALL],
    [RETURN, 0, 0, DROP],
  ]);
}

/** No byte is it. */
const NO_PROTOCOL = 0x100;

/** As a load in network order sees a number in the host's (little-endian) order. */
function swapped(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8);
}

/**
 * A socket that hears every change of links, addresses, routes of the main table and routes of the protocol
 * `ownProtocol`, if there is one, from now on. Throws `SystemError`.
 */
export function openNotificationSocket(receiveBufferBytes: number, ownProtocol = NO_PROTOCOL): RawSocket {
  const mask = NOTIFICATION_GROUPS.reduce((bits, group) => bits | (1 << (group - 1)), 0);
  return open(receiveBufferBytes, mask, notificationFilter(ownProtocol));
}

/** A socket that hears every change of rules, and of routes of the protocol `ownProtocol`. Throws `SystemError`. */
export function openRuleSocket(receiveBufferBytes: number, ownProtocol: number): RawSocket {
  const groups = [RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
  const mask = groups.reduce((bits, group) => bits | (1 << (group - 1)), 0);
  const filter = assemble([
    [LOAD_HALF, 0, 0, 4],
    [JUMP_EQUAL, 1, 0, swapped(RTM_NEWROUTE)],
    [JUMP_EQUAL, 0, 2, swapped(RTM_DELROUTE)],
    [LOAD_BYTE, 0, 0, NLMSG_HDRLEN + 5],
    [JUMP_EQUAL, 0, 1, ownProtocol],
    [RETURN, 0, 0, KEEP_ALL],
    [RETURN, 0, 0, DROP],
  ]);
  return open(receiveBufferBytes, mask, filter);
}

/** A socket for requests: the kernel checks them strictly and gives its reasons in words. Throws `SystemError`. */
export function openRequestSocket(receiveBufferBytes: number): RawSocket {
  return open(receiveBufferBytes, 0);
}

function open(receiveBufferBytes: number, groups: number, filter?: Uint8Array): RawSocket {
  const socket = new RawSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  try {
    setReceiveBuffer(socket, receiveBufferBytes);
    for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK]) {
      socket.setOption(SOL_NETLINK, option, 1);
    }
    if (filter !== undefined) socket.attachFilter(filter);
    socket.bind(sockaddrNetlink(0, groups));
    return socket;
  } catch (thrown) {
    socket.close();
    throw thrown;
  }
}

/** Beyond net.core.rmem_max where CAP_NET_ADMIN allows it, up to it where not. */
function setReceiveBuffer(socket: RawSocket, bytes: number): void {
  try {
    socket.setOption(SOL_SOCKET, SO_RCVBUFFORCE, bytes);
  } catch (thrown) {
    if (!isSystemError(thrown, 'EPERM')) throw thrown;
    socket.setOption(SOL_SOCKET, SO_RCVBUF, bytes);
  }
}

/** Whether the kernel sent it; another process with the right to could have. */
export function isFromKernel(datagram: Datagram): boolean {
  return parseSockaddrNetlink(datagram.sender)?.pid === 0;
}
