// SPDX-License-Identifier: Apache-2.0
#include "engine/warm_up.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/find_profile.h"

namespace pantry {

namespace {

// How often neurons fire. What never did may all the same where its expert is used: it counts as the least that counts at all, and the memory that is
// left goes to neurons of experts that are used most (NeuronCache::WarmestAbsent()).
std::vector<uint16_t> FrequencyOf(const NeuronProfile& profile, const NeuronProfile::Layer& layer) {
  std::vector<uint16_t> frequency = layer.frequency;
  const auto n_neurons = static_cast<size_t>(profile.n_neurons);
  for (size_t i = 0; i < frequency.size(); ++i) {
    if (frequency[i] == 0 && (layer.use.empty() || layer.use[i / n_neurons] > 0)) frequency[i] = 1;
  }
  return frequency;
}

}  // namespace

bool StreamsProfiled(Engine& engine) {
  if (engine.stream() == nullptr || !engine.shape().gates_by_relu()) return false;
  const WeightPlacer& placer = engine.stream()->placer();
  return placer.neurons() != nullptr || placer.has_experts();
}

Result<std::optional<WarmCache>> WarmUp(Engine& engine, const std::string& profile, const LoadProgress& progress) {
  const std::optional<WarmCache> nothing;
  if (!StreamsProfiled(engine)) return nothing;
  WeightStream* const stream = engine.stream();
  const std::string path = ProfilePath(profile, engine.file());
  const Result<NeuronProfile> known = ReadProfileOf(engine.file(), engine.shape(), path);
  if (known.status().code() == StatusCode::kNotFound) {
    if (!profile.empty()) return known.status().WithContext("--profile");
    engine.log().Debug("no warm start: {}", known.status().message());
    return nothing;
  }
  if (!known.ok()) {
    engine.log().Warning("no warm start: {}", known.status().message());
    return nothing;
  }
  std::vector<LayerUse> layers;
  std::vector<std::vector<uint16_t>> frequency;
  for (const NeuronProfile::Layer& layer : known->layers) {
    frequency.push_back(FrequencyOf(*known, layer));
    layers.push_back({layer.use, frequency.back()});
  }
  PANTRY_RETURN_IF_ERROR(stream->WarmUp(engine.pool(), layers, progress));
  const WeightStreamStats held = stream->stats();
  const bool has_experts = stream->placer().has_experts();
  return std::optional(WarmCache{.profile = path,
                                 .n_experts = has_experts ? held.cache.n_resident : 0,
                                 .n_neurons = has_experts ? held.neurons.n_resident : held.cache.n_resident,
                                 .n_bytes = held.cache.resident_bytes + held.neurons.resident_bytes});
}

}  // namespace pantry
