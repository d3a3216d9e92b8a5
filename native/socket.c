#include "lbd_sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPTION_BYTES_LIMIT 65536

const napi_type_tag SOCKET_TAG = {0x6c62642d736f636bULL, 0x9d1f3c5a7e2b4860ULL};

/* ---- lifetime */

void release_instance(struct instance *instance) {
  if (--instance->references == 0) free(instance);
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

void close_socket(struct lbd_socket *socket) {
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

/* openSocket(domain, type, protocol): handle */
napi_value open_socket(napi_env env, napi_callback_info info) {
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
    if (domain == AF_PACKET) {
      append(&arguments, ", protocol=0x%04x", ntohs((uint16_t)protocol));
    } else {
      append(&arguments, ", protocol=%d", protocol);
    }
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
napi_value close_handle(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_handle(&call, 0);
  if (socket != NULL) close_socket(socket);
  return NULL;
}

/* release(handle): fd. The caller owns the descriptor from here on; the handle is closed. */
napi_value release(napi_env env, napi_callback_info info) {
  struct call call;
  if (!read_call(env, info, &call)) return NULL;
  struct lbd_socket *socket = read_open_handle(&call, 0, "release");
  return socket == NULL ? NULL : number_value(env, detach_descriptor(socket));
}

/* bind(handle, address) */
napi_value bind_handle(napi_env env, napi_callback_info info) {
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
napi_value connect_handle(napi_env env, napi_callback_info info) {
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
napi_value getsockname_handle(napi_env env, napi_callback_info info) {
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

/* ---- options */

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
napi_value setsockopt_handle(napi_env env, napi_callback_info info) { return set_option(env, info, false); }
/* getsockopt(handle, level, option, length): bytes */
napi_value getsockopt_handle(napi_env env, napi_callback_info info) { return get_option(env, info, false); }
/* setSocketOptionOnFd(fd, level, option, value) */
napi_value setsockopt_fd(napi_env env, napi_callback_info info) { return set_option(env, info, true); }
/* getSocketOptionOnFd(fd, level, option, length): bytes */
napi_value getsockopt_fd(napi_env env, napi_callback_info info) { return get_option(env, info, true); }

static napi_value attach(napi_env env, napi_callback_info info, int option, const char *name) {
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
  if (setsockopt(socket->fd, SOL_SOCKET, option, &program, sizeof program) == 0) return NULL;
  const int number = errno;
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", SOL_SOCKET, %s, %u instructions", name, program.len);
  return throw_system(env, "setsockopt", &arguments, number);
}

/* attachFilter(handle, program): a classic BPF program, 8 bytes an instruction (struct sock_filter, host order) */
napi_value attach_filter(napi_env env, napi_callback_info info) {
  return attach(env, info, SO_ATTACH_FILTER, "SO_ATTACH_FILTER");
}

/* attachReuseportFilter(handle, program): the same, which gives the number of the socket of its group that a datagram is for */
napi_value attach_reuseport_filter(napi_env env, napi_callback_info info) {
  return attach(env, info, SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF");
}
