// SPDX-License-Identifier: Apache-2.0
#include "cli/sim_input.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/parse_number.h"
#include "base/units.h"
#include "compute/one_row_products.h"
#include "engine/run_forecast.h"
#include "sim/host_costs.h"
#include "sim/routing_file.h"

namespace pantry {
namespace {

constexpr int64_t kDefaultTokens = 256;
constexpr int64_t kMostTokens = 1'000'000;
constexpr int64_t kRotationTokens = 32;
constexpr int64_t kTilePositions = 256;  // engine/kv_cache.h
constexpr double kMostTraceBytes = 256e6;
constexpr int64_t kProductBytes = 512 * kMiB;  // more than caches hold

// Parallel loops of a layer beside its experts or matrices (models/*.cc): as in sim/sim_model.cc.
constexpr double kExpertLayerSteps = 5;
constexpr double kMatrixSteps = 1;
constexpr double kRouterBytes = 4;  // of a weight: F32 in all files seen so far
// Of a layer's weights that every token reads, those before the router where it reads what enters the layer: q, k and v.
constexpr double kEarlyShare = 0.5;

double Of(int64_t n) { return static_cast<double>(n); }

// Matrices that are wanted together: an event of the stream (models/llama.cc and its siblings).
int StageOf(const std::string& tensor) {
  if (tensor.find("attn_output") != std::string::npos) return 1;
  if (tensor.find("attn_") != std::string::npos) return 0;
  return tensor.find("ffn_down") != std::string::npos ? 3 : 2;
}

void AddBlocks(const WeightPlacer& placer, double macs_of_all, SimModel& model) {
  double n_bytes = 0;
  const auto file_bytes = [&](BlockId block) {
    double sum = 0;
    for (int p = 0; p < placer.n_pieces(block); ++p) sum += Of(static_cast<int64_t>(placer.Piece(block, p).n_bytes));
    return sum;
  };
  const auto n_blocks = static_cast<uint32_t>(placer.n_blocks());
  for (uint32_t i = 0; i < n_blocks; ++i) n_bytes += file_bytes(BlockId(i));
  std::vector<BlockPiece> pieces;
  for (uint32_t i = 0; i < n_blocks; ++i) {
    const BlockId block(i);
    pieces.clear();
    for (int p = 0; p < placer.n_pieces(block); ++p) pieces.push_back(placer.Piece(block, p));
    model.AddBlock(placer.LayerOf(block), placer.block_bytes(block), macs_of_all * file_bytes(block) / n_bytes, pieces);
  }
}

void AddExpertSteps(const ModelShape& shape, const WeightPlacer& placer, const Work& layer, SimModel& model) {
  const bool routes_early = shape.architecture == "smallthinker";
  for (int32_t number = 0; number < shape.n_layers; ++number) {
    SimStep& step = model.steps.emplace_back();
    step.before = routes_early ? kEarlyShare * layer : layer;
    if (routes_early) step.between = (1 - kEarlyShare) * layer;
    if (number < placer.first_layer()) continue;
    step.layer = placer.LayerAt(number);
    step.first_block = placer.Block(step.layer, 0).value();
    step.n_blocks = static_cast<uint32_t>(placer.n_blocks(step.layer));
  }
}

void AddMatrixSteps(const WeightPlacer& placer, double row_bytes, SimModel& model) {
  int stage = -1;
  for (const WeightPlacer::Group& group : placer.groups()) {
    const int next = StageOf(group.tensors.front());
    const bool is_new = model.steps.empty() || next != stage || model.steps.back().layer != group.layer;
    stage = next;
    SimStep& step = is_new ? model.steps.emplace_back() : model.steps.back();
    if (is_new) {
      step.layer = group.layer;
      step.wants_all = true;
      step.first_block = group.first_block;
      step.before.n_steps = next == 1 ? 2 * kMatrixSteps : kMatrixSteps;
      if (next == 0) step.before.row_bytes = row_bytes;  // the layer's
    }
    step.n_blocks += group.n_blocks;
  }
}

SimModel ModelOfFile(const ModelShape& shape, const ModelNeeds& needs, const SessionOptions& session) {
  const ModelWork work = WorkOf(shape, needs.cost, needs.blocks, session);
  const WeightPlacer& placer = needs.blocks;
  SimModel model;
  model.name = shape.name;
  model.kv_bytes_per_position = Of(work.kv_bytes_per_position);
  model.attention_macs_per_position = Of(work.attention_macs_per_position);
  model.after = {Of(needs.cost.output.n_bytes), Of(work.output_int8_macs), Of(work.output_float_macs), 1};
  const bool has_experts = placer.has_experts();
  model.n_experts = has_experts ? shape.n_experts : 0;
  model.n_used = has_experts ? shape.n_experts_used : 0;
  model.steps_of_blocks = has_experts ? 3 : 1;
  model.block_cost = work.expert_cost;
  const double router = Of(shape.n_experts) * Of(shape.n_embd);
  if (has_experts) model.guess = {.bytes = kRouterBytes * router, .float_macs = router, .n_steps = 1};
  const double n_blocks_used = has_experts ? Of(placer.n_layers()) * shape.n_experts_used : 1;
  const double expert_macs = 3.0 * shape.n_embd * shape.n_ff_expert;
  const double block_macs = has_experts ? n_blocks_used * expert_macs : Of(work.int8_macs);  // of a token
  if (placer.n_blocks() > 0) {
    AddBlocks(placer, has_experts ? Of(placer.n_blocks()) * expert_macs : block_macs, model);
  }
  // What is left of the layers is every token's, and all layers' alike.
  const double share = 1.0 / shape.n_layers;
  Work layer = share * Work{Of(std::max<int64_t>(work.dense_bytes - needs.cost.output.n_bytes, 0)),
                            std::max(Of(work.int8_macs) - block_macs, 0.0), Of(work.float_macs), 0};
  layer.n_steps = kExpertLayerSteps;
  layer.row_bytes = RowBytesOfLayer(shape);
  if (has_experts || placer.n_blocks() == 0) AddExpertSteps(shape, placer, layer, model);
  else AddMatrixSteps(placer, layer.row_bytes, model);
  return model;
}

template <typename Number>
Status SetNumber(const std::string& name, std::string_view text, Number& value) {
  const auto number = ParseNumber<Number>(text);
  if (!number) return InvalidArgumentError("--trace: '{}' must be a number, found '{}'", name, text);
  value = *number;
  return OkStatus();
}

Status SetTraceOption(const std::string& name, std::string_view text, TraceOptions& options) {
  if (name == "tokens") return SetNumber(name, text, options.n_tokens);
  if (name == "seed") return SetNumber(name, text, options.seed);
  if (name == "topics") return SetNumber(name, text, options.n_topics);
  if (name == "stays") return SetNumber(name, text, options.topic_stays);
  if (name == "popularity") return SetNumber(name, text, options.popularity);
  if (name == "affinity") return SetNumber(name, text, options.affinity);
  if (name == "own") return SetNumber(name, text, options.own);
  return InvalidArgumentError(
      "--trace: '{}' is unknown; there are tokens, seed, topics, stays, popularity, affinity and own", name);
}

Result<TraceOptions> ParseTraceOptions(std::string_view text) {
  TraceOptions options;
  options.n_tokens = kDefaultTokens;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    const size_t equals = std::min(item.find('='), item.size());
    const std::string_view value = item.substr(std::min(equals + 1, item.size()));
    PANTRY_RETURN_IF_ERROR(SetTraceOption(std::string(item.substr(0, equals)), value, options));
  }
  if (options.n_tokens < 1 || options.n_tokens > kMostTokens || options.n_topics < 1 || options.n_topics > 8192) {
    return InvalidArgumentError("--trace: 1 to {} tokens and 1 to 8192 topics", kMostTokens);
  }
  for (const double weight : {options.popularity, options.affinity, options.own}) {
    if (!(std::abs(weight) <= 1e6)) {
      return InvalidArgumentError("--trace: popularity, affinity and own must be numbers of at most a million");
    }
  }
  if (!(options.topic_stays >= 0 && options.topic_stays <= 1)) {
    return InvalidArgumentError("--trace: stays must lie in 0 to 1");
  }
  return options;
}

// What MakeTrace() would hold: each topic's liking for each expert, and what each token wants and why.
Status CheckTraceMemory(const TraceOptions& options, const SimModel& model) {
  const double n_layers = Of(model.n_layers());
  const double logits_bytes = options.keeps_logits ? Of(model.n_experts) * sizeof(float) : 0;
  const double token_bytes =
      n_layers * (sizeof(RoutingTrace::Event) + Of(model.n_used) * sizeof(BlockId) + logits_bytes);
  const double n_bytes =
      Of(options.n_tokens) * token_bytes + Of(options.n_topics) * n_layers * Of(model.n_experts) * sizeof(double);
  if (n_bytes <= kMostTraceBytes) return OkStatus();
  return InvalidArgumentError(
      "--trace: {} tokens and {} topics of {} layers of {} experts would take {}, the most is {}", options.n_tokens,
      options.n_topics, model.n_layers(), model.n_experts, FormatBytes(static_cast<int64_t>(n_bytes)),
      FormatBytes(static_cast<int64_t>(kMostTraceBytes)));
}

// Of a dense model, which wants all of its matrices: "tokens=N", also behind "zipf:".
Result<int64_t> RotationTokens(std::string_view text) {
  if (text == "zipf") text = {};
  if (text.starts_with("zipf:")) text.remove_prefix(5);
  if (text.empty()) return kRotationTokens;
  int64_t n_tokens = 0;
  if (!text.starts_with("tokens=") || text.find(',') != std::string_view::npos) {
    return InvalidArgumentError("--trace: of a dense model only zipf:tokens=N, since every token wants all, found '{}'",
                                text);
  }
  PANTRY_RETURN_IF_ERROR(SetNumber("tokens", text.substr(7), n_tokens));
  if (n_tokens < 1 || n_tokens > kMostTokens) return InvalidArgumentError("--trace: 1 to {} tokens", kMostTokens);
  return n_tokens;
}

// A recording of another model would be replayed as if its experts were these.
Status CheckHeader(const std::string& path, const RoutingHeader& header, const SimInput& input) {
  const SimModel& model = input.model;
  if (header.n_layers != model.n_layers() || header.n_experts != model.n_experts || header.n_used != model.n_used) {
    return InvalidArgumentError("{} is of {} layers with {} of {} experts, the model has {} with {} of {}", path,
                                header.n_layers, header.n_used, header.n_experts, model.n_layers(), model.n_used,
                                model.n_experts);
  }
  if (!input.layers.empty() && header.first_layer != input.layers.front().number) {
    return InvalidArgumentError("{} begins with layer {}, the model's experts with layer {}", path, header.first_layer,
                                input.layers.front().number);
  }
  if (!input.is_of_file) return OkStatus();
  for (size_t i = 0; i < header.block_bytes.size(); ++i) {
    const int64_t n_bytes = model.blocks[i * static_cast<size_t>(model.n_experts)].n_bytes;
    if (header.block_bytes[i] == n_bytes) continue;
    return InvalidArgumentError("{} is of another model: an expert of its layer {} has {} bytes, of this one {}", path,
                                header.first_layer + static_cast<int64_t>(i), header.block_bytes[i], n_bytes);
  }
  return OkStatus();
}

// As engine/session.cc lends it: the keys' and values' tiles that no position has reached, and the scratch of longer runs.
std::function<int64_t(int64_t, int64_t)> IdleBytesOf(const ModelShape& shape, const SessionOptions& session,
                                                     const MemoryPlan& plan) {
  const int64_t tile_bytes = kTilePositions * SessionKvBytesPerPosition(shape, session);
  return [shape, session, plan, tile_bytes](int64_t n_positions, int64_t n_tokens) {
    SessionOptions run = session;
    run.n_batch = n_tokens;
    const int64_t kv_bytes = (n_positions + kTilePositions - 1) / kTilePositions * tile_bytes;
    return std::max<int64_t>(plan.kv_bytes - kv_bytes, 0) + plan.scratch_bytes - SessionScratchBytes(shape, run);
  };
}

}  // namespace

Result<SimInput> SimInputOf(const GgufFile& file, const EngineOptions& engine, const FreeMemory& memory) {
  if (file.pack() != nullptr && file.pack()->has_neurons()) {
    return UnsupportedError("{}: packs of single neurons are not simulated yet; take the GGUF file", file.path());
  }
  Result<ModelShape> shape = ParseModelShape(file.metadata());
  if (!shape.ok()) return shape.status().WithContext(file.path());
  PANTRY_ASSIGN_OR_RETURN(const ModelNeeds needs, NeedsOf(file, engine.isa.value_or(BestIsa())));
  SimInput input;
  input.is_of_file = true;
  Result<MemoryPlan> plan = PlanRun(needs, *shape, engine, memory);
  if (!plan.ok()) return plan.status().WithContext(file.path());
  input.memory = *std::move(plan);
  input.model = ModelOfFile(*shape, needs, engine.session);
  input.idle_bytes = IdleBytesOf(*shape, engine.session, input.memory);
  if (file.pack() != nullptr) {
    input.model.places_blocks = false;
    input.coalesce_bytes = static_cast<int64_t>(BlockReaderOptions().split_bytes);  // as engine/weight_stream.cc
  }
  for (int32_t layer = 0; layer < needs.blocks.n_layers(); ++layer) {
    input.layers.push_back({needs.blocks.NumberOf(layer), needs.blocks.Block(layer, 0)});
  }
  return input;
}

Status MeasureHost(const GgufFile& file, const EngineOptions& engine, DeviceProfile& device) {
  const Isa isa = engine.isa.value_or(BestIsa());
  PANTRY_ASSIGN_OR_RETURN(const ModelNeeds needs, NeedsOf(file, isa));
  if (needs.blocks.groups().empty())
    return InvalidArgumentError(
        "{}: --measure-host needs a model that can be streamed, and this one has nothing to leave in its file",
        file.path());
  std::vector<int64_t> block_bytes;
  for (uint32_t i = 0; i < needs.blocks.n_blocks(); ++i) block_bytes.push_back(needs.blocks.block_bytes(BlockId(i)));
  ThreadPool pool(device.n_cores);
  const TensorInfo* const matrix = file.FindTensor(needs.blocks.groups().front().tensors.front());
  if (matrix == nullptr || matrix->dims.size() < 2) return InternalError("{}: a block of no matrix", file.path());
  Result<OneRowProducts> products =
      OneRowProducts::Create(matrix->type, isa, matrix->dims[1], matrix->dims[0], kProductBytes);
  if (!products.ok()) return products.status().WithContext(file.path());
  const auto run = [&](double n_bytes) { return products->Run(pool, n_bytes); };
  const auto run_rows = [&](double n_bytes) { return products->RunRows(n_bytes); };
  return MeasureHostCosts({.files = file.Readers(),
                           .placer = needs.blocks,
                           .block_bytes = block_bytes,
                           .places_blocks = file.pack() == nullptr,
                           .products = OneRowReading(run),
                           .rows = OneRowReading(run_rows)},
                          pool, device);
}

Result<SimInput> SimInputOf(const SimShape& shape, int64_t budget_bytes, int64_t n_ctx) {
  SimInput input;
  input.model = ModelOf(shape, n_ctx);
  MemoryRequest request = input.model.memory;
  request.budget_bytes = budget_bytes > 0 ? budget_bytes : INT64_MAX / 4;
  PANTRY_ASSIGN_OR_RETURN(input.memory, PlanMemory(request));
  for (const SimStep& step : input.model.steps) {
    const bool is_new = input.layers.empty() || input.layers.back().number != step.layer;
    if (step.layer >= 0 && is_new) input.layers.push_back({step.layer, BlockId(step.first_block)});
  }
  return input;
}

Result<SimTrace> SimTraceOf(const std::string& text, const SimInput& input, bool keeps_logits) {
  const SimModel& model = input.model;
  SimTrace out;
  if (model.is_rotation()) {
    PANTRY_ASSIGN_OR_RETURN(out.n_tokens, RotationTokens(text));
    return out;
  }
  if (text.empty() || text == "zipf" || text.starts_with("zipf:")) {
    PANTRY_ASSIGN_OR_RETURN(TraceOptions options,
                            ParseTraceOptions(text.size() > 5 ? std::string_view(text).substr(5) : ""));
    options.ascends = true;
    options.keeps_logits = keeps_logits;
    PANTRY_RETURN_IF_ERROR(CheckTraceMemory(options, model));
    out.trace = MakeTrace({model.name, model.n_layers(), model.n_experts, model.n_used}, options);
    return out;
  }
  PANTRY_ASSIGN_OR_RETURN(RecordedRouting recorded, ReadRoutingTrace(text));
  PANTRY_RETURN_IF_ERROR(CheckHeader(text, recorded.header, input));
  out.trace = std::move(recorded.trace);
  return out;
}

}  // namespace pantry
