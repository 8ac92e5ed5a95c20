// SPDX-License-Identifier: Apache-2.0
#include "engine/resting_neurons.h"

#include "engine/find_profile.h"

namespace pantry {

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
  const Result<NeuronProfile> profile = ReadProfileOf(file, shape, ProfilePath(options.profile, file));
  if (!profile.ok()) return profile.status().WithContext("--sparsity");
  auto resting = std::unique_ptr<RestingNeurons>(new RestingNeurons());
  resting->sparsity_ = options.sparsity;
  resting->neurons_per_token_ = int64_t{shape.n_layers} * shape.n_ff;
  for (const NeuronProfile::Layer& layer : profile->layers) {
    resting->firing_.push_back(FiringGates::OfSilu(layer.ThresholdFor(options.sparsity)));
  }
  return resting;
}

}  // namespace pantry
