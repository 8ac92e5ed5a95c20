// SPDX-License-Identifier: Apache-2.0
#include "sim/neuron_ablation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/rng.h"
#include "sim/sim_model.h"

namespace pantry {
namespace {

// Of d = 4096 in 4 bits: 2 KiB of weights and 0.5 KiB of scales a row; a bundle is padded to two pages.
constexpr int64_t kRowBytes = 2560;
constexpr int64_t kPageBytes = 4096;
constexpr int64_t kBundleBytes = 2 * kPageBytes;
constexpr double kAttentionSteps = 3;
// Whose speeds are published: devices/oneplus12.json.
constexpr std::string_view kPublishedDevice = "OnePlus 12 (";

struct Layout {
  bool is_bundled = false;
  double hot = 0;  // share of neurons that are no blocks
};

class NeuronModel {
 public:
  NeuronModel(const ModelShape& shape, const NeuronOptions& options, const Layout& layout)
      : shape_(shape), options_(options), n_hot_(static_cast<int32_t>(layout.hot * shape.n_ff)) {
    model_.name = "bamboo-7b";
    model_.n_experts = n_cold();
    model_.n_used = 1;  // each block is of one neuron, for one token
    model_.places_blocks = false;
    model_.steps_of_blocks = 0;  // whoever is free takes the next cluster
    for (int32_t layer = 0; layer < shape.n_layers; ++layer) AddLayer(layer, layout.is_bundled);
    const double head = 1.0 * shape.n_vocab * shape.n_embd;
    model_.after = {.bytes = kQ4Bytes * head, .int8_macs = head, .n_steps = 1};
    model_.kv_bytes_per_position = 4.0 * shape.n_layers * shape.n_kv_heads * shape.head_dim;
    model_.attention_macs_per_position = 2.0 * shape.n_layers * shape.n_heads * shape.head_dim;
  }

  const SimModel& model() const { return model_; }
  double ffn_bytes() const { return 1.0 * shape_.n_layers * shape_.n_ff * kBundleBytes; }

  // Which neurons are active, hottest first in each layer; the hot ones are computed anyhow.
  RoutingTrace Trace(int64_t n_tokens) const {
    const std::vector<double> likelihood = Likelihoods();
    Rng rng(options_.seed);
    const auto n_layers = static_cast<size_t>(shape_.n_layers), n = static_cast<size_t>(n_cold());
    std::vector<uint8_t> is_active(n_layers * n);
    for (size_t i = 0; i < is_active.size(); ++i) is_active[i] = rng.NextDouble() < likelihood[i % n] ? 1 : 0;
    RoutingTrace trace;
    std::vector<BlockId> wanted;
    for (int64_t token = 0; token < n_tokens; ++token) {
      for (size_t layer = 0; layer < n_layers; ++layer) {
        wanted.clear();
        for (size_t i = layer * n; i < (layer + 1) * n; ++i) {
          if (rng.NextDouble() >= options_.stays) is_active[i] = rng.NextDouble() < likelihood[i % n] ? 1 : 0;
          if (is_active[i] != 0) wanted.emplace_back(static_cast<uint32_t>(i));
        }
        trace.Add(static_cast<int>(layer), layer == 0, wanted);
      }
    }
    return trace;
  }

 private:
  int32_t n_cold() const { return shape_.n_ff - n_hot_; }

  void AddLayer(int32_t layer, bool is_bundled) {
    const double d = shape_.n_embd, n_q = 1.0 * shape_.n_heads * shape_.head_dim,
                 n_kv = 1.0 * shape_.n_kv_heads * shape_.head_dim;
    const double attention = d * (2 * n_q + 2 * n_kv), ffn = 3 * d * shape_.n_ff;
    SimStep& step = model_.steps.emplace_back();
    step.before = {.bytes = kQ4Bytes * attention, .int8_macs = attention, .n_steps = kAttentionSteps};
    step.before += Work{.bytes = options_.predictor * kQ4Bytes * ffn, .float_macs = options_.predictor * ffn / 4};
    step.beside = {.bytes = 3.0 * kRowBytes * n_hot_, .int8_macs = 3 * d * n_hot_};
    step.layer = layer;
    step.first_block = static_cast<uint32_t>(model_.blocks.size());
    step.n_blocks = static_cast<uint32_t>(n_cold());
    for (int32_t i = 0; i < n_cold(); ++i) {
      model_.AddBlock(layer, kBundleBytes, 3 * d, is_bundled ? Bundle() : Rows(layer, i));
    }
  }

  std::vector<BlockPiece> Bundle() {
    const uint64_t at = end_;
    end_ += kBundleBytes;
    return {{0, at, kPageBytes}, {0, at + kPageBytes, kPageBytes}};
  }

  // The pages in which the three rows lie, where nothing aligns them: each is a piece.
  std::vector<BlockPiece> Rows(int32_t layer, int32_t row) const {
    std::vector<BlockPiece> pieces;
    const uint64_t matrix_bytes = static_cast<uint64_t>(shape_.n_ff) * kRowBytes;
    for (int32_t matrix = 0; matrix < 3; ++matrix) {
      const uint64_t begin = (static_cast<uint64_t>(layer) * 3 + static_cast<uint64_t>(matrix)) * matrix_bytes +
                             static_cast<uint64_t>(row) * kRowBytes;
      for (uint64_t page = begin / kPageBytes; page <= (begin + kRowBytes - 1) / kPageBytes; ++page) {
        pieces.push_back({0, page * kPageBytes, kPageBytes});
      }
    }
    return pieces;
  }

  // Of the neurons that are blocks, the hottest first.
  std::vector<double> Likelihoods() const {
    const auto n = static_cast<size_t>(shape_.n_ff);
    std::vector<double> weights(n);
    for (size_t i = 0; i < n; ++i) weights[i] = std::pow(static_cast<double>(i + 1), -options_.skew);
    double low = 0, high = static_cast<double>(n);  // of c, until the mean is `active`
    for (int round = 0; round < 100; ++round) {
      const double c = (low + high) / 2;
      double sum = 0;
      for (const double weight : weights) sum += std::min(1.0, c * weight);
      (sum > options_.active * static_cast<double>(n) ? high : low) = c;
    }
    for (double& weight : weights) weight = std::min(1.0, low * weight);
    weights.erase(weights.begin(), weights.begin() + n_hot_);
    return weights;
  }

  const ModelShape& shape_;
  const NeuronOptions& options_;
  const int32_t n_hot_;
  SimModel model_;
  uint64_t end_ = 0;  // of what lies in the file so far
};

struct Step {
  const char* name;
  double published;
  Layout layout;
  double cache = 0;  // share of the FFN's bundles; 0: one layer's active ones
  bool overlaps = false;
  bool has_second = false;
};

Result<SimReport> RunStep(const Step& step, const NeuronModel& model, const RoutingTrace& trace, DeviceProfile device,
                          const NeuronOptions& options) {
  if (!step.has_second) device.second.reset();
  SimOptions sim;
  size_t most = 0;  // of an event
  for (size_t i = 0; i < trace.events.size(); ++i) most = std::max(most, trace.blocks_of(i).size());
  const auto layer_bytes = static_cast<int64_t>(most + 8) * kBundleBytes;
  sim.cache_bytes = std::max(layer_bytes, static_cast<int64_t>(step.cache * model.ffn_bytes()));
  sim.policy.kind = PolicyKind::kLru;
  sim.guess_recall = 0;
  sim.reads.coalesce_bytes = 0;
  sim.overlap = step.overlaps ? Overlap::kAll : Overlap::kNothing;
  sim.flash_depth = step.overlaps ? 0 : 1;
  sim.skip_steps = static_cast<int64_t>(trace.n_steps()) - (options.n_tokens - options.n_skipped);
  return Simulate(model.model(), trace, device, sim);
}

}  // namespace

Status NeuronOptions::Validate() const {
  const auto is_share = [](double share) { return share > 0 && share < 1; };
  if (!is_share(active) || !is_share(in_memory) || hot < 0 || hot >= in_memory || stays < 0 || stays >= 1 ||
      predictor < 0 || !(skew >= 0 && skew < 4)) {
    return InvalidArgumentError("neurons: shares must lie in 0 to 1, and what is hot must fit in memory");
  }
  if (n_skipped < 0 || n_tokens <= n_skipped || n_warm < 0) return InvalidArgumentError("neurons: no token to count");
  return OkStatus();
}

Result<std::vector<AblationStep>> NeuronAblation(const DeviceProfile& device, const NeuronOptions& options) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  if (!device.second) return InvalidArgumentError("device '{}' has no second executor", device.name);
  PANTRY_ASSIGN_OR_RETURN(const SimShape shape, FindShape("bamboo-7b"));
  const double cold_cache = options.in_memory - options.hot;
  const Step steps[] = {
      {"base", 0.40, {false, 0}},
      {"+bundle", 1.09, {true, 0}},
      {"+cache", 4.18, {true, options.hot}, cold_cache},
      {"+pipeline", 9.60, {true, options.hot}, cold_cache, true},
      {"+unit", 11.07, {true, options.hot}, cold_cache, true, true},
  };
  std::vector<AblationStep> done;
  for (const Step& step : steps) {
    const NeuronModel model(shape.shape, options, step.layout);
    const RoutingTrace trace = model.Trace(options.n_tokens + (step.cache > 0 ? options.n_warm : 0));
    PANTRY_ASSIGN_OR_RETURN(SimReport report, RunStep(step, model, trace, device, options));
    const bool is_published = device.name.starts_with(kPublishedDevice);
    done.push_back({step.name, is_published ? step.published : 0, std::move(report)});
  }
  return done;
}

}  // namespace pantry
