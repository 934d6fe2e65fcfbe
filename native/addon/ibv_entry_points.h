#pragma once

#include <napi.h>

// The entry points of the libibverbs provider, as an object.
Napi::Object ibvEntryPoints(Napi::Env env);
