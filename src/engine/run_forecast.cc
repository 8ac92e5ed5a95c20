// SPDX-License-Identifier: Apache-2.0
#include "engine/run_forecast.h"

#include <algorithm>

#include "policy/planner/firing_curve.h"
#include "weights/gguf/pack_table.h"

namespace pantry {
namespace {

// Parallel loops of a layer of experts, five of them attention's and the router's. A dense model's are not counted: of a large one they are less than
// 1 % of a token, and a small one is read from the processor's caches, at a rate that nobody knows (SmolLM2-135M: foretold 262 tok/s, measured 356).
constexpr double kLoopsOfExpertLayer = 8;
// What a layer's blocks take of one core beside their placing, 24 us (sim/README.md), as parallel loops.
constexpr double kLoopsOfStream = 5;

}  // namespace

ModelWork WorkOf(const ModelShape& shape, const ModelCost& cost, const WeightPlacer& blocks,
                 const SessionOptions& session) {
  ModelWork work;
  work.int8_macs = cost.layers.int8_macs;
  work.float_macs = cost.layers.float_macs;
  work.output_int8_macs = cost.output.int8_macs;
  work.output_float_macs = cost.output.float_macs;
  SessionOptions one = session;  // whose token it is
  one.n_sessions = 1;
  work.kv_bytes_per_position = SessionKvBytesPerPosition(shape, one);
  work.attention_macs_per_position = int64_t{2} * shape.n_layers * shape.n_heads * shape.head_dim;
  work.dense_bytes = cost.layers.n_bytes + cost.output.n_bytes;
  if (shape.has_experts()) work.n_loops = shape.n_layers * kLoopsOfExpertLayer + 1;
  if (blocks.n_blocks() == 0) return work;

  double bytes = 0, file_bytes = 0, pieces = 0;  // of an expert of each layer, or of all its matrices
  for (int32_t layer = 0; layer < blocks.n_layers(); ++layer) {
    const int32_t n = blocks.has_experts() ? 1 : blocks.n_blocks(layer);
    for (int32_t i = 0; i < n; ++i) {
      const BlockId block = blocks.Block(layer, i);
      const int n_pieces = blocks.n_pieces(block);
      for (int p = 0; p < n_pieces; ++p) file_bytes += static_cast<double>(blocks.Piece(block, p).n_bytes);
      pieces += n_pieces;
      bytes += static_cast<double>(blocks.block_bytes(block));
    }
  }
  const auto n_layers = static_cast<double>(blocks.n_layers());
  work.n_expert_layers = blocks.n_layers();
  work.n_experts = blocks.has_experts() ? shape.n_experts : 1;
  work.n_experts_used = blocks.has_experts() ? shape.n_experts_used : 1;
  work.reads_ahead = !blocks.has_experts();
  work.dense_bytes = std::max<int64_t>(work.dense_bytes - static_cast<int64_t>(bytes * work.n_experts_used), 0);
  work.expert_bytes = bytes / n_layers;
  if (blocks.has_experts()) {
    const double of_token =
        static_cast<double>(work.int8_macs) / (n_layers * work.n_experts_used);  // where they are no floats
    work.expert_int8_macs = std::min(3.0 * shape.n_embd * shape.n_ff_expert, of_token);
  }
  if (blocks.groups().front().order == PackOrder::kRowsAndColumns) {
    work.expert_cost = FiredCost(kExpertFiringShare, kExpertScattered);
  }
  work.expert_file_bytes = file_bytes / n_layers;
  work.expert_pieces = pieces / n_layers;
  return work;
}

HitRange HitsOf(const MemoryPlan& plan, bool has_experts) {
  if (!plan.is_streamed || plan.block_bytes == 0) return {};
  const double share = static_cast<double>(plan.cache_bytes) / static_cast<double>(plan.block_bytes);
  return has_experts ? ExpectedHits(share) : HitRange{share, share, share};
}

int64_t PieceBytes(const ModelWork& work) {
  return work.expert_pieces > 0 ? static_cast<int64_t>(work.expert_file_bytes / work.expert_pieces) : 0;
}

RunForecast Forecast(const ModelWork& work, const MemoryPlan& plan, const HardwareProfile& machine, int32_t n_threads,
                     const SessionOptions& session) {
  RunForecast forecast;
  forecast.work = work;
  forecast.rates = RatesFor(machine, n_threads, PieceBytes(work));
  forecast.n_batch = session.n_batch;
  forecast.is_streamed = plan.is_streamed;
  if (!plan.is_streamed) return forecast;
  forecast.cache_share =
      plan.block_bytes > 0 ? static_cast<double>(plan.cache_bytes) / static_cast<double>(plan.block_bytes) : 1;
  forecast.hits = HitsOf(plan, !work.reads_ahead);
  forecast.work.n_loops += kLoopsOfStream * work.n_expert_layers;
  return forecast;
}

}  // namespace pantry
