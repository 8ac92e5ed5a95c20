// SPDX-License-Identifier: Apache-2.0
// How a WeightStream fills its caches before the first run.
#include <algorithm>
#include <cstdint>
#include <utility>

#include "engine/weight_stream.h"

namespace pantry {

// Tells the cache of blocks what is used, and returns what it has room for, the most used first.
std::vector<BlockId> WeightStream::WarmBlocks(std::span<const LayerUse> layers) {
  std::vector<std::pair<uint16_t, BlockId>> used;
  for (int32_t layer = 0; layer < placer_->n_layers(); ++layer) {
    const std::span<const uint16_t> experts = layers[static_cast<size_t>(placer_->NumberOf(layer))].experts;
    for (size_t i = 0; i < experts.size(); ++i) {
      if (experts[i] == 0) continue;
      used.emplace_back(experts[i], placer_->Block(layer, static_cast<int32_t>(i)));
      cache_->Warm(used.back().second, double{NeuronCache::kProfileTokens} * experts[i] / UINT16_MAX);
    }
  }
  std::sort(used.begin(), used.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  std::vector<BlockId> warm;
  int64_t room = cache_->budget_bytes() - cache_->TotalStats().resident_bytes;
  for (const auto& [use, block] : used) {
    room -= BlockCache::SlotBytes(cache_->n_bytes(block));
    if (room < 0) break;
    warm.push_back(block);
  }
  return warm;
}

// Of all networks of a layer, ascending.
Status WeightStream::FillNeurons(int32_t layer, std::span<const int32_t> neurons) {
  const auto n_of_network = static_cast<int32_t>(placer_->neurons()->n_neurons());
  std::vector<int32_t> of_network;
  while (!neurons.empty()) {
    const int32_t network = neurons.front() / n_of_network;
    of_network.clear();
    for (const int32_t neuron : neurons) {
      if (neuron / n_of_network != network) break;
      of_network.push_back(neuron % n_of_network);
    }
    PANTRY_RETURN_IF_ERROR(neurons_->stream().Fill(layer, network, of_network));
    neurons = neurons.subspan(of_network.size());
  }
  return OkStatus();
}

Status WeightStream::WarmUp(ThreadPool& pool, std::span<const LayerUse> layers, const LoadProgress& progress) {
  PANTRY_CHECK(placer_->has_experts() || neurons_ != nullptr);
  const std::vector<BlockId> blocks = placer_->has_experts() ? WarmBlocks(layers) : std::vector<BlockId>();
  std::vector<std::vector<int32_t>> neurons;
  int64_t n_done = 0, n_all = 0, neuron_bytes = 0;
  for (const BlockId block : blocks) n_all += cache_->n_bytes(block);
  if (neurons_ != nullptr) {
    neuron_bytes = placer_->kept_neuron_bytes();
    std::vector<uint16_t> uses;
    for (int32_t layer = 0; layer < placer_->n_layers(); ++layer) {
      const LayerUse& use = layers[static_cast<size_t>(placer_->NumberOf(layer))];
      neurons_->cache().SeedHeat(layer, use.neurons);
      uses.insert(uses.end(), use.experts.begin(), use.experts.end());
    }
    neurons = neurons_->cache().WarmestAbsent(uses);
    for (const std::vector<int32_t>& of_layer : neurons) n_all += std::ssize(of_layer) * neuron_bytes;
  }
  if (n_all == 0) return OkStatus();
  // The next n_bytes get their memory from all threads first: filling it is one thread's work, and slower than the disk where pages are fresh.
  const auto goes_on = [&](int64_t n_bytes) {
    const auto lacks_memory = [&] {
      FitMemory();
      return held().committed_bytes() < n_done + n_bytes;
    };
    pantry::CommitMemory(held(), pool, clock_, INT64_MAX, FunctionRef<bool()>(lacks_memory));
    return !progress || progress(n_done, n_all);
  };
  const auto stopped = [] { return CancelledError("warming up was stopped"); };
  for (std::span<const BlockId> left = blocks; !left.empty();) {
    const std::span<const BlockId> next = left.first(std::min(left.size(), BlockStream::kBlocksAtOnce));
    int64_t n_bytes = 0;
    for (const BlockId block : next) n_bytes += cache_->n_bytes(block);
    if (!goes_on(n_bytes)) return stopped();
    stream_->Fill(pool, next);
    n_done += n_bytes;
    left = left.subspan(next.size());
  }
  for (size_t layer = 0; layer < neurons.size(); ++layer) {
    const int64_t n_bytes = std::ssize(neurons[layer]) * neuron_bytes;
    if (!goes_on(n_bytes)) return stopped();
    PANTRY_RETURN_IF_ERROR(FillNeurons(static_cast<int32_t>(layer), neurons[layer]));
    n_done += n_bytes;
  }
  return goes_on(0) ? OkStatus() : stopped();
}

}  // namespace pantry
