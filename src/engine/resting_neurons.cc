// SPDX-License-Identifier: Apache-2.0
#include "engine/resting_neurons.h"

#include "io/reader.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {
namespace {

constexpr size_t kMaxNameChars = 100;

std::string HowToMakeOne(const GgufFile& file) {
  return fmt::format("Make one: pantry profile {} -f TEXT", file.path());
}

Result<NeuronProfile> ReadProfile(const std::string& path, const GgufFile& file) {
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path);
  if (reader.status().code() == StatusCode::kNotFound) {
    return NotFoundError("--sparsity needs a profile of the model's neurons, and there is no file '{}'. {}", path,
                         HowToMakeOne(file));
  }
  if (!reader.ok()) return reader.status();
  return NeuronProfile::Read(**reader);
}

Status CheckIsOf(const NeuronProfile& profile, const std::string& path, const GgufFile& file, const ModelShape& shape) {
  PANTRY_ASSIGN_OR_RETURN(const uint64_t weights, NormsHash(file));
  const bool is_same_shape = profile.layers.size() == static_cast<size_t>(shape.n_layers) &&
                             profile.n_neurons == shape.n_ff && profile.activation == shape.activation;
  if (is_same_shape && profile.weights == weights) return OkStatus();
  return InvalidArgumentError(
      "{}: a profile of another model, '{}' ({} layers of {} neurons; this one is '{}', {} of {}{}). {}", path,
      Printable(profile.model, kMaxNameChars), profile.layers.size(), profile.n_neurons,
      Printable(shape.name, kMaxNameChars), shape.n_layers, shape.n_ff, is_same_shape ? ", with other weights" : "",
      HowToMakeOne(file));
}

}  // namespace

Status SparsityOptions::Validate() const {
  if (sparsity >= 0 && sparsity <= NeuronProfile::kMostSparsity) return OkStatus();
  return InvalidArgumentError("--sparsity {}: expected a share from 0 to {}", sparsity, NeuronProfile::kMostSparsity);
}

Result<std::unique_ptr<RestingNeurons>> RestingNeurons::Load(const SparsityOptions& options, const GgufFile& file,
                                                             const ModelShape& shape, Logger& log) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  if (options.sparsity == 0) return {nullptr};
  if (shape.has_experts() || shape.gates_by_relu()) {
    log.Warning("--sparsity: no effect here because {}", shape.has_experts()
                                                             ? "the model has experts"
                                                             : "the model's neurons gate by ReLU: they rest by "
                                                               "themselves, without loss");
    return {nullptr};
  }
  const std::string path = options.profile.empty() ? NeuronProfile::PathBeside(file.path()) : options.profile;
  PANTRY_ASSIGN_OR_RETURN(const NeuronProfile profile, ReadProfile(path, file));
  PANTRY_RETURN_IF_ERROR(CheckIsOf(profile, path, file, shape));
  auto resting = std::unique_ptr<RestingNeurons>(new RestingNeurons());
  resting->sparsity_ = options.sparsity;
  resting->neurons_per_token_ = int64_t{shape.n_layers} * shape.n_ff;
  for (const NeuronProfile::Layer& layer : profile.layers) {
    resting->firing_.push_back(FiringGates::OfSilu(layer.ThresholdFor(options.sparsity)));
  }
  return resting;
}

}  // namespace pantry
