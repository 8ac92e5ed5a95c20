// SPDX-License-Identifier: Apache-2.0
#include "engine/run_forecast.h"

#include <algorithm>

namespace pantry {

ModelWork WorkOf(const ModelShape& shape, const ModelCost& cost, const ExpertPlacer* experts,
                 const SessionOptions& session) {
  ModelWork work;
  work.int8_macs = cost.layers.int8_macs;
  work.float_macs = cost.layers.float_macs;
  work.output_int8_macs = cost.output.int8_macs;
  work.output_float_macs = cost.output.float_macs;
  work.kv_bytes_per_position = SessionKvBytesPerPosition(shape, session);
  work.attention_macs_per_position = int64_t{2} * shape.n_layers * shape.n_heads * shape.head_dim;
  work.dense_bytes = cost.layers.n_bytes + cost.output.n_bytes;
  if (experts == nullptr || experts->n_blocks() == 0) return work;

  double file_bytes = 0, pieces = 0;  // of one expert of each layer
  for (int32_t layer = 0; layer < experts->n_layers(); ++layer) {
    const BlockId block = experts->Block(layer, 0);
    const int n_pieces = experts->n_pieces(block);
    for (int i = 0; i < n_pieces; ++i) file_bytes += static_cast<double>(experts->Piece(block, i).n_bytes);
    pieces += n_pieces;
    work.expert_bytes += static_cast<double>(experts->block_bytes(layer));
  }
  const auto n_layers = static_cast<double>(experts->n_layers());
  work.n_expert_layers = experts->n_layers();
  work.n_experts = shape.n_experts;
  work.n_experts_used = shape.n_experts_used;
  const auto used_bytes = static_cast<int64_t>(work.expert_bytes * shape.n_experts_used);
  work.dense_bytes = std::max<int64_t>(work.dense_bytes - used_bytes, 0);
  work.expert_bytes /= n_layers;
  work.expert_file_bytes = file_bytes / n_layers;
  work.expert_pieces = pieces / n_layers;
  return work;
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
  forecast.hits = ExpectedHits(forecast.cache_share);
  return forecast;
}

}  // namespace pantry
