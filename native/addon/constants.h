#pragma once

#include <napi.h>

// Every constant and layout that the addon was compiled with, in the shape of native/verbs.ts.
Napi::Object verbsConstants(Napi::Env env);
