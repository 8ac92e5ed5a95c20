// SPDX-License-Identifier: Apache-2.0
#include "weights/profile/neuron_profile.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "weights/profile/hashed_bytes.h"

namespace pantry {
namespace {

constexpr std::string_view kMagic = "PANTRYNP";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMostLayers = 1 << 16;
constexpr uint32_t kMostNeurons = 1 << 24;
constexpr uint32_t kMostExperts = 1 << 16;
constexpr uint32_t kMostName = 4096;

uint64_t LayerBytes(const NeuronProfile& profile) {
  using Layer = NeuronProfile::Layer;
  return sizeof(Layer::active_share) + 2 * sizeof(float) + sizeof(Layer::thresholds) + sizeof(Layer::heat) +
         sizeof(uint16_t) * (static_cast<uint64_t>(profile.n_experts) + profile.neurons_of_layer());
}

bool IsShare(float x) { return x >= 0 && x <= 1; }

bool IsSound(const NeuronProfile::Layer& layer) {
  return std::ranges::all_of(layer.active_share, IsShare) && IsShare(layer.up_share) && IsShare(layer.refire_share) &&
         layer.thresholds.front() == 0 && std::isfinite(layer.thresholds.back()) &&
         std::adjacent_find(layer.thresholds.begin(), layer.thresholds.end(),
                            [](float a, float b) { return !(a <= b); }) == layer.thresholds.end();
}

// All but the layers, checked to be such that the file's size follows from it.
struct Head {
  NeuronProfile profile;
  uint32_t n_layers = 0;
  uint32_t n_name = 0;

  uint64_t file_bytes() const { return kFixedBytes + n_name + n_layers * LayerBytes(profile); }
};

Result<Head> ReadHead(std::string_view bytes, const std::string& path) {
  if (!bytes.starts_with(kMagic)) return CorruptionError("{}: not a neuron profile of 'pantry profile'", path);
  ByteTaker taker(bytes.substr(kMagic.size()));
  if (const auto version = taker.Take<uint32_t>(); version != kVersion) {
    return UnsupportedError("{}: version {}, this program knows {}; make it again with 'pantry profile'", path, version,
                            kVersion);
  }
  Head head;
  NeuronProfile& profile = head.profile;
  head.n_layers = taker.Take<uint32_t>();
  const auto n_neurons = taker.Take<uint32_t>(), activation = taker.Take<uint32_t>();
  taker.Take(profile.weights);
  const auto n_tokens = taker.Take<uint32_t>();
  taker.Take(profile.sparsity);
  head.n_name = taker.Take<uint32_t>();
  const auto n_experts = taker.Take<uint32_t>();
  const bool is_sound = head.n_layers <= kMostLayers && n_neurons >= 1 && n_neurons <= kMostNeurons &&
                        n_experts <= kMostExperts && head.n_name <= kMostName &&
                        activation <= static_cast<uint32_t>(GluActivation::kRelu2) && IsShare(profile.sparsity);
  if (!is_sound) return CorruptionError("{}: its head is damaged", path);
  profile.n_neurons = static_cast<int32_t>(n_neurons);
  profile.n_experts = static_cast<int32_t>(n_experts);
  profile.n_tokens = n_tokens;
  profile.activation = static_cast<GluActivation>(activation);
  return head;
}

}  // namespace

float NeuronProfile::Layer::ThresholdFor(double share) const {
  PANTRY_CHECK(share >= 0 && share <= kMostSparsity);
  const double at = share * kThresholds;
  const size_t below = std::min(static_cast<size_t>(at), kThresholds - 1), above = std::min(below + 1, kThresholds - 1);
  const double part = at - static_cast<double>(below);
  return static_cast<float>((1 - part) * thresholds[below] + part * thresholds[above]);
}

std::string NeuronProfile::Serialize() const {
  PANTRY_CHECK(layers.size() <= kMostLayers && n_neurons >= 1 && n_neurons <= static_cast<int32_t>(kMostNeurons));
  const std::string_view name = std::string_view(model).substr(0, kMostName);
  ByteWriter writer;
  writer.Add(kMagic);
  writer.Add(kVersion);
  writer.Add(static_cast<uint32_t>(layers.size()));
  writer.Add(static_cast<uint32_t>(n_neurons));
  writer.Add(static_cast<uint32_t>(activation));
  writer.Add(weights);
  writer.Add(static_cast<uint32_t>(std::min<int64_t>(n_tokens, UINT32_MAX)));
  writer.Add(sparsity);
  writer.Add(static_cast<uint32_t>(name.size()));
  writer.Add(static_cast<uint32_t>(n_experts));
  writer.FillTo(kFixedBytes);
  writer.Add(name);
  for (const Layer& layer : layers) {
    PANTRY_CHECK(layer.frequency.size() == neurons_of_layer() && layer.use.size() == static_cast<size_t>(n_experts));
    writer.Add(layer.active_share);
    writer.Add(layer.up_share);
    writer.Add(layer.refire_share);
    writer.Add(layer.thresholds);
    writer.Add(layer.heat);
    writer.Add(layer.use);
    writer.Add(layer.frequency);
  }
  return writer.TakeHashed();
}

Result<NeuronProfile> NeuronProfile::Read(const Reader& reader) {
  const std::string& path = reader.path();
  std::string bytes(kFixedBytes, '\0');
  const auto read = [&] { return reader.ReadAt(0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}); };
  if (reader.size() < kFixedBytes) return CorruptionError("{}: not a neuron profile of 'pantry profile'", path);
  PANTRY_RETURN_IF_ERROR(read());
  PANTRY_ASSIGN_OR_RETURN(Head head, ReadHead(bytes, path));
  if (head.file_bytes() != reader.size()) {
    return CorruptionError("{}: {} bytes, expected {}: it is cut or damaged; make it again with 'pantry profile'", path,
                           reader.size(), head.file_bytes());
  }
  bytes.resize(head.file_bytes());
  PANTRY_RETURN_IF_ERROR(read());
  if (!IsIntact(bytes)) {
    return CorruptionError("{}: its checksum is wrong: it is damaged; make it again with 'pantry profile'", path);
  }
  NeuronProfile& profile = head.profile;
  profile.model = bytes.substr(kFixedBytes, head.n_name);
  ByteTaker taker(std::string_view(bytes).substr(kFixedBytes + head.n_name));
  profile.layers.resize(head.n_layers);
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    Layer& layer = profile.layers[i];
    taker.Take(layer.active_share);
    taker.Take(layer.up_share);
    taker.Take(layer.refire_share);
    taker.Take(layer.thresholds);
    taker.Take(layer.heat);
    taker.TakeMany(layer.use, static_cast<size_t>(profile.n_experts));
    taker.TakeMany(layer.frequency, profile.neurons_of_layer());
    if (!IsSound(layer)) return CorruptionError("{}: layer {} holds no shares and thresholds", path, i);
  }
  return std::move(profile);
}

Result<uint64_t> NormsHash(const GgufFile& file) {
  uint64_t hash = 0;
  std::vector<uint8_t> bytes;
  for (int32_t layer = 0;; ++layer) {
    const TensorInfo* const norm = file.FindTensor(fmt::format("blk.{}.ffn_norm.weight", layer));
    if (norm == nullptr || norm->in_blocks()) return hash;
    bytes.resize(norm->n_bytes);
    PANTRY_RETURN_IF_ERROR(file.ReadTensor(*norm, 0, bytes));
    hash = XXH3_64bits_withSeed(bytes.data(), bytes.size(), hash);
  }
}

}  // namespace pantry
