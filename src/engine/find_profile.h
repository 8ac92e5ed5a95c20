// SPDX-License-Identifier: Apache-2.0
// The NeuronProfile of a model: where it lies, and whether it is that model's.
//
// A profile is of weights, not of a file: what `pantry profile` wrote of a GGUF holds for the pack that was made of it, too.
// Threads: free functions.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "weights/gguf/gguf_file.h"
#include "weights/model_shape.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {

// `path`, or if that is "" the file beside the model: MODEL.profile, else of NAME.pantry also NAME.gguf.profile.
std::string ProfilePath(const std::string& path, const GgufFile& file);

// How `verb` makes of this file what then lies at `beside`: a sentence for errors.
std::string HowToProfile(const GgufFile& file, std::string_view verb, const std::string& beside);

// kNotFound: there is no such file; kInvalidArgument: it is another model's, or of other weights; both say how to make one. Errors of
// NeuronProfile::Read().
Result<NeuronProfile> ReadProfileOf(const GgufFile& file, const ModelShape& shape, const std::string& path);

}  // namespace pantry
