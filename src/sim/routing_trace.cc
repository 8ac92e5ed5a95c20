// SPDX-License-Identifier: Apache-2.0
#include "sim/routing_trace.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr int kVocabulary = 8192;

double Normal(Rng& rng) {  // Box and Muller
  const double u = 1.0 - rng.NextDouble();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * rng.NextDouble());
}

// log(1 / (rank + offset)) for a random ranking, shifted and scaled to mean 0 and variance 1.
std::vector<double> ZipfLogits(Rng& rng, int n, double offset) {
  std::vector<double> values(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) values[static_cast<size_t>(i)] = -std::log(i + offset);
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double variance = 0;
  for (const double v : values) variance += (v - mean) * (v - mean) / n;
  for (double& v : values) v = (v - mean) / std::sqrt(variance);
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[rng.NextU64() % i]);
  return values;
}

// Tokens as text has them: some are frequent, and the topic of the one before is likely to stay.
class TokenSource {
 public:
  TokenSource(Rng& rng, const TraceOptions& options)
      : options_(options), of_topic_(static_cast<size_t>(options.n_topics)) {
    std::vector<double> logits = ZipfLogits(rng, kVocabulary, 10.0);
    for (int token = 0; token < kVocabulary; ++token) {
      Topic& topic = of_topic_[rng.NextU64() % of_topic_.size()];
      topic.tokens.push_back(token);
      topic.sums.push_back((topic.sums.empty() ? 0 : topic.sums.back()) +
                           std::exp(1.5 * logits[static_cast<size_t>(token)]));
    }
    for (size_t i = 0; i < of_topic_.size(); ++i) {  // a topic that got none says one word
      if (!of_topic_[i].tokens.empty()) continue;
      of_topic_[i].tokens.push_back(static_cast<int>(i % kVocabulary));
      of_topic_[i].sums.push_back(1);
    }
  }

  int Next(Rng& rng, int& topic) const {
    if (rng.NextDouble() >= options_.topic_stays) topic = static_cast<int>(rng.NextU64() % of_topic_.size());
    const Topic& from = of_topic_[static_cast<size_t>(topic)];
    const double at = rng.NextDouble() * from.sums.back();
    const auto it = std::upper_bound(from.sums.begin(), from.sums.end(), at);
    return from.tokens[std::min(static_cast<size_t>(it - from.sums.begin()), from.tokens.size() - 1)];
  }

 private:
  struct Topic {
    std::vector<int> tokens;
    std::vector<double> sums;
  };
  const TraceOptions& options_;
  std::vector<Topic> of_topic_;
};

}  // namespace

void RoutingTrace::Add(int layer, bool begins_step, std::span<const BlockId> blocks, int32_t n_tokens,
                       std::span<const float> its_logits) {
  events.push_back({static_cast<uint32_t>(wanted.size()), static_cast<uint16_t>(layer), begins_step, n_tokens});
  wanted.insert(wanted.end(), blocks.begin(), blocks.end());
  if (its_logits.empty()) return;
  PANTRY_CHECK(n_logits == 0 || n_logits == its_logits.size());
  n_logits = its_logits.size();
  events.back().logits_at = static_cast<int64_t>(logits.size());
  logits.insert(logits.end(), its_logits.begin(), its_logits.end());
}

std::span<const float> RoutingTrace::logits_of(size_t event) const {
  if (events[event].logits_at < 0) return {};
  return std::span(logits).subspan(static_cast<size_t>(events[event].logits_at), n_logits);
}

std::span<const BlockId> RoutingTrace::blocks_of(size_t event) const {
  const size_t begin = events[event].begin;
  const size_t end = event + 1 < events.size() ? events[event + 1].begin : wanted.size();
  return std::span(wanted).subspan(begin, end - begin);
}

size_t RoutingTrace::n_steps() const {
  return static_cast<size_t>(std::count_if(events.begin(), events.end(), [](const Event& e) { return e.begins_step; }));
}

RoutingTrace MakeTrace(const TraceShape& shape, const TraceOptions& options) {
  Rng rng(options.seed);
  const TokenSource source(rng, options);
  const auto n_experts = static_cast<size_t>(shape.n_experts);
  const auto n_topics = static_cast<size_t>(options.n_topics);
  std::vector<std::vector<double>> popularity;  // by layer: [n_experts]
  std::vector<std::vector<double>> affinity;    // by layer: [n_topics, n_experts]
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    popularity.push_back(ZipfLogits(rng, shape.n_experts, 4.0));
    affinity.emplace_back(n_topics * n_experts);
    for (double& value : affinity.back()) value = Normal(rng);
  }

  RoutingTrace trace;
  const size_t n_events = static_cast<size_t>(std::max(options.n_tokens, 0)) * static_cast<size_t>(shape.n_layers);
  trace.events.reserve(n_events);
  trace.wanted.reserve(n_events * static_cast<size_t>(shape.n_chosen));
  std::vector<double> logits(n_experts);
  std::vector<float> kept;
  if (options.keeps_logits) trace.logits.reserve(n_events * n_experts);
  std::vector<uint32_t> order(n_experts);
  std::vector<BlockId> chosen(static_cast<size_t>(shape.n_chosen));
  int topic = 0;
  for (int t = 0; t < options.n_tokens; ++t) {
    const int token = source.Next(rng, topic);
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      Rng own(options.seed * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(token) * 65536 + static_cast<uint64_t>(layer));
      const size_t l = static_cast<size_t>(layer);
      for (size_t e = 0; e < n_experts; ++e) {
        logits[e] = options.popularity * popularity[l][e] +
                    options.affinity * affinity[l][static_cast<size_t>(topic) * n_experts + e] +
                    options.own * Normal(own);
      }
      std::iota(order.begin(), order.end(), 0u);
      std::partial_sort(order.begin(), order.begin() + shape.n_chosen, order.end(),
                        [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
      for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = BlockId(static_cast<uint32_t>(l * n_experts) + order[i]);
      if (options.ascends) std::sort(chosen.begin(), chosen.end());
      if (options.keeps_logits) kept.assign(logits.begin(), logits.end());
      trace.Add(layer, layer == 0, chosen, 1, kept);
    }
  }
  return trace;
}

std::vector<BlockInfo> MakeBlocks(const TraceShape& shape, int64_t block_bytes) {
  std::vector<BlockInfo> blocks;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    blocks.insert(blocks.end(), static_cast<size_t>(shape.n_experts), BlockInfo{layer, block_bytes});
  }
  return blocks;
}

RoutingTrace MakeRotation(int n_layers, int n_tiles, int n_tokens) {
  RoutingTrace trace;
  std::vector<BlockId> tiles(static_cast<size_t>(n_tiles));
  for (int t = 0; t < n_tokens; ++t) {
    for (int layer = 0; layer < n_layers; ++layer) {
      for (int i = 0; i < n_tiles; ++i)
        tiles[static_cast<size_t>(i)] = BlockId(static_cast<uint32_t>(layer * n_tiles + i));
      trace.Add(layer, layer == 0, tiles);
    }
  }
  return trace;
}

double NeighbourOverlap(const RoutingTrace& trace) {
  std::vector<std::span<const BlockId>> before;  // by layer
  int64_t n_shared = 0;
  int64_t n_wanted = 0;
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const size_t layer = trace.events[i].layer;
    if (layer >= before.size()) before.resize(layer + 1);
    const auto now = trace.blocks_of(i);
    if (!before[layer].empty()) {
      n_wanted += static_cast<int64_t>(now.size());
      for (const BlockId block : now) n_shared += std::count(before[layer].begin(), before[layer].end(), block);
    }
    before[layer] = now;
  }
  return n_wanted > 0 ? static_cast<double>(n_shared) / static_cast<double>(n_wanted) : 0;
}

}  // namespace pantry
