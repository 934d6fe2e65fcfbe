#pragma once

#include <napi.h>

// Every constant and layout that the addon was compiled with, in the shape of native/verbs.ts.
Napi::Object verbsConstants(Napi::Env env);
// The limits of a device of the software RNIC.
Napi::Object deviceLimits(Napi::Env env);
// Those that differ for a device whose memory other processes' NICs use.
Napi::Object sharedLimits(Napi::Env env);
