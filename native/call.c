#include "lbd_sys.h"

#include <errno.h>
#include <math.h>
#include <string.h>

bool napi_succeeded(napi_env env, napi_status status) {
  if (status == napi_ok) return true;
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) {
    napi_throw_error(env, "ERR_LBD_NAPI", "Node-API call failed");
  }
  return false;
}

napi_value throw_type(napi_env env, const char *text) {
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", text);
  return NULL;
}

static bool set_text(napi_env env, napi_value object, const char *name, const char *text) {
  napi_value value;
  return napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}

napi_value system_error(napi_env env, const char *syscall, const char *arguments, int number, const char *detail) {
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

napi_value throw_system(napi_env env, const char *syscall, const struct text *arguments, int number) {
  const napi_value error = system_error(env, syscall, arguments->data, number, NULL);
  if (error != NULL) napi_throw(env, error);
  return NULL;
}

bool read_call(napi_env env, napi_callback_info info, struct call *call) {
  size_t count = MAX_ARGUMENTS;
  call->env = env;
  return napi_succeeded(env, napi_get_cb_info(env, info, &count, call->arguments, NULL, (void **)&call->instance));
}

bool read_integer(const struct call *call, size_t index, const char *name, double least, double most,
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

bool read_int(const struct call *call, size_t index, const char *name, int *value) {
  double number = 0;
  if (!read_integer(call, index, name, INT32_MIN, INT32_MAX, &number)) return false;
  *value = (int)number;
  return true;
}

bool read_function(const struct call *call, size_t index, const char *name) {
  napi_valuetype type;
  if (!napi_succeeded(call->env, napi_typeof(call->env, call->arguments[index], &type))) return false;
  if (type == napi_function) return true;
  struct text text = {.length = 0};
  append(&text, "%s: expected a function", name);
  throw_type(call->env, text.data);
  return false;
}

bool is_nullish(const struct call *call, size_t index) {
  napi_valuetype type;
  return napi_typeof(call->env, call->arguments[index], &type) == napi_ok && (type == napi_undefined || type == napi_null);
}

bool read_bytes_of(napi_env env, napi_value value, const char *name, uint8_t **bytes, size_t *length) {
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

bool read_bytes(const struct call *call, size_t index, const char *name, uint8_t **bytes, size_t *length) {
  return read_bytes_of(call->env, call->arguments[index], name, bytes, length);
}

bool read_address_of(napi_env env, napi_value value, struct sockaddr_storage *address, socklen_t *length) {
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

struct lbd_socket *read_handle(const struct call *call, size_t index) {
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

struct lbd_socket *read_open_handle(const struct call *call, size_t index, const char *syscall) {
  struct lbd_socket *socket = read_handle(call, index);
  if (socket == NULL || socket->fd >= 0) return socket;
  struct text arguments = {.length = 0};
  append_domain(&arguments, socket->domain);
  append(&arguments, ", closed socket");
  throw_system(call->env, syscall, &arguments, EBADF);
  return NULL;
}

napi_value number_value(napi_env env, double number) {
  napi_value value = NULL;
  return napi_succeeded(env, napi_create_double(env, number, &value)) ? value : NULL;
}

napi_value bytes_value(napi_env env, const void *bytes, size_t length) {
  void *data = NULL;
  napi_value buffer, array = NULL;
  if (!napi_succeeded(env, napi_create_arraybuffer(env, length, &data, &buffer))) return NULL;
  if (length > 0) memcpy(data, bytes, length);
  if (!napi_succeeded(env, napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &array))) return NULL;
  return array;
}
