#include "lbd_sys.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Datagrams handed over per wake: more than this and other work of the loop would wait for it. */
#define BATCH_DATAGRAMS 64
/* Wakes in one second that brought nothing, after which the descriptor is taken for broken: else it would spin. */
#define IDLE_WAKES_LIMIT 1000
#define IDLE_WINDOW_MS 1000
#define CONTROL_BYTES 512

/* First argument of the event callback; src/sys/native.ts has the same numbers. */
enum event_kind { EVENT_DATAGRAMS = 0, EVENT_ERROR = 1, EVENT_WRITABLE = 2 };

/*
 * One datagram of a batch as src/sys/socket.ts reads it: doubles, in this order, at the start of the ArrayBuffer. Where
 * the bytes of the first one begin, the rows end.
 */
struct row {
  double offset;        /* of the bytes, from the start of the ArrayBuffer */
  double length;        /* bytes delivered */
  double full_length;   /* bytes the datagram had; more than `length` when truncated */
  double sender_offset; /* of the sender's sockaddr */
  double sender_length;
  double flags;        /* msg_flags: MSG_TRUNC, MSG_CTRUNC, ... */
  double timestamp_ms; /* SO_TIMESTAMPNS, CLOCK_REALTIME; NaN without */
  double hop_limit;    /* IPV6_HOPLIMIT or IP_TTL; NaN without */
  double received_ms;  /* when it was read, CLOCK_BOOTTIME */
};

/* ---- from the kernel to JavaScript */

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
static void emit_datagrams(const struct poller *poller, const struct row *rows, uint32_t count, size_t used) {
  const napi_env env = poller->instance->env;
  const size_t table_bytes = sizeof *rows * count;
  struct row *table = NULL;
  napi_value values[2];
  if (napi_create_int32(env, EVENT_DATAGRAMS, &values[0]) != napi_ok ||
      napi_create_arraybuffer(env, table_bytes + used, (void **)&table, &values[1]) != napi_ok) {
    return;
  }
  for (uint32_t at = 0; at < count; at++) {
    table[at] = rows[at];
    table[at].offset += (double)table_bytes;
    table[at].sender_offset += (double)table_bytes;
  }
  memcpy(table + count, poller->instance->arena, used);
  emit(poller, 2, values);
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
      .received_ms = clock_ms(CLOCK_BOOTTIME),
  };
  read_control(&message, row);
  *used = align8(sender_offset + sender_length);
  return 0;
}

static bool has_room(const struct poller *poller, uint32_t count, size_t used) {
  const size_t worst = poller->max_datagram_bytes + sizeof(struct sockaddr_storage) + 16;
  return count < BATCH_DATAGRAMS && used + worst <= ARENA_BYTES;
}

/* Takes what has arrived, at most one batch: how much that was, and in *more whether more may wait. */
static uint32_t receive(struct poller *poller, bool poll_failed, bool *more) {
  struct row rows[BATCH_DATAGRAMS];
  uint32_t count = 0;
  size_t used = 0;
  int number = 0;
  if (poller->max_datagram_bytes > 0) {
    while (has_room(poller, count, used)) {
      number = receive_datagram(poller, &rows[count], &used);
      if (number != 0) break;
      count++;
    }
  }
  *more = number == 0 && count > 0;
  if (count > 0) emit_datagrams(poller, rows, count, used);
  if (poller->closing) return count;
  if (number == EAGAIN) number = 0;
  const char *syscall = "recvmsg";
  if (number == 0 && count == 0 && poll_failed && !poller->wants_writable) {
    socklen_t length = sizeof number;
    syscall = "poll";
    if (getsockopt(poller->socket->fd, SOL_SOCKET, SO_ERROR, &number, &length) < 0) number = errno;
  }
  if (number != 0) emit_error(poller, syscall, number, NULL, false);
  return count;
}

/* ---- from libuv */

static void on_poll(uv_poll_t *poll, int status, int events);

/* Makes libuv watch what is wanted now; 0 or a negative errno. */
static int update_poll(struct poller *poller) {
  const bool reads = poller->max_datagram_bytes > 0 && !poller->paused;
  const int events = (reads ? UV_READABLE : 0) | (poller->wants_writable ? UV_WRITABLE : 0);
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
  bool progress = false, more = false;
  if (poll_failed || (events & UV_READABLE) != 0) progress = receive(poller, poll_failed, &more) > 0;
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

/* ---- from JavaScript */

static void on_poller_closed(uv_handle_t *handle) {
  struct poller *poller = handle->data;
  struct instance *instance = poller->instance;
  free(poller);
  instance->closing_pollers--;
  finish_teardown_when_idle(instance);
  release_instance(instance);
}

/* The poller itself lives until on_poller_closed. */
void stop_poller(struct lbd_socket *socket) {
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

static napi_value throw_poll(napi_env env, const struct lbd_socket *socket, int number) {
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", ");
  append_type(&arguments, socket->type);
  return throw_system(env, "poll", &arguments, number);
}

/*
 * startPolling(handle, onEvent, onThrow, maxDatagramBytes): calls onEvent(0, batch) with datagrams,
 * onEvent(1, error) with what a receive met (polling goes on unless error.stopped) and onEvent(2) once after each
 * watchWritable(). With maxDatagramBytes 0 it never reads; a stream can only be polled so.
 */
napi_value start_polling(napi_env env, napi_callback_info info) {
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
napi_value stop_polling(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_handle(&call, 0);
  if (socket != NULL) stop_poller(socket);
  return NULL;
}

/* watchWritable(handle): one onEvent(2) when the socket takes data again */
napi_value watch_writable(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "poll");
  if (socket == NULL) return NULL;
  if (socket->poller == NULL) return throw_poll(env, socket, ENOTCONN);
  socket->poller->wants_writable = true;
  const int result = update_poll(socket->poller);
  return result < 0 ? throw_poll(env, socket, -result) : NULL;
}

/*
 * deliverNow(handle): what has arrived by now, by onEvent as when the loop wakes for it, at most one batch; true when
 * there may be more
 */
napi_value deliver_now(napi_env env, napi_callback_info info) {
  struct call call;
  napi_value result;
  if (!read_call(env, info, &call)) return NULL;
  const struct lbd_socket *socket = read_handle(&call, 0);
  if (socket == NULL) return NULL;
  bool more = false;
  if (socket->poller != NULL) receive(socket->poller, false, &more);
  return napi_succeeded(env, napi_get_boolean(env, more, &result)) ? result : NULL;
}

/* pausePolling(handle, paused): what arrives while it is paused waits in the kernel, for deliverNow() or the end of the pause */
napi_value pause_polling(napi_env env, napi_callback_info info) {
  struct call call;
  double paused = 0;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "poll");
  if (socket == NULL || !read_integer(&call, 1, "paused", 0, 1, &paused)) return NULL;
  if (socket->poller == NULL) return throw_poll(env, socket, ENOTCONN);
  socket->poller->paused = paused != 0;
  const int result = update_poll(socket->poller);
  return result < 0 ? throw_poll(env, socket, -result) : NULL;
}
