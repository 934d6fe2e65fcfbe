#pragma once

#include <napi.h>
#include <uv.h>

#include <functional>

// Calls a JavaScript function on the event loop whenever a channel is signalled. On the loop's thread only.
class SignalWatch {
 public:
  // The descriptor becomes readable; `take` then takes what has come and says whether it was a signal.
  SignalWatch(Napi::Env env, int fd, std::function<bool()> take);
  // Ends the watch; the memory goes when the loop has let go of it.
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // An empty function stops; while one is set the watch keeps the loop alive.
  void listen(Napi::FunctionReference listener);

 private:
  struct State {
    State(Napi::Env env, std::function<bool()> take) : env(env), take(std::move(take)) {}
    uv_poll_t poll;
    Napi::Env env;
    std::function<bool()> take;
    Napi::FunctionReference listener;
  };
  static void signalled(uv_poll_t* poll, int status, int events);

  State* const state_;
};
