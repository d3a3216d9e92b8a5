/*
 * lbd_sys: the Linux sockets that Node does not offer (netlink, packet, raw ICMPv6, unix datagrams), as plain
 * system calls over uv_poll. It knows no message format and takes no decision: bytes go in and out, and src/sys
 * gives them types. Node-API only, so one build serves every Node.
 *
 *   text.c     what a call was given, in words, for errors
 *   call.c     arguments in, errors out
 *   socket.c   opening, naming, options, and the lifetime of a socket
 *   send.c     send, sendBefore, sendMany
 *   receive.c  polling
 *   module.c   clocks, the list of functions, set-up and end of an environment
 *
 * Rules that hold everywhere here:
 *  - every call is synchronous and every descriptor non-blocking and close-on-exec;
 *  - every argument is type-checked (TypeError) before any system call, every napi_status is looked at;
 *  - EINTR is retried, EAGAIN is a result, any other errno is a thrown Error
 *    { code: 'EPERM', errno: -1, syscall: 'bind', args: 'AF_NETLINK, groups=0x11' };
 *  - JavaScript may do anything inside a callback, also close the socket: after each call into it, `closing` is
 *    checked before the socket is touched again.
 */
#ifndef LBD_SYS_H
#define LBD_SYS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <node_api.h>
#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

/* Bytes of one batch of datagrams, and so the largest datagram that can be received. */
#define ARENA_BYTES (256 * 1024)
#define MAX_ARGUMENTS 5

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
  bool paused;
  bool closing;
  uint64_t idle_since_ms;
  uint32_t idle_wakes;
};

/* ---- text.c: appends what fits and cuts the rest */

struct text {
  char data[320];
  size_t length;
};

__attribute__((format(printf, 2, 3))) void append(struct text *text, const char *format, ...);
void append_domain(struct text *text, int domain);
void append_type(struct text *text, int type);
/* ", groups=0x11": what of a socket address tells one attempt from another. */
void append_address(struct text *text, const struct sockaddr_storage *storage, socklen_t length);
/* "SOL_SOCKET, SO_RCVBUF", or numbers for an option without a known name. */
void append_option(struct text *text, int level, int name);

/* ---- call.c: those that return bool, or a pointer, leave an exception pending when they fail */

struct call {
  napi_env env;
  struct instance *instance;
  napi_value arguments[MAX_ARGUMENTS];
};

/* For failures of Node-API itself, which happen when the environment ends. */
bool napi_succeeded(napi_env env, napi_status status);
/* Both return NULL, for `return throw_...`. */
napi_value throw_type(napi_env env, const char *text);
napi_value throw_system(napi_env env, const char *syscall, const struct text *arguments, int number);
/* The Error for a failed system call; NULL when the environment cannot make one any more. */
napi_value system_error(napi_env env, const char *syscall, const char *arguments, int number, const char *detail);

bool read_call(napi_env env, napi_callback_info info, struct call *call);
bool read_integer(const struct call *call, size_t index, const char *name, double least, double most, double *value);
bool read_int(const struct call *call, size_t index, const char *name, int *value);
bool read_function(const struct call *call, size_t index, const char *name);
bool is_nullish(const struct call *call, size_t index);
/* The bytes of a Uint8Array in place: valid until JavaScript runs again. */
bool read_bytes(const struct call *call, size_t index, const char *name, uint8_t **bytes, size_t *length);
bool read_bytes_of(napi_env env, napi_value value, const char *name, uint8_t **bytes, size_t *length);
bool read_address_of(napi_env env, napi_value value, struct sockaddr_storage *address, socklen_t *length);
/* The socket behind a handle, closed or not. */
struct lbd_socket *read_handle(const struct call *call, size_t index);
/* As read_handle, and a closed socket is EBADF. */
struct lbd_socket *read_open_handle(const struct call *call, size_t index, const char *syscall);

napi_value number_value(napi_env env, double number);
napi_value bytes_value(napi_env env, const void *bytes, size_t length);

/* ---- socket.c */

extern const napi_type_tag SOCKET_TAG;
void close_socket(struct lbd_socket *socket);
void release_instance(struct instance *instance);

napi_value open_socket(napi_env env, napi_callback_info info);
napi_value close_handle(napi_env env, napi_callback_info info);
napi_value release(napi_env env, napi_callback_info info);
napi_value bind_handle(napi_env env, napi_callback_info info);
napi_value connect_handle(napi_env env, napi_callback_info info);
napi_value getsockname_handle(napi_env env, napi_callback_info info);
napi_value setsockopt_handle(napi_env env, napi_callback_info info);
napi_value getsockopt_handle(napi_env env, napi_callback_info info);
napi_value setsockopt_fd(napi_env env, napi_callback_info info);
napi_value getsockopt_fd(napi_env env, napi_callback_info info);
napi_value attach_filter(napi_env env, napi_callback_info info);
napi_value attach_reuseport_filter(napi_env env, napi_callback_info info);

/* ---- send.c */

napi_value send_handle(napi_env env, napi_callback_info info);
napi_value send_before(napi_env env, napi_callback_info info);
napi_value send_many(napi_env env, napi_callback_info info);

/* ---- receive.c */

/* polling -> not polling; does nothing when not polling. */
void stop_poller(struct lbd_socket *socket);

napi_value start_polling(napi_env env, napi_callback_info info);
napi_value stop_polling(napi_env env, napi_callback_info info);
napi_value watch_writable(napi_env env, napi_callback_info info);
napi_value pause_polling(napi_env env, napi_callback_info info);
napi_value deliver_now(napi_env env, napi_callback_info info);

/* ---- module.c */

double clock_ms(clockid_t clock);
/* Lets the environment end once it wants to and libuv has let go of the last poll handle. */
void finish_teardown_when_idle(struct instance *instance);

#endif
