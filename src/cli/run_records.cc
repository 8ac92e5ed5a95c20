// SPDX-License-Identifier: Apache-2.0
#include "cli/run_records.h"

#include <numeric>
#include <string>
#include <utility>

#include "base/clock.h"

namespace pantry {
namespace {

std::vector<StreamedLayer> LayersOf(const WeightPlacer& placer) {
  std::vector<StreamedLayer> layers;
  for (int32_t layer = 0; layer < placer.n_layers(); ++layer) {
    layers.push_back({placer.NumberOf(layer), placer.Block(layer, 0)});
  }
  return layers;
}

// Of an expert of layer `layer` in the file; 0 where it lies otherwise than in three tensors of all experts.
int64_t ExpertBytes(const Engine& engine, int32_t layer) {
  int64_t n_bytes = 0;
  for (const char* const part : {"gate", "up", "down"}) {
    const TensorInfo* const tensor = engine.file().FindTensor(fmt::format("blk.{}.ffn_{}_exps.weight", layer, part));
    if (tensor == nullptr) return 0;
    n_bytes += static_cast<int64_t>(tensor->n_bytes) / engine.shape().n_experts;
  }
  return n_bytes;
}

RoutingHeader HeaderOf(Engine& engine) {
  const ModelShape& shape = engine.shape();
  RoutingHeader header;
  header.model = shape.name;
  header.first_layer = shape.n_dense_layers;
  header.n_layers = shape.n_layers - shape.n_dense_layers;
  header.n_experts = shape.n_experts;
  header.n_used = shape.n_experts_used;
  header.is_ranked = true;
  for (int32_t layer = shape.n_dense_layers; layer < shape.n_layers; ++layer) {
    header.block_bytes.push_back(ExpertBytes(engine, layer));
    if (header.block_bytes.back() == 0) {
      header.block_bytes.clear();
      break;
    }
  }
  return header;
}

}  // namespace

Result<std::unique_ptr<RunRecords>> RunRecords::Open(const CliOptions& options, Logger& log) {
  if (options.stats.empty() && options.trace.empty() && options.routing_trace.empty()) return {nullptr};
  auto records = std::unique_ptr<RunRecords>(new RunRecords());
  if (!options.stats.empty()) {
    PANTRY_ASSIGN_OR_RETURN(records->stats_, RunStats::Open(options.stats, log));
  }
  if (!options.trace.empty()) {
    PANTRY_ASSIGN_OR_RETURN(records->trace_file_, TraceFile::Open(options.trace, SteadyClock().NowUs(), log));
  }
  if (!options.routing_trace.empty()) {
    PANTRY_ASSIGN_OR_RETURN(records->routing_, RoutingFileWriter::Create(options.routing_trace, log));
  }
  return records;
}

void RunRecords::AttachTrace(Engine& engine) {
  WeightStream* const stream = engine.stream();
  auto layers = stream != nullptr ? LayersOf(stream->placer()) : std::vector<StreamedLayer>();
  trace_ = std::make_unique<RunTrace>(std::move(trace_file_), engine.shape().name, std::move(layers));
  if (stream != nullptr) stream->Observe(trace_.get());
}

void RunRecords::AttachRouting(Engine& engine) {
  if (!engine.shape().has_experts()) {
    engine.log().Warning("--routing-trace: no effect here because the model has no experts");
    routing_.reset();
    return;
  }
  routing_->Begin(HeaderOf(engine));
  engine.ObserveRouting(routing_.get());
}

void RunRecords::Attach(std::unique_ptr<RunRecords> records, Engine& engine) {
  if (records == nullptr) return;
  if (records->stats_ != nullptr) records->stats_->Begin(engine);
  if (records->trace_file_ != nullptr) records->AttachTrace(engine);
  if (records->routing_ != nullptr) records->AttachRouting(engine);
  engine.ObserveRuns([records = std::shared_ptr<RunRecords>(std::move(records)), &engine](const RunReport& run) {
    const int64_t now_us = engine.clock().NowUs();
    if (records->stats_ != nullptr) records->stats_->Write(run, engine);
    if (records->trace_ != nullptr) records->trace_->Run(run, now_us);
    if (records->routing_ != nullptr) records->routing_->EndRun(run.n_tokens);
  });
}

}  // namespace pantry
