#include "lbd_sys.h"

#include <stdlib.h>

double clock_ms(clockid_t clock) {
  struct timespec now = {0};
  clock_gettime(clock, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

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

/* ---- environment */

void finish_teardown_when_idle(struct instance *instance) {
  if (!instance->tearing_down || instance->closing_pollers > 0 || instance->cleanup_hook == NULL) return;
  const napi_async_cleanup_hook_handle hook = instance->cleanup_hook;
  instance->cleanup_hook = NULL;
  napi_remove_async_cleanup_hook(hook);
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
    {"attachReuseportFilter", attach_reuseport_filter},
    {"send", send_handle},
    {"sendBefore", send_before},
    {"sendMany", send_many},
    {"startPolling", start_polling},
    {"stopPolling", stop_polling},
    {"watchWritable", watch_writable},
    {"pausePolling", pause_polling},
    {"deliverNow", deliver_now},
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
