// What all entry points of the addon share: conversion of arguments and results, and of what the verbs calls refuse.
#pragma once

#include <napi.h>

#include <memory>
#include <system_error>

#include "../soft/error.h"
#include "../soft/memory.h"

using Info = const Napi::CallbackInfo&;

// Throw VerbsError for what is no integer from 0 to `most`.
uint64_t integer(const Napi::Value& value, const char* name, double most = 9007199254740991.0);
uint32_t integer32(const Napi::Value& value, const char* name);

// Arguments `at` and the next: bytes of a huge page and the number of a NUMA node, each undefined for none.
rnic::PageOptions pageOptions(Info info, size_t at);

[[noreturn]] void rethrow(Napi::Env env, const rnic::VerbsError& error);

// An entry point that may throw VerbsError.
template <Napi::Value (*function)(Info)>
Napi::Value guarded(Info info) {
  try {
    return function(info);
  } catch (const rnic::VerbsError& error) {
    rethrow(info.Env(), error);
  } catch (const std::bad_alloc&) {
    rethrow(info.Env(), rnic::VerbsError(rnic::VerbsError::Kind::Limit, "out of memory"));
  } catch (const std::system_error& error) {
    rethrow(info.Env(), rnic::VerbsError(rnic::VerbsError::Kind::Limit, error.what()));
  }
}

// The ArrayBuffer keeps the memory mapped.
Napi::Value arrayBuffer(Napi::Env env, std::shared_ptr<rnic::HostMemory> memory);

// Bare Node-API: one function each, which the JIT calls directly as a constant.
Napi::Value hotFunction(Napi::Env env, const char* name, napi_callback function, void* data);
