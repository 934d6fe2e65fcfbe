#include "signal_watch.h"

SignalWatch::SignalWatch(Napi::Env env, int fd, std::function<bool()> take)
    : state_(new State(env, std::move(take))) {
  uv_loop_t* loop;
  napi_get_uv_event_loop(env, &loop);
  uv_poll_init(loop, &state_->poll, fd);
  state_->poll.data = state_;
}

SignalWatch::~SignalWatch() {
  state_->listener.Reset();
  uv_poll_stop(&state_->poll);
  uv_close(reinterpret_cast<uv_handle_t*>(&state_->poll),
           [](uv_handle_t* handle) { delete static_cast<State*>(handle->data); });
}

void SignalWatch::listen(Napi::FunctionReference listener) {
  state_->listener = std::move(listener);
  if (state_->listener.IsEmpty()) {
    uv_poll_stop(&state_->poll);
  } else {
    uv_poll_start(&state_->poll, UV_READABLE, signalled);
  }
}

void SignalWatch::signalled(uv_poll_t* poll, int, int) {
  State& state = *static_cast<State*>(poll->data);
  if (!state.take() || state.listener.IsEmpty()) return;
  // Bare Node-API, as its failures must not throw: on a thread that is being terminated no JavaScript can run any more,
  // nor can an error object be made.
  const napi_env env = state.env;
  const Napi::HandleScope scope(state.env);
  napi_value global;
  if (napi_get_global(env, &global) != napi_ok) return;
  if (napi_make_callback(env, nullptr, global, state.listener.Value(), 0, nullptr, nullptr) != napi_pending_exception) {
    return;
  }
  napi_value exception;
  if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
}
