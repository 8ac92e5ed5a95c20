// SPDX-License-Identifier: Apache-2.0
// FileToRun() chooses between a GGUF file and the pack of it that lies beside it: the planner's one choice that the memory budget leaves open.
//
// What a run writes is the same to the last bit; only its speed differs. A pack is taken where weights would stream, it fits, and by neuron, where
// it holds single neurons of dense layers, is foretold to be no slower than by matrix. Of experts' neurons nobody foretells; who packed them
// wants them read.
#pragma once

#include <string>

#include "cli/verbs.h"
#include "engine/engine.h"
#include "engine/memory_budget.h"

namespace pantry {

// `path`, or the pack beside it, with a note. Never an error: what is wrong with `path` is said by who opens it, and a pack that cannot be used
// is named in a note.
std::string FileToRun(VerbContext& context, const std::string& path, const EngineOptions& engine,
                      const FreeMemory& memory);

}  // namespace pantry
