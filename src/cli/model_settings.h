// SPDX-License-Identifier: Apache-2.0
// Settings that a model file recommends (general.sampling.*), used where the user gave none.
#pragma once

#include "cli/args.h"
#include "weights/gguf/metadata.h"

namespace pantry {

// Overwrites defaults only; notes the source of what it changed. A recommendation of the wrong type is kCorruption.
Status TakeModelSettings(const Metadata& metadata, Invocation& invocation);

}  // namespace pantry
