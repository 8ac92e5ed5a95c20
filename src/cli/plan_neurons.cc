// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_neurons.h"

#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/model_path.h"
#include "cli/plan_figures.h"
#include "engine/find_profile.h"
#include "engine/neuron_forecast.h"
#include "engine/pack_plan.h"
#include "weights/gguf/pack_table.h"
#include "weights/pack/source_hash.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

// The GGUF file that a pack was made of, if it lies beside it; null: it does not, or it is another model's.
std::unique_ptr<GgufFile> SourceOf(const GgufFile& pack) {
  std::filesystem::path path = pack.path();
  path.replace_extension(".gguf");
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return nullptr;
  Result<std::unique_ptr<GgufFile>> file = GgufFile::Open(path);
  return file.ok() && IsPackOf(pack, **file) ? *std::move(file) : nullptr;
}

void FindProfile(const GgufFile& file, const ModelShape& shape, const std::string& wanted, NeuronPlanReport& report) {
  const std::string path = ProfilePath(wanted, file);
  const Result<NeuronProfile> profile = ReadProfileOf(file, shape, path);
  if (!profile.ok()) {
    report.why_guess = profile.status().message();
    report.firing = FiringCurve::Guess();
    return;
  }
  report.profile = path;
  report.n_profile_tokens = profile->n_tokens;
  report.firing = CurveOf(*profile);
}

// `way` under the budget, with the context of the way by neuron; nothing where it does not fit.
std::optional<WayRequest> WayOf(RunWay way, const GgufFile& gguf, const ModelShape& shape,
                                const NeuronPlanOptions& options, const NeuronPlanReport& report) {
  EngineOptions engine = options.engine;
  engine.stream = way == RunWay::kResident ? StreamMode::kOff : StreamMode::kOn;
  engine.memory_bytes = report.memory.budget_bytes;
  engine.session.n_ctx = report.memory.n_ctx;
  const Result<ModelNeeds> needs = NeedsOf(gguf, engine.isa.value_or(BestIsa()), WeightPlacer());
  if (!needs.ok()) return std::nullopt;
  const Result<MemoryPlan> plan = PlanRun(*needs, shape, engine, options.memory);
  if (!plan.ok()) return std::nullopt;
  const ModelWork work =
      way == RunWay::kResident ? report.resident_work() : WorkOf(shape, needs->cost, needs->blocks, engine.session);
  return WayRequest{.way = way,
                    .work = work,
                    .pinned_bytes = plan->total_bytes() - plan->cache_bytes,
                    .block_bytes = way == RunWay::kResident ? plan->cache_bytes : plan->block_bytes};
}

std::string ProfileText(const NeuronPlanReport& plan) {
  if (!plan.profile.empty()) return fmt::format("by {}, of {} tokens", plan.profile, plan.n_profile_tokens);
  return fmt::format("a guess from what is published of other models: {}", plan.why_guess);
}

std::string BatchTable(const NeuronPlanReport& plan) {
  std::string out =
      fmt::format("{:<20}{:<21}{:<23}{:<11}{:<23}{}\n", "tokens together", "neurons that fire", "of them in memory",
                  "reads", plan.has_speeds ? "tokens/s" : "", plan.has_speeds ? "set by" : "");
  for (const BatchPlan& batch : plan.plan.batches) {
    const std::string hits = fmt::format("about {} % ({} to {})", Percent(batch.hits.likely), Percent(batch.hits.low),
                                         Percent(batch.hits.high));
    out += fmt::format(
        "{:<20}{:<21}{:<23}{:<11.0f}{:<23}{}\n", batch.n_tokens,
        fmt::format("{:.0f} ({} %)", batch.n_firing, Percent(batch.n_firing / static_cast<double>(plan.n_neurons))),
        hits, batch.n_reads, plan.has_speeds ? AboutSpeed(batch.run, batch.n_tokens) : "",
        plan.has_speeds ? ResourceName(batch.run.binds) : "");
  }
  return out;
}

std::string HeldText(const WayPlan& way) {
  switch (way.way) {
    case RunWay::kResident: return "all weights";
    case RunWay::kMatrices: return Percent(way.held_share) + " % of the layers";
    case RunWay::kNeurons: return Percent(way.held_share) + " % of the neurons";
  }
  return "";
}

std::string WaysTable(const NeuronPlanReport& plan) {
  const bool wants_speed = plan.least_tok_per_s > 0;
  const auto line = [wants_speed](std::string_view way, std::string_view held, std::string_view n_threads,
                                  std::string_view depth, std::string_view speed, std::string_view binds,
                                  std::string_view least) {
    const std::string head = fmt::format("{:<20}{:<21}{:<9}{:<15}{:<26}", way, held, n_threads, depth, speed);
    return wants_speed ? fmt::format("{}{:<20}{}\n", head, binds, least) : fmt::format("{}{}\n", head, binds);
  };
  std::string out = line("ways to run it", "in memory", "threads", "reads at once", "tokens/s", "set by",
                         fmt::format("memory for {:.4g} tok/s", plan.least_tok_per_s));
  for (const WayPlan& way : plan.plan.ways) {
    const std::string least = way.least_budget_bytes > 0 ? FormatBytes(way.least_budget_bytes) : "no memory is enough";
    out += line(RunWayName(way.way), HeldText(way), fmt::format("{}", way.n_threads),
                way.queue_depth > 0 ? fmt::format("{}", way.queue_depth) : "-", AboutSpeed(way.token),
                ResourceName(way.token.binds), least);
  }
  return out;
}

Json RegionsJson(const NeuronPlanReport& plan) {
  const MemoryPlan& memory = plan.memory;
  return {{"process_bytes", memory.process_bytes},
          {"attention_and_others_bytes", memory.dense_bytes - plan.gate_bytes - plan.scale_bytes},
          {"gates_bytes", plan.gate_bytes},
          {"scales_bytes", plan.scale_bytes},
          {"kv_bytes", memory.kv_bytes},
          {"scratch_bytes", memory.scratch_bytes},
          {"reading_bytes", memory.reading_bytes},
          {"neurons_bytes", memory.cache_bytes},
          {"total_bytes", memory.total_bytes()},
          {"budget_bytes", memory.budget_bytes}};
}

}  // namespace

ModelWork NeuronPlanReport::resident_work() const {
  ModelWork resident = work;
  resident.n_loops = 0;
  return resident;
}

double NeuronPlanReport::held_share() const { return NeuronsHeld(memory, TypicalPosition(memory.n_ctx)); }

Result<std::optional<NeuronPlanReport>> PlanByNeuron(const GgufFile& file, const ModelShape& shape,
                                                     const NeuronPlanOptions& options) {
  const std::optional<NeuronPlanReport> nothing;
  const Isa isa = options.engine.isa.value_or(BestIsa());
  const bool is_pack = file.pack() != nullptr;
  if (shape.has_experts()) return nothing;
  if (is_pack ? !file.pack()->has_neurons() : !PacksByNeuron(file, isa)) return nothing;
  NeuronPlanReport report;
  report.model = file.path();
  report.must_pack = !is_pack;
  report.least_tok_per_s = options.least_tok_per_s;
  report.has_speeds = options.machine != nullptr && options.machine->disk.has_value();

  PANTRY_ASSIGN_OR_RETURN(ModelNeeds needs, NeedsOf(file, isa, WeightPlacer::ByNeuron()));
  report.scale_bytes = needs.blocks.n_layers() * needs.blocks.neurons()->scales_bytes;
  if (report.must_pack)
    needs.dense_bytes += report.scale_bytes;  // which a pack loads, and a GGUF file has among its rows
  EngineOptions engine = options.engine;
  engine.stream = StreamMode::kAuto;
  PANTRY_ASSIGN_OR_RETURN(report.memory, PlanRun(needs, shape, engine, options.memory));
  const NeuronLayout& layout = *needs.blocks.neurons();
  const int64_t n_layers = needs.blocks.n_layers();
  report.n_neurons = n_layers * layout.n_neurons();
  report.gate_bytes = n_layers * WeightMatrix::PackedBytes(*layout.up.kernel, layout.up.rows, layout.up.cols);
  FindProfile(file, shape, options.profile, report);
  report.work = NeuronWorkOf(shape, needs.cost, needs.blocks, engine.session, *report.firing);

  std::vector<WayRequest> ways = {{.way = RunWay::kNeurons,
                                   .work = report.work,
                                   .pinned_bytes = report.memory.total_bytes() - report.memory.cache_bytes,
                                   .block_bytes = report.memory.block_bytes,
                                   .lent_bytes = LentBytes(report.memory, TypicalPosition(report.memory.n_ctx))}};
  const std::unique_ptr<GgufFile> found = is_pack && options.source == nullptr ? SourceOf(file) : nullptr;
  const GgufFile* const gguf = !is_pack ? &file : options.source != nullptr ? options.source : found.get();
  for (const RunWay way : {RunWay::kResident, RunWay::kMatrices}) {
    std::optional<WayRequest> request;
    if (gguf != nullptr) request = WayOf(way, *gguf, shape, options, report);
    if (request) ways.push_back(*std::move(request));
  }
  const HardwareProfile unknown;
  report.plan = PlanNeurons(report.has_speeds ? *options.machine : unknown,
                            {.ways = ways,
                             .firing = &*report.firing,
                             .budget_bytes = report.memory.budget_bytes,
                             .most_threads = options.n_threads,
                             .position = TypicalPosition(report.memory.n_ctx),
                             .least_tok_per_s = report.has_speeds ? options.least_tok_per_s : 0});
  return std::optional(std::move(report));
}

std::string NeuronPlanText(const NeuronPlanReport& plan) {
  const MemoryPlan& memory = plan.memory;
  const double held_bytes = plan.held_share() * static_cast<double>(memory.block_bytes);
  std::string out = PlanRow("what fires", ProfileText(plan));
  out +=
      PlanRow("always in memory",
              fmt::format("{} of attention, output and norms, {} of gates, {} of scales; {} of KV cache, {} of "
                          "scratch, {} of the program and for reading",
                          FormatBytes(memory.dense_bytes - plan.gate_bytes - plan.scale_bytes),
                          FormatBytes(plan.gate_bytes), FormatBytes(plan.scale_bytes), FormatBytes(memory.kv_bytes),
                          FormatBytes(memory.scratch_bytes), FormatBytes(memory.process_bytes + memory.reading_bytes)));
  out += PlanRow("neurons in memory",
                 fmt::format("{:.0f} of {} ({} of {}) in what is theirs and what is lent while an answer is written",
                             plan.held_share() * static_cast<double>(plan.n_neurons), plan.n_neurons,
                             FormatBytes(static_cast<int64_t>(held_bytes)), FormatBytes(memory.block_bytes)));
  out += BatchTable(plan);
  if (!plan.has_speeds) return out;
  out += "\n" + WaysTable(plan);
  const bool is_best = !plan.plan.ways.empty() && plan.plan.ways.front().way == RunWay::kNeurons;
  if (plan.must_pack && is_best)
    out += fmt::format("By neuron it runs as a pack. Make one: pantry pack {}\n", ShellWord(plan.model));
  return out;
}

Json NeuronPlanJson(const NeuronPlanReport& plan) {
  Json json = {{"profile", plan.profile.empty() ? Json() : Json(plan.profile)},
               {"n_profile_tokens", plan.n_profile_tokens},
               {"is_guess", plan.profile.empty()},
               {"must_pack", plan.must_pack},
               {"n_neurons", plan.n_neurons},
               {"held_share", plan.held_share()},
               {"regions", RegionsJson(plan)}};
  json["batches"] = Json::array();
  for (const BatchPlan& batch : plan.plan.batches) {
    Json row = {{"n_tokens", batch.n_tokens},
                {"n_firing", batch.n_firing},
                {"n_reads", batch.n_reads},
                {"hit_rate", RangeJson(batch.hits.low, batch.hits.likely, batch.hits.high)}};
    if (plan.has_speeds) {
      row["tok_per_s"] = SpeedJson(batch.run, batch.n_tokens);
      row["resources"] = ResourcesJson(batch.run);
    }
    json["batches"].push_back(std::move(row));
  }
  if (!plan.has_speeds) return json;
  json["ways"] = Json::array();
  for (const WayPlan& way : plan.plan.ways) {
    json["ways"].push_back(
        {{"way", RunWayName(way.way)},
         {"held_share", way.held_share},
         {"n_threads", way.n_threads},
         {"queue_depth", way.queue_depth},
         {"tok_per_s", SpeedJson(way.token)},
         {"resources", ResourcesJson(way.token)},
         {"least_budget_bytes", way.least_budget_bytes > 0 ? Json(way.least_budget_bytes) : Json()}});
  }
  return json;
}

}  // namespace pantry
