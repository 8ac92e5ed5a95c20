// SPDX-License-Identifier: Apache-2.0
// From the option structs of the C API to those of the engine, for callers with older and newer headers than this library.
#pragma once

#include "base/status.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "pantry/pantry.h"

namespace pantry {

// kInvalidArgument "`name` is NULL".
Status RequireNotNull(const void* pointer, const char* name);

// `from` may be null (defaults), shorter or longer than this library's struct. kInvalidArgument without a size; kUnsupported when a field
// is set that this version does not know.
Result<pantry_engine_options> ReadEngineOptions(const pantry_engine_options* from);
Result<EngineOptions> ToEngineOptions(const pantry_engine_options& from);
Result<SessionOptions> ToSessionOptions(const pantry_session_options* from);
Result<pantry_generate_options> ReadGenerateOptions(const pantry_generate_options* from);
Result<GenerateOptions> ToGenerateOptions(const pantry_generate_options& options);

}  // namespace pantry
