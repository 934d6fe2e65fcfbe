#include "entry_point.h"

#include <cmath>
#include <string>

using rnic::VerbsError;

uint64_t integer(const Napi::Value& value, const char* name, double most) {
  if (!value.IsNumber()) throw VerbsError(VerbsError::Kind::Type, std::string(name) + " must be a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= most) || number != std::floor(number)) {
    throw VerbsError(VerbsError::Kind::Range, std::string(name) + " is not an integer within its bounds");
  }
  return static_cast<uint64_t>(number);
}

uint32_t integer32(const Napi::Value& value, const char* name) {
  return static_cast<uint32_t>(integer(value, name, 4294967295.0));
}

rnic::PageOptions pageOptions(Info info, size_t at) {
  rnic::PageOptions options;
  if (!info[at].IsUndefined()) options.hugePageBytes = integer(info[at], "hugePageBytes");
  if (!info[at + 1].IsUndefined()) {
    options.numaNode = static_cast<int>(integer(info[at + 1], "numaNode", rnic::MAX_NUMA_NODES - 1));
  }
  return options;
}

namespace {
const char* codeOf(VerbsError::Kind kind) {
  switch (kind) {
    case VerbsError::Kind::Busy:
      return "ERR_NATIVE_BUSY";
    case VerbsError::Kind::Closed:
      return "ERR_NATIVE_CLOSED";
    case VerbsError::Kind::NoDevice:
      return "ERR_NATIVE_NO_DEVICE";
    case VerbsError::Kind::NoListener:
      return "ERR_NATIVE_NO_LISTENER";
    default:
      return "ERR_NATIVE_LIMIT";
  }
}
}  // namespace

void rethrow(Napi::Env env, const VerbsError& error) {
  if (error.kind == VerbsError::Kind::Range) throw Napi::RangeError::New(env, error.what());
  if (error.kind == VerbsError::Kind::Type) throw Napi::TypeError::New(env, error.what());
  Napi::Error coded = Napi::Error::New(env, error.what());
  coded.Set("code", Napi::String::New(env, codeOf(error.kind)));
  throw coded;
}

Napi::Value arrayBuffer(Napi::Env env, std::shared_ptr<rnic::HostMemory> memory) {
  using Kept = std::shared_ptr<rnic::HostMemory>;
  auto* keep = new Kept(std::move(memory));
  return Napi::ArrayBuffer::New(
      env, (*keep)->data(), (*keep)->bytes(), [](Napi::Env, void*, Kept* kept) { delete kept; }, keep);
}

Napi::Value hotFunction(Napi::Env env, const char* name, napi_callback function, void* data) {
  napi_value result;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, function, data, &result);
  return Napi::Value(env, result);
}
