#include "lbd_sys.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEND_MANY_LIMIT 65536
#define SEND_MANY_BYTES_LIMIT (64 * 1024 * 1024)
#define SEND_MANY_CHUNK 128

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
napi_value send_handle(napi_env env, napi_callback_info info) {
  struct call call;
  int flags = 0;
  if (!read_call(env, info, &call) || !read_int(&call, 3, "flags", &flags)) return NULL;
  return send_datagram(&call, flags, INFINITY);
}

/* sendBefore(handle, bytes, address | undefined, deadlineMs): bytes sent, -EAGAIN or -ETIME */
napi_value send_before(napi_env env, napi_callback_info info) {
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
napi_value send_many(napi_env env, napi_callback_info info) {
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
