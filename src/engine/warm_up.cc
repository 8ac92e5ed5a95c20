// SPDX-License-Identifier: Apache-2.0
#include "engine/warm_up.h"

#include <span>
#include <vector>

#include "engine/find_profile.h"

namespace pantry {

Result<std::optional<WarmCache>> WarmUp(Engine& engine, const std::string& profile, const LoadProgress& progress) {
  const std::optional<WarmCache> nothing;
  WeightStream* const stream = engine.stream();
  if (stream == nullptr || stream->placer().neurons() == nullptr || stream->placer().has_experts()) return nothing;
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
  std::vector<std::span<const uint16_t>> frequency;
  for (const NeuronProfile::Layer& layer : known->layers) frequency.emplace_back(layer.frequency);
  PANTRY_RETURN_IF_ERROR(stream->WarmUp(frequency, progress));
  const CacheStats held = stream->stats().cache;
  return std::optional(WarmCache{.profile = path, .n_neurons = held.n_resident, .n_bytes = held.resident_bytes});
}

}  // namespace pantry
