// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/known_machine.h"
#include "cli/plan_figures.h"
#include "engine/weight_stream.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

std::string HitText(const HitRange& hits, std::string_view blocks) {
  if (hits.low == hits.high) return fmt::format("{} % of a token's {} expected in memory", Percent(hits.low), blocks);
  return fmt::format("{} to {} % of a token's {} expected in memory", Percent(hits.low), Percent(hits.high), blocks);
}

std::string ModelLine(const PlanReport& plan) {
  std::string line = plan.model;
  const ModelNeeds& needs = *plan.needs;
  if (!plan.has_experts())
    return line + fmt::format(", {} of weights", FormatBytes(needs.dense_bytes + needs.resident_block_bytes()));
  const WeightPlacer& experts = needs.blocks;
  return line + fmt::format(", {} of every token and {} layers of {} experts, {} used; an expert is {}",
                            FormatBytes(needs.dense_bytes), experts.n_layers(), plan.shape.n_experts,
                            plan.shape.n_experts_used, FormatBytes(experts.block_bytes(experts.Block(0, 0))));
}

std::string ModeText(const PlanReport& plan) {
  if (!plan.memory.is_streamed) return "resident: all weights in memory";
  if (plan.has_neurons()) {
    return fmt::format("streaming: {} % of the neurons in memory, the others are read one by one when they fire",
                       Percent(plan.share_in_memory()));
  }
  if (!plan.has_experts()) {
    return fmt::format("streaming: {:.1f} of {} layers in memory, the others read for each token",
                       plan.share_in_memory() * plan.needs->blocks.n_layers(), plan.needs->blocks.n_layers());
  }
  if (plan.needs->blocks.neurons() != nullptr) {
    return fmt::format(
        "streaming: {} of {} experts' gates in memory, and of their neurons, which are read one by one when they fire, "
        "as many as there is room for",
        WeightStream::BlocksHeld(plan.needs->blocks, plan.memory.cache_bytes), plan.needs->blocks.n_blocks());
  }
  return fmt::format("streaming: {} of {} experts in memory, {:.1f} of {} a layer on average",
                     plan.n_blocks_in_memory(), plan.needs->blocks.n_blocks(),
                     static_cast<double>(plan.n_blocks_in_memory()) / plan.needs->blocks.n_layers(),
                     plan.shape.n_experts);
}

std::string EmbeddingText(const ModelNeeds& needs) {
  return fmt::format("{} less in memory: a run reads its tokens' rows from the file", FormatBytes(needs.rows_bytes));
}

std::string PromptTable(const PlanReport& plan) {
  std::string out = fmt::format("{:<20}{:<29} {:<27} {}\n", "prompt", "first token after", "then, tokens/s", "set by");
  for (const PromptPlan& prompt : plan.prompts) {
    std::string set_by(ResourceName(prompt.first_token.binds));
    if (prompt.token.binds != prompt.first_token.binds) {
      set_by += fmt::format(", then {}", ResourceName(prompt.token.binds));
    }
    out += fmt::format("{:<20}{:<29} {:<27} {}\n", fmt::format("{} tokens", prompt.n_tokens),
                       About(prompt.first_token.likely_s, SecondsRange(prompt.first_token), " s"),
                       AboutSpeed(prompt.token), set_by);
  }
  return out;
}

Json PromptJson(const PromptPlan& prompt) {
  Json json = {{"n_prompt", prompt.n_tokens}};
  const SpeedEstimate &first = prompt.first_token, &token = prompt.token;
  json["first_token_s"] = RangeJson(first.low_s, first.likely_s, first.high_s);
  json["first_token_resources"] = ResourcesJson(first);
  json["tok_per_s"] = SpeedJson(token);
  json["token_resources"] = ResourcesJson(token);
  return json;
}

Json MemoryJson(const MemoryPlan& memory) {
  return {{"budget_bytes", memory.budget_bytes},
          {"process_bytes", memory.process_bytes},
          {"dense_bytes", memory.dense_bytes},
          {"kv_bytes", memory.kv_bytes},
          {"n_ctx", memory.n_ctx},
          {"scratch_bytes", memory.scratch_bytes},
          {"reading_bytes", memory.reading_bytes},
          {"cached", memory.blocks},
          {"cache_bytes", memory.cache_bytes},
          {"all_bytes", memory.block_bytes},
          {"total_bytes", memory.total_bytes()}};
}

}  // namespace

double PlanReport::share_in_memory() const {
  if (memory.block_bytes == 0) return 0;
  return static_cast<double>(memory.cache_bytes) / static_cast<double>(memory.block_bytes);
}

bool PlanReport::rows_are_read() const { return memory.is_streamed && needs->rows_bytes > 0; }

int64_t PlanReport::n_blocks_in_memory() const {
  return static_cast<int64_t>(share_in_memory() * static_cast<double>(needs->blocks.n_blocks()));
}

std::string PlanText(const PlanReport& plan) {
  std::string out = PlanRow("model", ModelLine(plan)) + PlanRow("mode", ModeText(plan));
  if (plan.rows_are_read()) out += PlanRow("embedding", EmbeddingText(*plan.needs));
  out += "\n" + plan.memory.Table() + "\n\n";
  if (plan.memory.is_streamed) out += PlanRow("hit rate", HitText(plan.hits, plan.memory.blocks));
  if (plan.neuron_hits.low < 1) out += PlanRow("", HitText(plan.neuron_hits, "neurons"));
  if (plan.load_s > 0) out += PlanRow("loading", TwoDigits(plan.load_s) + " s");
  if (!plan.prompts.empty()) out += PromptTable(plan);
  if (plan.neurons) out += "\n" + NeuronPlanText(*plan.neurons);
  for (const std::string& note : plan.notes) out += note + "\n";
  return out;
}

std::string PlanJson(const PlanReport& plan) {
  Json json = {{"model", plan.model},
               {"architecture", plan.shape.architecture},
               {"mode", plan.memory.is_streamed ? "streaming" : "resident"},
               {"memory", MemoryJson(plan.memory)}};
  if (plan.has_experts()) {
    const WeightPlacer& experts = plan.needs->blocks;
    json["experts"] = {{"n_layers", experts.n_layers()},
                       {"n_experts", plan.shape.n_experts},
                       {"n_experts_used", plan.shape.n_experts_used},
                       {"expert_bytes", experts.block_bytes(experts.Block(0, 0))},
                       {"n_in_memory", plan.n_blocks_in_memory()}};
  }
  if (plan.rows_are_read()) json["embedding_in_file_bytes"] = plan.needs->rows_bytes;
  json["hit_rate"] = RangeJson(plan.hits.low, plan.hits.likely, plan.hits.high);
  if (plan.neuron_hits.low < 1) {
    json["neuron_hit_rate"] = RangeJson(plan.neuron_hits.low, plan.neuron_hits.likely, plan.neuron_hits.high);
  }
  json["load_s"] = plan.load_s > 0 ? Json(plan.load_s) : Json();
  json["prompts"] = Json::array();
  for (const PromptPlan& prompt : plan.prompts) json["prompts"].push_back(PromptJson(prompt));
  if (plan.neurons) json["neurons"] = NeuronPlanJson(*plan.neurons);
  json["notes"] = plan.notes;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace pantry
