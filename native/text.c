#include "lbd_sys.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/un.h>

void append(struct text *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const size_t room = sizeof text->data - text->length;
  const int written = vsnprintf(text->data + text->length, room, format, arguments);
  va_end(arguments);
  if (written > 0) text->length += (size_t)written < room ? (size_t)written : room - 1;
}

void append_domain(struct text *text, int domain) {
  switch (domain) {
    case AF_UNIX: append(text, "AF_UNIX"); break;
    case AF_INET: append(text, "AF_INET"); break;
    case AF_INET6: append(text, "AF_INET6"); break;
    case AF_NETLINK: append(text, "AF_NETLINK"); break;
    case AF_PACKET: append(text, "AF_PACKET"); break;
    default: append(text, "family=%d", domain);
  }
}

void append_type(struct text *text, int type) {
  switch (type) {
    case SOCK_DGRAM: append(text, "SOCK_DGRAM"); break;
    case SOCK_RAW: append(text, "SOCK_RAW"); break;
    case SOCK_STREAM: append(text, "SOCK_STREAM"); break;
    case SOCK_SEQPACKET: append(text, "SOCK_SEQPACKET"); break;
    default: append(text, "type=%d", type);
  }
}

static void append_unix_path(struct text *text, const struct sockaddr_un *address, socklen_t length) {
  const size_t offset = offsetof(struct sockaddr_un, sun_path);
  const size_t path_length = length > offset ? length - offset : 0;
  append(text, ", path=");
  for (size_t at = 0; at < path_length && at < sizeof address->sun_path; at++) {
    const char byte = address->sun_path[at];
    if (byte == '\0' && at > 0) break;
    append(text, "%c", byte == '\0' ? '@' : (unsigned char)byte < 0x20 ? '?' : byte);
  }
}

void append_address(struct text *text, const struct sockaddr_storage *storage, socklen_t length) {
  char printed[INET6_ADDRSTRLEN];
  if (storage->ss_family == AF_NETLINK && length >= sizeof(struct sockaddr_nl)) {
    const struct sockaddr_nl *address = (const struct sockaddr_nl *)storage;
    if (address->nl_pid != 0) append(text, ", pid=%u", address->nl_pid);
    append(text, ", groups=0x%x", address->nl_groups);
  } else if (storage->ss_family == AF_PACKET && length >= offsetof(struct sockaddr_ll, sll_addr)) {
    const struct sockaddr_ll *address = (const struct sockaddr_ll *)storage;
    append(text, ", ifindex=%d, protocol=0x%04x", address->sll_ifindex, ntohs(address->sll_protocol));
  } else if (storage->ss_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    const struct sockaddr_in *address = (const struct sockaddr_in *)storage;
    inet_ntop(AF_INET, &address->sin_addr, printed, sizeof printed);
    append(text, ", %s:%u", printed, ntohs(address->sin_port));
  } else if (storage->ss_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
    const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)storage;
    inet_ntop(AF_INET6, &address->sin6_addr, printed, sizeof printed);
    append(text, ", [%s]:%u", printed, ntohs(address->sin6_port));
    if (address->sin6_scope_id != 0) append(text, ", ifindex=%u", address->sin6_scope_id);
  } else if (storage->ss_family == AF_UNIX) {
    append_unix_path(text, (const struct sockaddr_un *)storage, length);
  } else {
    append(text, ", %u bytes of address", (unsigned)length);
  }
}

#define OPTION(level, name) {level, name, #level ", " #name}
static const struct {
  int level, name;
  const char *text;
} OPTION_NAMES[] = {
    OPTION(SOL_SOCKET, SO_RCVBUF),
    OPTION(SOL_SOCKET, SO_RCVBUFFORCE),
    OPTION(SOL_SOCKET, SO_SNDBUF),
    OPTION(SOL_SOCKET, SO_SNDBUFFORCE),
    OPTION(SOL_SOCKET, SO_ATTACH_FILTER),
    OPTION(SOL_SOCKET, SO_TIMESTAMPNS),
    OPTION(SOL_SOCKET, SO_BINDTODEVICE),
    OPTION(SOL_SOCKET, SO_REUSEADDR),
    OPTION(SOL_SOCKET, SO_ERROR),
    OPTION(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP),
    OPTION(SOL_NETLINK, NETLINK_EXT_ACK),
    OPTION(SOL_NETLINK, NETLINK_CAP_ACK),
    OPTION(SOL_NETLINK, NETLINK_GET_STRICT_CHK),
    OPTION(SOL_NETLINK, NETLINK_NO_ENOBUFS),
    OPTION(SOL_PACKET, PACKET_ADD_MEMBERSHIP),
    OPTION(SOL_PACKET, PACKET_IGNORE_OUTGOING),
    OPTION(SOL_PACKET, PACKET_AUXDATA),
    OPTION(IPPROTO_IP, IP_TTL),
    OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_IF),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP),
    OPTION(IPPROTO_IPV6, IPV6_JOIN_GROUP),
    OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
    OPTION(IPPROTO_ICMPV6, 1 /* ICMPV6_FILTER */),
    OPTION(IPPROTO_TCP, TCP_MD5SIG),
};

void append_option(struct text *text, int level, int name) {
  for (size_t at = 0; at < sizeof OPTION_NAMES / sizeof OPTION_NAMES[0]; at++) {
    if (OPTION_NAMES[at].level == level && OPTION_NAMES[at].name == name) {
      append(text, "%s", OPTION_NAMES[at].text);
      return;
    }
  }
  append(text, "level=%d, option=%d", level, name);
}
