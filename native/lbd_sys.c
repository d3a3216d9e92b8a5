/*
 * lbd_sys: the Linux sockets that Node does not offer (netlink, packet, raw ICMPv6, unix datagrams), as plain
 * system calls over uv_poll. It knows no message format and takes no decision: bytes go in and out, and src/sys
 * gives them types. Node-API only, so one build serves every Node.
 *
 * Rules that hold everywhere here:
 *  - every call is synchronous and every descriptor non-blocking and close-on-exec;
 *  - every argument is type-checked (TypeError) before any system call, every napi_status is looked at;
 *  - EINTR is retried, EAGAIN is a result, any other errno is a thrown Error
 *    { code: 'EPERM', errno: -1, syscall: 'bind', args: 'AF_NETLINK, groups=0x11' };
 *  - JavaScript may do anything inside a callback, also close the socket: after each call into it, `closing` is
 *    checked before the socket is touched again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <node_api.h>
#include <uv.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Datagrams handed over per wake: more than this and other work of the loop would wait for it. */
#define BATCH_DATAGRAMS 64
/* Bytes of one batch, and so the largest datagram that can be received. */
#define ARENA_BYTES (256 * 1024)
/* Wakes in one second that brought nothing, after which the descriptor is taken for broken: else it would spin. */
#define IDLE_WAKES_LIMIT 1000
#define IDLE_WINDOW_MS 1000
#define CONTROL_BYTES 512
#define OPTION_BYTES_LIMIT 65536
#define SEND_MANY_LIMIT 65536
#define SEND_MANY_BYTES_LIMIT (64 * 1024 * 1024)
#define SEND_MANY_CHUNK 128
#define MAX_ARGUMENTS 5

/* First argument of the event callback; src/sys/native.ts has the same numbers. */
enum event_kind { EVENT_DATAGRAMS = 0, EVENT_ERROR = 1, EVENT_WRITABLE = 2 };

/* One datagram of a batch as src/sys/native.ts reads it: doubles, in this order, at the start of the ArrayBuffer. */
struct row {
  double offset;        /* of the bytes, from the start of the ArrayBuffer */
  double length;        /* bytes delivered */
  double full_length;   /* bytes the datagram had; more than `length` when truncated */
  double sender_offset; /* of the sender's sockaddr */
  double sender_length;
  double flags;        /* msg_flags: MSG_TRUNC, MSG_CTRUNC, ... */
  double timestamp_ms; /* SO_TIMESTAMPNS, CLOCK_REALTIME; NaN without */
  double hop_limit;    /* IPV6_HOPLIMIT or IP_TTL; NaN without */
};

/* What one Node environment (main thread or worker) owns. Counted: the environment and each socket hold it. */
struct instance {
  napi_env env;
  uv_loop_t *loop;
  struct lbd_socket *sockets;
  napi_async_cleanup_hook_handle cleanup_hook;
  uint32_t references;
  uint32_t closing_pollers;
  bool tearing_down;
  _Alignas(8) unsigned char arena[ARENA_BYTES];
};

struct lbd_socket {
  struct instance *instance;
  struct lbd_socket *previous, *next;
  struct poller *poller; /* NULL unless polling */
  int fd;                /* -1 when closed */
  int domain, type;
};

/* A poll handle outlives stopPolling until libuv has let go of it (on_poller_closed). */
struct poller {
  uv_poll_t poll;
  struct instance *instance;
  struct lbd_socket *socket;
  napi_ref handle; /* strong: a socket that is polled is not collected */
  napi_ref on_event, on_throw;
  size_t max_datagram_bytes; /* 0: does not read */
  int active_events;
  bool wants_writable;
  bool closing;
  uint64_t idle_since_ms;
  uint32_t idle_wakes;
};

static const napi_type_tag SOCKET_TAG = {0x6c62642d736f636bULL, 0x9d1f3c5a7e2b4860ULL};

/* ------------------------------------------------------------------------------------------------- texts */

struct text {
  char data[320];
  size_t length;
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const size_t room = sizeof text->data - text->length;
  const int written = vsnprintf(text->data + text->length, room, format, arguments);
  va_end(arguments);
  if (written > 0) text->length += (size_t)written < room ? (size_t)written : room - 1;
}

static void append_domain(struct text *text, int domain) {
  switch (domain) {
    case AF_UNIX: append(text, "AF_UNIX"); break;
    case AF_INET: append(text, "AF_INET"); break;
    case AF_INET6: append(text, "AF_INET6"); break;
    case AF_NETLINK: append(text, "AF_NETLINK"); break;
    case AF_PACKET: append(text, "AF_PACKET"); break;
    default: append(text, "family=%d", domain);
  }
}

static void append_type(struct text *text, int type) {
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

/* ", groups=0x11": what of a socket address tells one attempt from another. */
static void append_address(struct text *text, const struct sockaddr_storage *storage, socklen_t length) {
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

static void append_option(struct text *text, int level, int name) {
  for (size_t at = 0; at < sizeof OPTION_NAMES / sizeof OPTION_NAMES[0]; at++) {
    if (OPTION_NAMES[at].level == level && OPTION_NAMES[at].name == name) {
      append(text, "%s", OPTION_NAMES[at].text);
      return;
    }
  }
  append(text, "level=%d, option=%d", level, name);
}

/* ------------------------------------------------------------------------------------------------ errors */

/* For failures of Node-API itself, which happen when the environment ends: leaves an exception pending. */
static bool napi_succeeded(napi_env env, napi_status status) {
  if (status == napi_ok) return true;
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) {
    napi_throw_error(env, "ERR_LBD_NAPI", "Node-API call failed");
  }
  return false;
}

static napi_value throw_type(napi_env env, const char *text) {
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", text);
  return NULL;
}

static bool set_text(napi_env env, napi_value object, const char *name, const char *text) {
  napi_value value;
  return napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}

/* The Error for a failed system call; NULL when the environment cannot make one any more. */
static napi_value system_error(napi_env env, const char *syscall, const char *arguments, int number, const char *detail) {
  const char *name = strerrorname_np(number);
  const char *description = detail != NULL ? detail : strerrordesc_np(number);
  struct text code = {.length = 0}, text = {.length = 0};
  if (name != NULL) {
    append(&code, "%s", name);
  } else {
    append(&code, "errno %d", number);
  }
  append(&text, "%s(%s): %s: %s", syscall, arguments, code.data, description != NULL ? description : "unknown error");
  napi_value message, error, value;
  if (napi_create_string_utf8(env, text.data, text.length, &message) != napi_ok ||
      napi_create_error(env, NULL, message, &error) != napi_ok ||
      napi_create_int32(env, -number, &value) != napi_ok ||
      napi_set_named_property(env, error, "errno", value) != napi_ok || !set_text(env, error, "code", code.data) ||
      !set_text(env, error, "syscall", syscall) || !set_text(env, error, "args", arguments)) {
    return NULL;
  }
  return error;
}

static napi_value throw_system(napi_env env, const char *syscall, const struct text *arguments, int number) {
  const napi_value error = system_error(env, syscall, arguments->data, number, NULL);
  if (error != NULL) napi_throw(env, error);
  return NULL;
}

/* --------------------------------------------------------------------------------------------- arguments */

struct call {
  napi_env env;
  struct instance *instance;
  napi_value arguments[MAX_ARGUMENTS];
};

static bool read_call(napi_env env, napi_callback_info info, struct call *call) {
  size_t count = MAX_ARGUMENTS;
  call->env = env;
  return napi_succeeded(env, napi_get_cb_info(env, info, &count, call->arguments, NULL, (void **)&call->instance));
}

static bool read_integer(const struct call *call, size_t index, const char *name, double least, double most,
                         double *value) {
  napi_valuetype type;
  if (!napi_succeeded(call->env, napi_typeof(call->env, call->arguments[index], &type))) return false;
  if (type == napi_number && napi_get_value_double(call->env, call->arguments[index], value) == napi_ok &&
      *value >= least && *value <= most && *value == floor(*value)) {
    return true;
  }
  struct text text = {.length = 0};
  append(&text, "%s: expected an integer in %.0f..%.0f", name, least, most);
  throw_type(call->env, text.data);
  return false;
}

static bool read_int(const struct call *call, size_t index, const char *name, int *value) {
  double number = 0;
  if (!read_integer(call, index, name, INT32_MIN, INT32_MAX, &number)) return false;
  *value = (int)number;
  return true;
}

static bool is_nullish(const struct call *call, size_t index) {
  napi_valuetype type;
  return napi_typeof(call->env, call->arguments[index], &type) == napi_ok && (type == napi_undefined || type == napi_null);
}

/* The bytes of a Uint8Array in place: valid until JavaScript runs again. */
static bool read_bytes_of(napi_env env, napi_value value, const char *name, uint8_t **bytes, size_t *length) {
  bool is_typed_array = false;
  if (!napi_succeeded(env, napi_is_typedarray(env, value, &is_typed_array))) return false;
  napi_typedarray_type type = napi_int8_array;
  void *data = NULL;
  if (is_typed_array &&
      !napi_succeeded(env, napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL))) {
    return false;
  }
  if (!is_typed_array || type != napi_uint8_array) {
    struct text text = {.length = 0};
    append(&text, "%s: expected a Uint8Array", name);
    throw_type(env, text.data);
    return false;
  }
  *bytes = data;
  if (data == NULL) *length = 0;
  return true;
}

static bool read_bytes(const struct call *call, size_t index, const char *name, uint8_t **bytes, size_t *length) {
  return read_bytes_of(call->env, call->arguments[index], name, bytes, length);
}

static bool read_address_of(napi_env env, napi_value value, struct sockaddr_storage *address, socklen_t *length) {
  uint8_t *bytes = NULL;
  size_t count = 0;
  if (!read_bytes_of(env, value, "address", &bytes, &count)) return false;
  if (count < sizeof(sa_family_t) || count > sizeof *address) {
    throw_type(env, "address: expected a sockaddr of 2..128 bytes");
    return false;
  }
  memset(address, 0, sizeof *address);
  memcpy(address, bytes, count);
  *length = (socklen_t)count;
  return true;
}

/* The socket behind a handle, closed or not; NULL with a TypeError pending when it is no handle of ours. */
static struct lbd_socket *read_handle(const struct call *call, size_t index) {
  napi_valuetype type;
  bool tagged = false;
  void *socket = NULL;
  if (!napi_succeeded(call->env, napi_typeof(call->env, call->arguments[index], &type))) return NULL;
  if (type == napi_object &&
      !napi_succeeded(call->env, napi_check_object_type_tag(call->env, call->arguments[index], &SOCKET_TAG, &tagged))) {
    return NULL;
  }
  if (!tagged) {
    throw_type(call->env, "handle: expected a socket from openSocket()");
    return NULL;
  }
  if (!napi_succeeded(call->env, napi_unwrap(call->env, call->arguments[index], &socket))) return NULL;
  return socket;
}

/* As read_handle, and a closed socket is EBADF. */
static struct lbd_socket *read_open_handle(const struct call *call, size_t index, const char *syscall) {
  struct lbd_socket *socket = read_handle(call, index);
  if (socket == NULL || socket->fd >= 0) return socket;
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", closed socket");
  throw_system(call->env, syscall, &arguments, EBADF);
  return NULL;
}

static napi_value number_value(napi_env env, double number) {
  napi_value value = NULL;
  return napi_succeeded(env, napi_create_double(env, number, &value)) ? value : NULL;
}

static napi_value bytes_value(napi_env env, const void *bytes, size_t length) {
  void *data = NULL;
  napi_value buffer, array = NULL;
  if (!napi_succeeded(env, napi_create_arraybuffer(env, length, &data, &buffer))) return NULL;
  if (length > 0) memcpy(data, bytes, length);
  if (!napi_succeeded(env, napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &array))) return NULL;
  return array;
}

/* ---------------------------------------------------------------------------------- lifetime of a socket */

static void release_instance(struct instance *instance) {
  if (--instance->references == 0) free(instance);
}

/* The cleanup hook holds the environment open until libuv has let go of the last poll handle. */
static void finish_teardown_when_idle(struct instance *instance) {
  if (!instance->tearing_down || instance->closing_pollers > 0 || instance->cleanup_hook == NULL) return;
  const napi_async_cleanup_hook_handle hook = instance->cleanup_hook;
  instance->cleanup_hook = NULL;
  napi_remove_async_cleanup_hook(hook);
}

static void on_poller_closed(uv_handle_t *handle) {
  struct poller *poller = handle->data;
  struct instance *instance = poller->instance;
  free(poller);
  instance->closing_pollers--;
  finish_teardown_when_idle(instance);
  release_instance(instance);
}

/* polling → not polling; the poller itself lives until on_poller_closed. */
static void stop_poller(struct lbd_socket *socket) {
  struct poller *poller = socket->poller;
  if (poller == NULL) return;
  const napi_env env = socket->instance->env;
  socket->poller = NULL;
  poller->socket = NULL;
  poller->closing = true;
  napi_delete_reference(env, poller->handle);
  napi_delete_reference(env, poller->on_event);
  napi_delete_reference(env, poller->on_throw);
  uv_poll_stop(&poller->poll);
  socket->instance->closing_pollers++;
  uv_close((uv_handle_t *)&poller->poll, on_poller_closed);
}

/* Gives the descriptor up without closing it; -1 when there is none. */
static int detach_descriptor(struct lbd_socket *socket) {
  const int fd = socket->fd;
  if (fd < 0) return -1;
  stop_poller(socket);
  socket->fd = -1;
  if (socket->previous != NULL) socket->previous->next = socket->next;
  if (socket->next != NULL) socket->next->previous = socket->previous;
  if (socket->instance->sockets == socket) socket->instance->sockets = socket->next;
  socket->previous = socket->next = NULL;
  return fd;
}

static void close_socket(struct lbd_socket *socket) {
  const int fd = detach_descriptor(socket);
  /* Not retried on EINTR: Linux has released the descriptor even then. */
  if (fd >= 0) close(fd);
}

static void finalize_socket(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct lbd_socket *socket = data;
  close_socket(socket);
  release_instance(socket->instance);
  free(socket);
}

static void on_environment_ending(napi_async_cleanup_hook_handle handle, void *data) {
  (void)handle;
  struct instance *instance = data;
  instance->tearing_down = true;
  while (instance->sockets != NULL) close_socket(instance->sockets);
  finish_teardown_when_idle(instance);
}

static void finalize_instance(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  release_instance(data);
}

/* ------------------------------------------------------------------------------------------------ opening */

/* openSocket(domain, type, protocol): handle */
static napi_value open_socket(napi_env env, napi_callback_info info) {
  struct call call;
  int domain, type, protocol;
  if (!read_call(env, info, &call) || !read_int(&call, 0, "domain", &domain) || !read_int(&call, 1, "type", &type) ||
      !read_int(&call, 2, "protocol", &protocol)) {
    return NULL;
  }
  if (call.instance->tearing_down) return throw_type(env, "openSocket: the environment is ending");
  const int fd = socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) {
    const int number = errno;
    struct text arguments = {.length = 0};
    append_domain(&arguments, domain);
    append(&arguments, ", ");
    append_type(&arguments, type);
    append(&arguments, ", protocol=0x%x", (unsigned)protocol);
    return throw_system(env, "socket", &arguments, number);
  }
  struct lbd_socket *opened = calloc(1, sizeof *opened);
  napi_value handle = NULL;
  if (opened == NULL || !napi_succeeded(env, napi_create_object(env, &handle)) ||
      !napi_succeeded(env, napi_type_tag_object(env, handle, &SOCKET_TAG)) ||
      !napi_succeeded(env, napi_wrap(env, handle, opened, finalize_socket, NULL, NULL))) {
    free(opened);
    close(fd);
    return NULL;
  }
  opened->instance = call.instance;
  opened->instance->references++;
  opened->fd = fd;
  opened->domain = domain;
  opened->type = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
  opened->next = call.instance->sockets;
  if (opened->next != NULL) opened->next->previous = opened;
  call.instance->sockets = opened;
  return handle;
}

/* close(handle): also while polling, inside a callback, and twice */
static napi_value close_handle(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_handle(&call, 0);
  if (socket != NULL) close_socket(socket);
  return NULL;
}

/* release(handle): fd. The caller owns the descriptor from here on; the handle is closed. */
static napi_value release(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "release");
  return socket == NULL ? NULL : number_value(env, detach_descriptor(socket));
}

/* bind(handle, address) */
static napi_value bind_handle(napi_env env, napi_callback_info info) {
  struct call call;
  struct sockaddr_storage address;
  socklen_t length;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "bind");
  if (socket == NULL || !read_address_of(env, call.arguments[1], &address, &length)) return NULL;
  if (bind(socket->fd, (const struct sockaddr *)&address, length) == 0) return NULL;
  const int number = errno;
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append_address(&arguments, &address, length);
  return throw_system(env, "bind", &arguments, number);
}

/* connect(handle, address): 0 when connected, -EINPROGRESS when it takes time (then wait for writable, read SO_ERROR) */
static napi_value connect_handle(napi_env env, napi_callback_info info) {
  struct call call;
  struct sockaddr_storage address;
  socklen_t length;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "connect");
  if (socket == NULL || !read_address_of(env, call.arguments[1], &address, &length)) return NULL;
  int result;
  do result = connect(socket->fd, (const struct sockaddr *)&address, length);
  while (result < 0 && errno == EINTR);
  if (result == 0) return number_value(env, 0);
  const int number = errno;
  if (number == EINPROGRESS || number == EALREADY) return number_value(env, -EINPROGRESS);
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append_address(&arguments, &address, length);
  return throw_system(env, "connect", &arguments, number);
}

/* getsockname(handle): sockaddr bytes */
static napi_value getsockname_handle(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "getsockname");
  if (socket == NULL) return NULL;
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  if (getsockname(socket->fd, (struct sockaddr *)&address, &length) < 0) {
    const int number = errno;
    struct text arguments = {.length = 0};
    append_domain(&arguments, socket->domain);
    return throw_system(env, "getsockname", &arguments, number);
  }
  return bytes_value(env, &address, length < sizeof address ? length : sizeof address);
}

/* ----------------------------------------------------------------------------------------------- options */

/* The descriptor an option call is for: a handle's, or (by_number) one of Node's own given as a number. */
static bool read_option_target(const struct call *call, bool by_number, const char *syscall, struct text *arguments,
                               int *fd) {
  if (by_number) {
    double number = 0;
    if (!read_integer(call, 0, "fd", 0, INT32_MAX, &number)) return false;
    *fd = (int)number;
    append(arguments, "fd=%d, ", *fd);
    return true;
  }
  struct lbd_socket *socket = read_open_handle(call, 0, syscall);
  if (socket == NULL) return false;
  *fd = socket->fd;
  append_domain(arguments, socket->domain);
  append(arguments, ", ");
  return true;
}

static napi_value set_option(napi_env env, napi_callback_info info, bool by_number) {
  struct call call;
  struct text arguments = {.length = 0};
  int fd, level, name;
  uint8_t *bytes = NULL;
  size_t length = 0;
  if (!read_call(env, info, &call) || !read_option_target(&call, by_number, "setsockopt", &arguments, &fd) ||
      !read_int(&call, 1, "level", &level) || !read_int(&call, 2, "option", &name) ||
      !read_bytes(&call, 3, "value", &bytes, &length)) {
    return NULL;
  }
  if (length > OPTION_BYTES_LIMIT) return throw_type(env, "value: expected at most 65536 bytes");
  if (setsockopt(fd, level, name, length == 0 ? (const void *)"" : bytes, (socklen_t)length) == 0) return NULL;
  const int number = errno;
  append_option(&arguments, level, name);
  append(&arguments, ", %zu bytes", length);
  return throw_system(env, "setsockopt", &arguments, number);
}

static napi_value get_option(napi_env env, napi_callback_info info, bool by_number) {
  struct call call;
  struct text arguments = {.length = 0};
  int fd, level, name;
  double limit = 0;
  if (!read_call(env, info, &call) || !read_option_target(&call, by_number, "getsockopt", &arguments, &fd) ||
      !read_int(&call, 1, "level", &level) || !read_int(&call, 2, "option", &name) ||
      !read_integer(&call, 3, "length", 1, OPTION_BYTES_LIMIT, &limit)) {
    return NULL;
  }
  /* For SO_GET_FILTER the kernel counts the buffer in instructions of 8 bytes, not in bytes: it would overrun it. */
  if (level == SOL_SOCKET && name == SO_GET_FILTER) return throw_type(env, "option: SO_GET_FILTER is not supported");
  uint8_t *bytes = calloc(1, (size_t)limit);
  socklen_t length = (socklen_t)limit;
  if (bytes == NULL) return throw_system(env, "getsockopt", &arguments, ENOMEM);
  napi_value result = NULL;
  if (getsockopt(fd, level, name, bytes, &length) == 0) {
    result = bytes_value(env, bytes, length < (socklen_t)limit ? length : (socklen_t)limit);
  } else {
    const int number = errno;
    append_option(&arguments, level, name);
    throw_system(env, "getsockopt", &arguments, number);
  }
  free(bytes);
  return result;
}

/* setsockopt(handle, level, option, value) */
static napi_value setsockopt_handle(napi_env env, napi_callback_info info) { return set_option(env, info, false); }
/* getsockopt(handle, level, option, length): bytes */
static napi_value getsockopt_handle(napi_env env, napi_callback_info info) { return get_option(env, info, false); }
/* setSocketOptionOnFd(fd, level, option, value) */
static napi_value setsockopt_fd(napi_env env, napi_callback_info info) { return set_option(env, info, true); }
/* getSocketOptionOnFd(fd, level, option, length): bytes */
static napi_value getsockopt_fd(napi_env env, napi_callback_info info) { return get_option(env, info, true); }

/* attachFilter(handle, program): a classic BPF program, 8 bytes an instruction (struct sock_filter, host order) */
static napi_value attach_filter(napi_env env, napi_callback_info info) {
  struct call call;
  uint8_t *bytes = NULL;
  size_t length = 0;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "setsockopt");
  if (socket == NULL || !read_bytes(&call, 1, "program", &bytes, &length)) return NULL;
  if (length == 0 || length % sizeof(struct sock_filter) != 0 || length / sizeof(struct sock_filter) > BPF_MAXINSNS) {
    return throw_type(env, "program: expected 1..4096 instructions of 8 bytes");
  }
  const struct sock_fprog program = {
      .len = (unsigned short)(length / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)(void *)bytes,
  };
  if (setsockopt(socket->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0) return NULL;
  const int number = errno;
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", SOL_SOCKET, SO_ATTACH_FILTER, %u instructions", program.len);
  return throw_system(env, "setsockopt", &arguments, number);
}

/* ----------------------------------------------------------------------------------------------- sending */

static double clock_ms(clockid_t clock) {
  struct timespec now = {0};
  clock_gettime(clock, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/*
 * Sends one datagram: bytes sent, -EAGAIN, or -ETIME when the deadline (CLOCK_BOOTTIME ms) is reached. The clock is
 * read right before each attempt, also before one repeated after a signal: nothing leaves late.
 */
static napi_value send_datagram(const struct call *call, int flags, double deadline_ms) {
  struct lbd_socket *socket = read_open_handle(call, 0, "sendmsg");
  uint8_t *bytes = NULL;
  size_t length = 0;
  struct sockaddr_storage address;
  socklen_t address_length = 0;
  if (socket == NULL || !read_bytes(call, 1, "bytes", &bytes, &length)) return NULL;
  if (!is_nullish(call, 2) && !read_address_of(call->env, call->arguments[2], &address, &address_length)) return NULL;
  struct iovec vector = {.iov_base = bytes, .iov_len = length};
  const struct msghdr message = {
      .msg_name = address_length > 0 ? &address : NULL,
      .msg_namelen = address_length,
      .msg_iov = &vector,
      .msg_iovlen = 1,
  };
  ssize_t sent;
  do {
    if (deadline_ms != INFINITY && clock_ms(CLOCK_BOOTTIME) >= deadline_ms) return number_value(call->env, -ETIME);
    sent = sendmsg(socket->fd, &message, flags | MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return number_value(call->env, (double)sent);
  const int number = errno;
  if (number == EAGAIN) return number_value(call->env, -EAGAIN);
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", %zu bytes", length);
  if (address_length > 0) append_address(&arguments, &address, address_length);
  return throw_system(call->env, "sendmsg", &arguments, number);
}

/* send(handle, bytes, address | undefined, flags): bytes sent or -EAGAIN */
static napi_value send_handle(napi_env env, napi_callback_info info) {
  struct call call;
  int flags = 0;
  if (!read_call(env, info, &call) || !read_int(&call, 3, "flags", &flags)) return NULL;
  return send_datagram(&call, flags, INFINITY);
}

/* sendBefore(handle, bytes, address | undefined, deadlineMs): bytes sent, -EAGAIN or -ETIME */
static napi_value send_before(napi_env env, napi_callback_info info) {
  struct call call;
  napi_valuetype type;
  double deadline_ms = NAN;
  if (!read_call(env, info, &call) || !napi_succeeded(env, napi_typeof(env, call.arguments[3], &type))) return NULL;
  if (type == napi_number) napi_get_value_double(env, call.arguments[3], &deadline_ms);
  if (isnan(deadline_ms)) return throw_type(env, "deadlineMs: expected a number of milliseconds of CLOCK_BOOTTIME");
  return send_datagram(&call, 0, deadline_ms);
}

/* Datagrams of sendMany, copied: reading the next one may run JavaScript that frees the bytes of the last. */
struct outgoing {
  uint32_t count;
  size_t used, capacity;
  uint8_t *bytes;
  struct {
    size_t offset, length;
    struct sockaddr_storage address;
    socklen_t address_length;
  } *items;
};

static bool append_outgoing(struct outgoing *outgoing, napi_env env, napi_value element) {
  napi_value value;
  napi_valuetype type;
  uint8_t *bytes = NULL;
  size_t length = 0;
  const uint32_t at = outgoing->count;
  if (!napi_succeeded(env, napi_typeof(env, element, &type))) return false;
  if (type != napi_object) {
    throw_type(env, "datagrams: expected objects { bytes, address }");
    return false;
  }
  if (!napi_succeeded(env, napi_get_named_property(env, element, "address", &value)) ||
      !napi_succeeded(env, napi_typeof(env, value, &type))) {
    return false;
  }
  outgoing->items[at].address_length = 0;
  if (type != napi_undefined && type != napi_null &&
      !read_address_of(env, value, &outgoing->items[at].address, &outgoing->items[at].address_length)) {
    return false;
  }
  if (!napi_succeeded(env, napi_get_named_property(env, element, "bytes", &value)) ||
      !read_bytes_of(env, value, "bytes", &bytes, &length)) {
    return false;
  }
  if (length > SEND_MANY_BYTES_LIMIT || outgoing->used + length > SEND_MANY_BYTES_LIMIT) {
    throw_type(env, "datagrams: expected at most 64 MiB together");
    return false;
  }
  if (outgoing->used + length > outgoing->capacity) {
    const size_t capacity = (outgoing->used + length) * 2 + 4096;
    uint8_t *grown = realloc(outgoing->bytes, capacity);
    if (grown == NULL) {
      throw_type(env, "datagrams: out of memory");
      return false;
    }
    outgoing->bytes = grown;
    outgoing->capacity = capacity;
  }
  if (length > 0) memcpy(outgoing->bytes + outgoing->used, bytes, length);
  outgoing->items[at].offset = outgoing->used;
  outgoing->items[at].length = length;
  outgoing->used += length;
  outgoing->count++;
  return true;
}

/* How many were sent; `number` is the errno that the first one not sent met. */
static uint32_t send_outgoing(int fd, const struct outgoing *outgoing, int *number) {
  uint32_t sent = 0;
  *number = 0;
  while (sent < outgoing->count) {
    struct mmsghdr messages[SEND_MANY_CHUNK];
    struct iovec vectors[SEND_MANY_CHUNK];
    uint32_t chunk = outgoing->count - sent;
    if (chunk > SEND_MANY_CHUNK) chunk = SEND_MANY_CHUNK;
    memset(messages, 0, sizeof messages[0] * chunk);
    for (uint32_t at = 0; at < chunk; at++) {
      const uint32_t item = sent + at;
      vectors[at].iov_base = outgoing->used == 0 ? NULL : outgoing->bytes + outgoing->items[item].offset;
      vectors[at].iov_len = outgoing->items[item].length;
      messages[at].msg_hdr.msg_iov = &vectors[at];
      messages[at].msg_hdr.msg_iovlen = 1;
      if (outgoing->items[item].address_length > 0) {
        messages[at].msg_hdr.msg_name = &outgoing->items[item].address;
        messages[at].msg_hdr.msg_namelen = outgoing->items[item].address_length;
      }
    }
    /* A count short of `chunk` says no reason: the next call, starting at the refused one, does. */
    const int result = sendmmsg(fd, messages, chunk, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (result >= 0) {
      sent += (uint32_t)result;
    } else if (errno != EINTR) {
      *number = errno;
      break;
    }
  }
  return sent;
}

/* sendMany(handle, [{ bytes, address }]): { sent, errno }; errno is 0, or negative for the first one not sent */
static napi_value send_many(napi_env env, napi_callback_info info) {
  struct call call;
  bool is_array = false;
  uint32_t length = 0;
  if (!read_call(env, info, &call)) return NULL;
  if (read_open_handle(&call, 0, "sendmmsg") == NULL) return NULL;
  if (!napi_succeeded(env, napi_is_array(env, call.arguments[1], &is_array))) return NULL;
  if (!is_array) return throw_type(env, "datagrams: expected an array");
  if (!napi_succeeded(env, napi_get_array_length(env, call.arguments[1], &length))) return NULL;
  if (length > SEND_MANY_LIMIT) return throw_type(env, "datagrams: expected at most 65536");
  struct outgoing outgoing = {.items = length == 0 ? NULL : calloc(length, sizeof *outgoing.items)};
  napi_value result = NULL, sent_value, errno_value;
  int number = 0;
  if (length > 0 && outgoing.items == NULL) {
    throw_type(env, "datagrams: out of memory");
    goto done;
  }
  for (uint32_t at = 0; at < length; at++) {
    napi_value element;
    napi_handle_scope scope;
    if (!napi_succeeded(env, napi_open_handle_scope(env, &scope))) goto done;
    const bool appended = napi_succeeded(env, napi_get_element(env, call.arguments[1], at, &element)) &&
                          append_outgoing(&outgoing, env, element);
    napi_close_handle_scope(env, scope);
    if (!appended) goto done;
  }
  /* Read again: a getter among the datagrams may have closed the socket. */
  struct lbd_socket *socket = read_open_handle(&call, 0, "sendmmsg");
  if (socket == NULL) goto done;
  const uint32_t sent = send_outgoing(socket->fd, &outgoing, &number);
  if (napi_succeeded(env, napi_create_object(env, &result)) &&
      napi_succeeded(env, napi_create_uint32(env, sent, &sent_value)) &&
      napi_succeeded(env, napi_create_int32(env, -number, &errno_value)) &&
      napi_succeeded(env, napi_set_named_property(env, result, "sent", sent_value))) {
    napi_succeeded(env, napi_set_named_property(env, result, "errno", errno_value));
  }
done:
  free(outgoing.items);
  free(outgoing.bytes);
  return result;
}

/* --------------------------------------------------------------------------------------------- receiving */

/* The exception that the last call into JavaScript left behind; false when there is none (a worker being ended). */
static bool take_exception(napi_env env, napi_value *exception) {
  bool pending = false;
  return napi_is_exception_pending(env, &pending) == napi_ok && pending &&
         napi_get_and_clear_last_exception(env, exception) == napi_ok;
}

/*
 * Calls on_event. What it throws goes to on_throw; what that throws becomes an uncaughtException of the process.
 * Polling goes on in each case, unless JavaScript stopped it.
 */
static void emit(const struct poller *poller, size_t count, const napi_value *arguments) {
  const napi_env env = poller->instance->env;
  napi_value handle, on_event, on_throw, exception;
  if (napi_get_reference_value(env, poller->handle, &handle) != napi_ok ||
      napi_get_reference_value(env, poller->on_event, &on_event) != napi_ok ||
      napi_get_reference_value(env, poller->on_throw, &on_throw) != napi_ok || handle == NULL || on_event == NULL ||
      on_throw == NULL) {
    return;
  }
  if (napi_make_callback(env, NULL, handle, on_event, count, arguments, NULL) == napi_ok) return;
  if (!take_exception(env, &exception)) return;
  if (napi_make_callback(env, NULL, handle, on_throw, 1, &exception, NULL) == napi_ok) return;
  if (take_exception(env, &exception)) napi_fatal_exception(env, exception);
}

static void emit_error(const struct poller *poller, const char *syscall, int number, const char *detail, bool stopped) {
  const napi_env env = poller->instance->env;
  struct text arguments = {.length = 0};
  append_domain(&arguments, poller->socket->domain);
  napi_value values[2], flag;
  if (napi_create_int32(env, EVENT_ERROR, &values[0]) != napi_ok) return;
  values[1] = system_error(env, syscall, arguments.data, number, detail);
  if (values[1] == NULL) return;
  if (napi_get_boolean(env, stopped, &flag) != napi_ok ||
      napi_set_named_property(env, values[1], "stopped", flag) != napi_ok) {
    return;
  }
  emit(poller, 2, values);
}

/* One ArrayBuffer: the rows, then what they point into. */
static void emit_datagrams(const struct poller *poller, struct row *rows, uint32_t count, size_t used) {
  const napi_env env = poller->instance->env;
  const size_t table_bytes = sizeof *rows * count;
  void *data = NULL;
  napi_value values[3];
  if (napi_create_int32(env, EVENT_DATAGRAMS, &values[0]) != napi_ok ||
      napi_create_arraybuffer(env, table_bytes + used, &data, &values[1]) != napi_ok ||
      napi_create_uint32(env, count, &values[2]) != napi_ok) {
    return;
  }
  for (uint32_t at = 0; at < count; at++) {
    rows[at].offset += (double)table_bytes;
    rows[at].sender_offset += (double)table_bytes;
  }
  memcpy(data, rows, table_bytes);
  memcpy((unsigned char *)data + table_bytes, poller->instance->arena, used);
  emit(poller, 3, values);
}

static void close_passed_descriptors(const struct cmsghdr *control) {
  const size_t bytes = control->cmsg_len - CMSG_LEN(0);
  for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
    int fd;
    memcpy(&fd, CMSG_DATA(control) + at, sizeof fd);
    close(fd);
  }
}

static void read_control(struct msghdr *message, struct row *row) {
  for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
    const int level = control->cmsg_level, type = control->cmsg_type;
    if (level == SOL_SOCKET && type == SCM_TIMESTAMPNS && control->cmsg_len >= CMSG_LEN(sizeof(struct timespec))) {
      struct timespec at;
      memcpy(&at, CMSG_DATA(control), sizeof at);
      row->timestamp_ms = (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
    } else if (((level == IPPROTO_IPV6 && type == IPV6_HOPLIMIT) || (level == IPPROTO_IP && type == IP_TTL)) &&
               control->cmsg_len >= CMSG_LEN(sizeof(int))) {
      int hops;
      memcpy(&hops, CMSG_DATA(control), sizeof hops);
      row->hop_limit = hops;
    } else if (level == SOL_SOCKET && type == SCM_RIGHTS) {
      close_passed_descriptors(control);
    }
  }
}

static size_t align8(size_t value) { return (value + 7) & ~(size_t)7; }

/* Receives one datagram into the arena at *used. 0, or the errno (EAGAIN when there is none). */
static int receive_datagram(const struct poller *poller, struct row *row, size_t *used) {
  unsigned char *bytes = poller->instance->arena + *used;
  _Alignas(struct cmsghdr) char control[CONTROL_BYTES];
  struct sockaddr_storage sender;
  struct iovec vector = {.iov_base = bytes, .iov_len = poller->max_datagram_bytes};
  struct msghdr message;
  /* Only AF_UNIX passes descriptors; AF_PACKET refuses flags that it does not know (packet_recvmsg, af_packet.c). */
  const int cloexec = poller->socket->domain == AF_UNIX ? MSG_CMSG_CLOEXEC : 0;
  ssize_t received;
  do {
    message = (struct msghdr){
        .msg_name = &sender,
        .msg_namelen = sizeof sender,
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    /* MSG_TRUNC as a flag: the result is the datagram's own length, also when it does not fit. */
    received = recvmsg(poller->socket->fd, &message, MSG_DONTWAIT | MSG_TRUNC | cloexec);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return errno;
  const size_t full = (size_t)received;
  const size_t length = full < poller->max_datagram_bytes ? full : poller->max_datagram_bytes;
  const size_t sender_length = message.msg_namelen < sizeof sender ? message.msg_namelen : sizeof sender;
  const size_t sender_offset = align8(*used + length);
  memcpy(poller->instance->arena + sender_offset, &sender, sender_length);
  *row = (struct row){
      .offset = (double)*used,
      .length = (double)length,
      .full_length = (double)full,
      .sender_offset = (double)sender_offset,
      .sender_length = (double)sender_length,
      .flags = message.msg_flags & ~MSG_CMSG_CLOEXEC,
      .timestamp_ms = NAN,
      .hop_limit = NAN,
  };
  read_control(&message, row);
  *used = align8(sender_offset + sender_length);
  return 0;
}

/* Takes what has arrived, at most one batch; true when JavaScript was told anything. */
static bool receive(const struct poller *poller, bool poll_failed) {
  struct row rows[BATCH_DATAGRAMS];
  uint32_t count = 0;
  size_t used = 0;
  int number = 0;
  const size_t worst = poller->max_datagram_bytes + sizeof(struct sockaddr_storage) + 16;
  if (poller->max_datagram_bytes > 0) {
    while (count < BATCH_DATAGRAMS && used + worst <= ARENA_BYTES) {
      number = receive_datagram(poller, &rows[count], &used);
      if (number != 0) break;
      count++;
    }
  }
  if (count > 0) emit_datagrams(poller, rows, count, used);
  if (poller->closing) return true;
  if (number == EAGAIN) number = 0;
  const char *syscall = "recvmsg";
  if (number == 0 && count == 0 && poll_failed && !poller->wants_writable) {
    socklen_t length = sizeof number;
    syscall = "poll";
    if (getsockopt(poller->socket->fd, SOL_SOCKET, SO_ERROR, &number, &length) < 0) number = errno;
  }
  if (number != 0) emit_error(poller, syscall, number, NULL, false);
  return count > 0;
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Makes libuv watch what is wanted now; 0 or a negative errno. */
static int update_poll(struct poller *poller) {
  const int events = (poller->max_datagram_bytes > 0 ? UV_READABLE : 0) | (poller->wants_writable ? UV_WRITABLE : 0);
  if (events == poller->active_events) return 0;
  poller->active_events = events;
  return events == 0 ? uv_poll_stop(&poller->poll) : uv_poll_start(&poller->poll, events, on_poll);
}

/* True when wakes that bring nothing come so fast that the descriptor must be broken. */
static bool is_spinning(struct poller *poller) {
  const uint64_t now_ms = uv_now(poller->instance->loop);
  if (now_ms - poller->idle_since_ms > IDLE_WINDOW_MS) {
    poller->idle_since_ms = now_ms;
    poller->idle_wakes = 0;
  }
  return ++poller->idle_wakes > IDLE_WAKES_LIMIT;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct poller *poller = poll->data;
  const napi_env env = poller->instance->env;
  napi_handle_scope scope;
  if (poller->closing || napi_open_handle_scope(env, &scope) != napi_ok) return;
  /* On EPOLLERR (an ENOBUFS of netlink, an ENETDOWN of a packet socket) libuv stops the watcher: start it again below. */
  const bool poll_failed = status < 0;
  if (poll_failed) poller->active_events = 0;
  bool progress = false;
  if (poll_failed || (events & UV_READABLE) != 0) progress = receive(poller, poll_failed);
  if (!poller->closing && poller->wants_writable && (poll_failed || (events & UV_WRITABLE) != 0)) {
    napi_value kind;
    poller->wants_writable = false;
    progress = true;
    if (napi_create_int32(env, EVENT_WRITABLE, &kind) == napi_ok) emit(poller, 1, &kind);
  }
  if (!poller->closing) {
    const int result = update_poll(poller);
    const bool spinning = !progress && is_spinning(poller);
    if (result < 0) {
      emit_error(poller, "poll", -result, "polling stopped", true);
    } else if (spinning) {
      emit_error(poller, "poll", EIO, "polling stopped: the descriptor wakes without end and brings nothing", true);
    }
    if ((result < 0 || spinning) && !poller->closing) stop_poller(poller->socket);
  }
  napi_close_handle_scope(env, scope);
}

static bool read_function(const struct call *call, size_t index, const char *name) {
  napi_valuetype type;
  if (!napi_succeeded(call->env, napi_typeof(call->env, call->arguments[index], &type))) return false;
  if (type == napi_function) return true;
  struct text text = {.length = 0};
  append(&text, "%s: expected a function", name);
  throw_type(call->env, text.data);
  return false;
}

static napi_value throw_poll(napi_env env, const struct lbd_socket *socket, int number) {
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", ");
  append_type(&arguments, socket->type);
  return throw_system(env, "poll", &arguments, number);
}

/*
 * startPolling(handle, onEvent, onThrow, maxDatagramBytes): calls onEvent(0, batch, count) with datagrams,
 * onEvent(1, error) with what a receive met (polling goes on unless error.stopped) and onEvent(2) once after each
 * watchWritable(). With maxDatagramBytes 0 it never reads; a stream can only be polled so.
 */
static napi_value start_polling(napi_env env, napi_callback_info info) {
  struct call call;
  double max_datagram_bytes = 0;
  const size_t most = ARENA_BYTES - sizeof(struct sockaddr_storage) - 16;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "poll");
  if (socket == NULL || !read_function(&call, 1, "onEvent") || !read_function(&call, 2, "onThrow") ||
      !read_integer(&call, 3, "maxDatagramBytes", 0, (double)most, &max_datagram_bytes)) {
    return NULL;
  }
  if (socket->poller != NULL) return throw_poll(env, socket, EALREADY);
  if (max_datagram_bytes > 0 && socket->type != SOCK_DGRAM && socket->type != SOCK_RAW) {
    return throw_poll(env, socket, EOPNOTSUPP);
  }
  struct poller *poller = calloc(1, sizeof *poller);
  if (poller == NULL) return throw_poll(env, socket, ENOMEM);
  int result = uv_poll_init(socket->instance->loop, &poller->poll, socket->fd);
  if (result < 0) {
    free(poller);
    return throw_poll(env, socket, -result);
  }
  poller->poll.data = poller;
  poller->instance = socket->instance;
  poller->instance->references++;
  poller->socket = socket;
  poller->max_datagram_bytes = (size_t)max_datagram_bytes;
  socket->poller = poller;
  /* From here on stop_poller undoes everything; it accepts references that were not made. */
  if (!napi_succeeded(env, napi_create_reference(env, call.arguments[0], 1, &poller->handle)) ||
      !napi_succeeded(env, napi_create_reference(env, call.arguments[1], 1, &poller->on_event)) ||
      !napi_succeeded(env, napi_create_reference(env, call.arguments[2], 1, &poller->on_throw))) {
    stop_poller(socket);
    return NULL;
  }
  result = update_poll(poller);
  if (result < 0) {
    stop_poller(socket);
    return throw_poll(env, socket, -result);
  }
  return NULL;
}

/* stopPolling(handle): does nothing when not polling */
static napi_value stop_polling(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_handle(&call, 0);
  if (socket != NULL) stop_poller(socket);
  return NULL;
}

/* watchWritable(handle): one onEvent(2) when the socket takes data again */
static napi_value watch_writable(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "poll");
  if (socket == NULL) return NULL;
  if (socket->poller == NULL) return throw_poll(env, socket, ENOTCONN);
  socket->poller->wants_writable = true;
  const int result = update_poll(socket->poller);
  return result < 0 ? throw_poll(env, socket, -result) : NULL;
}

/* ------------------------------------------------------------------------------------------------- clocks */

/* bootTimeMs(): CLOCK_BOOTTIME, which also counts suspension */
static napi_value boot_time_ms(napi_env env, napi_callback_info info) {
  (void)info;
  return number_value(env, clock_ms(CLOCK_BOOTTIME));
}

/* realTimeMs(): CLOCK_REALTIME, the clock of SO_TIMESTAMPNS */
static napi_value real_time_ms(napi_env env, napi_callback_info info) {
  (void)info;
  return number_value(env, clock_ms(CLOCK_REALTIME));
}

/* ------------------------------------------------------------------------------------------------- module */

static const struct {
  const char *name;
  napi_callback function;
} FUNCTIONS[] = {
    {"openSocket", open_socket},
    {"close", close_handle},
    {"release", release},
    {"bind", bind_handle},
    {"connect", connect_handle},
    {"getsockname", getsockname_handle},
    {"setsockopt", setsockopt_handle},
    {"getsockopt", getsockopt_handle},
    {"setSocketOptionOnFd", setsockopt_fd},
    {"getSocketOptionOnFd", getsockopt_fd},
    {"attachFilter", attach_filter},
    {"send", send_handle},
    {"sendBefore", send_before},
    {"sendMany", send_many},
    {"startPolling", start_polling},
    {"stopPolling", stop_polling},
    {"watchWritable", watch_writable},
    {"bootTimeMs", boot_time_ms},
    {"realTimeMs", real_time_ms},
};

NAPI_MODULE_INIT() {
  struct instance *instance = calloc(1, sizeof *instance);
  if (instance == NULL) return NULL;
  instance->env = env;
  instance->references = 1;
  if (!napi_succeeded(env, napi_set_instance_data(env, instance, finalize_instance, NULL))) {
    free(instance);
    return NULL;
  }
  if (!napi_succeeded(env, napi_get_uv_event_loop(env, &instance->loop)) ||
      !napi_succeeded(env, napi_add_async_cleanup_hook(env, on_environment_ending, instance, &instance->cleanup_hook))) {
    return NULL;
  }
  for (size_t at = 0; at < sizeof FUNCTIONS / sizeof FUNCTIONS[0]; at++) {
    napi_value function;
    if (!napi_succeeded(env, napi_create_function(env, FUNCTIONS[at].name, NAPI_AUTO_LENGTH, FUNCTIONS[at].function,
                                                  instance, &function)) ||
        !napi_succeeded(env, napi_set_named_property(env, exports, FUNCTIONS[at].name, function))) {
      return NULL;
    }
  }
  return exports;
}
