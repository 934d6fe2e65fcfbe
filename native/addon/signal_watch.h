#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>

#include "../soft/channel.h"

// Calls a JavaScript function on the event loop whenever a channel is signalled. On the loop's thread only.
class SignalWatch {
 public:
  SignalWatch(Napi::Env env, std::shared_ptr<rnic::Channel> channel);
  // Ends the watch; the memory goes when the loop has let go of it.
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // An empty function stops; while one is set the watch keeps the loop alive.
  void listen(Napi::FunctionReference listener);

 private:
  struct State {
    State(Napi::Env env, std::shared_ptr<rnic::Channel> channel) : env(env), channel(std::move(channel)) {}
    uv_poll_t poll;
    Napi::Env env;
    std::shared_ptr<rnic::Channel> channel;
    Napi::FunctionReference listener;
  };
  static void signalled(uv_poll_t* poll, int status, int events);

  State* const state_;
};
