// SPDX-License-Identifier: Apache-2.0
#include "sim/neuron_ablation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/rng.h"
#include "sim/sim_model.h"

namespace pantry {
namespace {

// In the file, of d = 4096 in 4 bits: 2 KiB of weights and 0.5 KiB of scales a row; a bundle is padded to two pages.
constexpr int64_t kRowBytes = 2560;
constexpr int64_t kPageBytes = 4096;
constexpr int64_t kMatrices = 3;
constexpr double kAttentionSteps = 3, kPredictorSteps = 2, kMatrixSteps = 3;
// Whose speeds are published: devices/oneplus12.json.
constexpr std::string_view kPublishedDevice = "OnePlus 12 (";

// Where neurons are, hottest first.
struct Layout {
  bool is_bundled = true;
  double fixed = 0;           // share of them in memory whichever they are
  double hot = 0;             // share in memory because they are hottest
  bool is_dense = false;      // the hot ones are computed whether they are named or not
  bool has_barriers = false;  // between the matrices of a layer
};

class NeuronModel {
 public:
  NeuronModel(const ModelShape& shape, const NeuronOptions& options, const Layout& layout)
      : shape_(shape), options_(options), layout_(layout) {
    Divide();
    model_.name = "bamboo-7b";
    model_.n_experts = n_blocks();
    model_.n_used = 1;  // each block is of one neuron, for one token
    model_.places_blocks = false;
    model_.steps_of_blocks = layout.has_barriers ? kMatrixSteps : 0;  // without, whoever is free takes the next cluster
    model_.block_cost.bytes = model_.block_cost.traffic = SparseBytes() / (kPageBytes * (1 + options.fires));
    for (int32_t layer = 0; layer < shape.n_layers; ++layer) AddLayer(layer);
    const double head = 1.0 * shape.n_vocab * shape.n_embd;
    model_.after = {.bytes = kQ4Bytes * head, .int8_macs = head, .n_steps = 1};
    model_.kv_bytes_per_position = 4.0 * shape.n_layers * shape.n_kv_heads * shape.head_dim;
    model_.attention_macs_per_position = 2.0 * shape.n_layers * shape.n_heads * shape.head_dim;
  }

  const SimModel& model() const { return model_; }
  double ffn_bytes() const { return 2.0 * kPageBytes * shape_.n_layers * shape_.n_ff; }
  // Of what a token names, in blocks, what is in memory anyhow.
  double resident_blocks() const { return shape_.n_layers * resident_ * (1 + options_.fires); }

  // Which neurons are named, hottest first in each layer: of each the gate, and the rest if it fires.
  RoutingTrace Trace(int64_t n_tokens) const {
    Rng rng(options_.seed);
    const auto n_layers = static_cast<size_t>(shape_.n_layers), n = likelihoods_.size();
    enum : uint8_t { kRests, kNamed, kFires };
    std::vector<uint8_t> states(n_layers * n);
    const auto draw = [&](size_t i) -> uint8_t {
      if (rng.NextDouble() >= likelihoods_[i % n]) return kRests;
      return rng.NextDouble() < options_.fires ? kFires : kNamed;
    };
    for (size_t i = 0; i < states.size(); ++i) states[i] = draw(i);
    RoutingTrace trace;
    std::vector<BlockId> wanted;
    for (int64_t token = 0; token < n_tokens; ++token) {
      for (size_t layer = 0; layer < n_layers; ++layer) {
        wanted.clear();
        for (size_t i = layer * n; i < (layer + 1) * n; ++i) {
          if (rng.NextDouble() >= options_.stays) states[i] = draw(i);
          if (states[i] != kRests) wanted.emplace_back(static_cast<uint32_t>(2 * i));
          if (states[i] == kFires) wanted.emplace_back(static_cast<uint32_t>(2 * i + 1));
        }
        trace.Add(static_cast<int>(layer), layer == 0, wanted);
      }
    }
    return trace;
  }

 private:
  int32_t n_blocks() const { return 2 * static_cast<int32_t>(likelihoods_.size()); }
  double NeuronBytes() const { return kMatrices * kQ4Bytes * shape_.n_embd; }
  // From memory, of a neuron that is named: its gate, and the rest if that fires.
  double SparseBytes() const { return options_.overread * NeuronBytes() * (1 + 2 * options_.fires) / kMatrices; }

  // Which neurons may have to be read, and how many of the others are named.
  void Divide() {
    const std::vector<double> all = NamingLikelihoods(shape_.n_ff, options_);
    n_hot_ = static_cast<int32_t>(layout_.hot * shape_.n_ff);
    const auto n_fixed = [&](size_t n) { return std::floor(layout_.fixed * static_cast<double>(n)); };
    for (size_t i = 0; i < all.size(); ++i) {
      const bool is_resident = i < static_cast<size_t>(n_hot_) || n_fixed(i + 1) > n_fixed(i);
      if (is_resident) resident_ += all[i];
      else likelihoods_.push_back(all[i]);
    }
  }

  void AddLayer(int32_t layer) {
    const double d = shape_.n_embd, n_q = 1.0 * shape_.n_heads * shape_.head_dim,
                 n_kv = 1.0 * shape_.n_kv_heads * shape_.head_dim;
    const double attention = d * (2 * n_q + 2 * n_kv);
    SimStep& step = model_.steps.emplace_back();
    step.before = {.bytes = kQ4Bytes * attention, .int8_macs = attention, .n_steps = kAttentionSteps};
    const double n_predicted = shape_.n_ff - (layout_.is_dense ? n_hot_ : 0);
    const double predictor_bytes = options_.predictor * NeuronBytes() * n_predicted;
    step.choosing = {.bytes = predictor_bytes, .float_macs = predictor_bytes / 2, .n_steps = kPredictorSteps};
    const double macs = kMatrices * d;
    const double n_rows = 1 + 2 * options_.fires;  // of a neuron's kMatrices, that are computed if it is named
    if (layout_.is_dense) step.beside = {.bytes = NeuronBytes() * n_hot_, .int8_macs = macs * n_hot_};
    else step.beside = {.bytes = SparseBytes() * resident_, .int8_macs = n_rows * d * resident_};
    step.layer = layer;
    step.first_block = static_cast<uint32_t>(model_.blocks.size());
    step.n_blocks = static_cast<uint32_t>(n_blocks());
    for (int32_t i = 0; i < n_blocks() / 2; ++i) {
      model_.AddBlock(layer, kPageBytes, d, layout_.is_bundled ? Page() : Rows(layer, i, 0, 1));
      model_.AddBlock(layer, kPageBytes, 2 * d, layout_.is_bundled ? Page() : Rows(layer, i, 1, kMatrices));
    }
  }

  std::vector<BlockPiece> Page() {
    const uint64_t at = end_;
    end_ += kPageBytes;
    return {{0, at, kPageBytes}};
  }

  // The pages in which a row of some matrices lies, where nothing aligns it: each is a piece.
  std::vector<BlockPiece> Rows(int32_t layer, int32_t row, int64_t first, int64_t end) const {
    std::vector<BlockPiece> pieces;
    for (int64_t matrix = first; matrix < end; ++matrix) {
      const int64_t begin = ((layer * kMatrices + matrix) * shape_.n_ff + row) * kRowBytes;
      for (int64_t page = begin / kPageBytes; page <= (begin + kRowBytes - 1) / kPageBytes; ++page) {
        pieces.push_back({0, static_cast<uint64_t>(page * kPageBytes), kPageBytes});
      }
    }
    return pieces;
  }

  const ModelShape& shape_;
  const NeuronOptions& options_;
  const Layout layout_;
  int32_t n_hot_ = 0;
  double resident_ = 0;              // of a layer, named and in memory anyhow
  std::vector<double> likelihoods_;  // of those that may have to be read
  SimModel model_;
  uint64_t end_ = 0;  // of what lies in the file so far
};

struct Step {
  const char* name;
  double published;
  Layout layout;
  double cache = 0;  // share of the FFN's bundles; 0: one layer's named ones
  bool overlaps = false;
  bool has_second = false;
  bool is_in_memory = false;
  bool is_derived = false;  // `published`
};

Result<AblationStep> RunStep(const Step& step, const ModelShape& shape, DeviceProfile device,
                             const NeuronOptions& options) {
  const NeuronModel model(shape, options, step.layout);
  const RoutingTrace trace = model.Trace(options.n_tokens + (step.cache > 0 ? options.n_warm : 0));
  SimOptions sim;
  if (!step.is_in_memory) {
    size_t most = 0;  // of an event
    for (size_t i = 0; i < trace.events.size(); ++i) most = std::max(most, trace.blocks_of(i).size());
    const auto layer_bytes = static_cast<int64_t>(most + 8) * kPageBytes;
    sim.cache_bytes = std::max(layer_bytes, static_cast<int64_t>(step.cache * model.ffn_bytes()));
    sim.n_cores = std::clamp(device.n_cores - 1, 1, options.n_computing);
  }
  sim.policy.kind = PolicyKind::kLru;
  sim.guess_recall = 0;
  sim.reads.coalesce_bytes = 0;
  sim.overlap = step.overlaps ? Overlap::kAll : Overlap::kNothing;
  sim.flash_depth = step.overlaps ? 0 : 1;
  sim.first_position = options.first_position;
  sim.skip_steps = static_cast<int64_t>(trace.n_steps()) - (options.n_tokens - options.n_skipped);
  const bool is_published = device.name.starts_with(kPublishedDevice);
  if (!step.has_second) device.second.reset();
  PANTRY_ASSIGN_OR_RETURN(SimReport report, Simulate(model.model(), trace, device, sim));
  const double resident = static_cast<double>(report.n_tokens) * model.resident_blocks();
  const double wanted = resident + static_cast<double>(report.cache.n_demanded);
  const double found = (resident + static_cast<double>(report.cache.n_hits)) / wanted;
  return AblationStep{step.name, is_published ? step.published : 0, is_published && step.is_derived,
                      step.is_in_memory ? 1 : found, std::move(report)};
}

}  // namespace

std::vector<double> NamingLikelihoods(int32_t n_neurons, const NeuronOptions& options) {
  const auto n = static_cast<size_t>(n_neurons);
  std::vector<double> weights(n);
  for (size_t i = 0; i < n; ++i) weights[i] = std::pow(static_cast<double>(i + 1), -options.skew);
  double low = 0, high = std::pow(static_cast<double>(n), options.skew);  // of c, until the mean is `named`
  for (int round = 0; round < 100; ++round) {
    const double c = (low + high) / 2;
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0, [&](double so_far, double weight) {
      return so_far + std::min(1.0, c * weight);
    });
    (sum > options.named * static_cast<double>(n) ? high : low) = c;
  }
  for (double& weight : weights) weight = std::min(1.0, low * weight);
  return weights;
}

Status NeuronOptions::Validate() const {
  const auto is_share = [](double share) { return share > 0 && share < 1; };
  if (!is_share(named) || !is_share(in_memory) || !is_share(dense) || !(hot >= 0 && hot < in_memory) ||
      !(stays >= 0 && stays < 1) || !(fires > 0 && fires <= 1) || !(predictor >= 0 && predictor < 1)) {
    return InvalidArgumentError("neurons: shares must lie in 0 to 1, and what is hot must fit in memory");
  }
  if (!(skew >= 0 && skew < 4))
    return InvalidArgumentError("neurons: the skew is {}, but must lie in 0 to below 4", skew);
  if (!(overread >= 1 && overread < 100)) {
    return InvalidArgumentError("neurons: {} bytes are read for each, but must lie in 1 to below 100", overread);
  }
  if (n_computing < 1) return InvalidArgumentError("neurons: {} cores compute, expected 1 or more", n_computing);
  if (first_position < 0) return InvalidArgumentError("neurons: position {} is negative", first_position);
  if (n_skipped < 0 || n_tokens <= n_skipped || n_warm < 0) return InvalidArgumentError("neurons: no token to count");
  return OkStatus();
}

Result<std::vector<AblationStep>> NeuronAblation(const DeviceProfile& device, const NeuronOptions& options) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  PANTRY_RETURN_IF_ERROR(device.Validate());
  if (!device.second) return InvalidArgumentError("device '{}' has no second executor", device.name);
  PANTRY_ASSIGN_OR_RETURN(const SimShape shape, FindShape("bamboo-7b"));
  const Layout rows = {.is_bundled = false, .fixed = options.in_memory, .has_barriers = true};
  const Layout bundles = {.fixed = options.in_memory, .has_barriers = true};
  const Layout cached = {.hot = options.hot, .has_barriers = true};
  const Layout pipelined = {.hot = options.hot};
  const Layout divided = {.hot = options.hot, .is_dense = true};
  const double cache = options.in_memory - options.hot;
  const Step steps[] = {
      {"base", 0.40, rows},
      {"+bundle", 1.09, bundles},
      {"+cache", 4.18, cached, cache},
      {"+pipeline", 9.60, pipelined, cache, true},
      {"+unit", 11.07, divided, cache, true, true},
      // 20 tok/s are 1.1 times what the cores reach alone (7.3, 7.4).
      {"in memory", 20.0 / 1.1, {.hot = options.dense}, 0, true, false, true, true},
      {"in memory+unit", 20.0, {.hot = options.dense, .is_dense = true}, 0, true, true, true},
  };
  std::vector<AblationStep> done;
  for (const Step& step : steps) {
    PANTRY_ASSIGN_OR_RETURN(AblationStep row, RunStep(step, shape.shape, device, options));
    done.push_back(std::move(row));
  }
  return done;
}

}  // namespace pantry
