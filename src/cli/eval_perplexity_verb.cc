// SPDX-License-Identifier: Apache-2.0
// `pantry eval perplexity`: how well a model predicts a text.
#include "eval/perplexity.h"

#include <nlohmann/json.hpp>
#include <string>

#include "cli/eval_verbs.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/neuron_flags.h"
#include "cli/open_engine.h"

namespace pantry {
namespace {

std::string AsJson(const PerplexityResult& result, int64_t n_ctx, Engine& engine) {
  const double tok_per_s = result.seconds > 0 ? static_cast<double>(result.n_chunks * n_ctx) / result.seconds : 0.0;
  nlohmann::ordered_json json = {{"ppl", result.ppl},         {"ppl_stderr", result.ppl_stderr},
                                 {"tokens", result.n_tokens}, {"chunks", result.n_chunks},
                                 {"seconds", result.seconds}, {"tok_per_s", tok_per_s}};
  if (engine.router() != nullptr) {
    const CacheAwareRouter& chooser = engine.router()->chooser();
    json["expert_policy"] = ExpertPolicyText(chooser.policy());
    json["miss_rate"] = 1 - engine.stream()->stats().cache.HitRate();
    json["agreement"] = chooser.counts().agreement();
    json["gate_mass"] = chooser.counts().gate_mass();
    json["excess_kl"] = chooser.counts().mean_excess_kl();
  }
  if (const RestingNeurons* const resting = engine.resting()) {
    json["sparsity"] = resting->sparsity();
    json["resting_share"] = static_cast<double>(resting->n_resting()) / static_cast<double>(resting->n_neurons());
  }
  if (const PredictedNeurons* const predicted = engine.predicted()) {
    const PredictedNeurons::Counts counts = predicted->counts();
    json["predicted_share"] = counts.density();
    if (counts.true_share()) json["firing_share"] = *counts.true_share();
    if (counts.recall()) json["recall"] = *counts.recall();
    json["predictor_bytes"] = predicted->n_bytes();
  }
  AddNeuronPolicy(engine, json);
  return json.dump() + "\n";
}

}  // namespace

Status EvalPerplexityVerb(VerbContext& context) {
  PANTRY_RETURN_IF_ERROR(RejectOtherFlags(context.invocation, "perplexity", {"--file", "--chunks"}));
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  const CliOptions& options = context.options();
  if (options.file.empty()) return InvalidArgumentError("no text given. Try: -f TEXT (-f - for standard input)");
  PANTRY_ASSIGN_OR_RETURN(const PerplexityOptions perplexity, WindowOptionsOf(context, path));
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(options.file));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, perplexity.session()));
  context.console.Note(ModeLine(*engine, nullptr));

  std::string so_far;
  const auto on_chunk = [&](int64_t done, int64_t total, double ppl) {
    so_far = fmt::format(" · {} of {} windows, perplexity {:.4f}", done, total, ppl);
    return !Interrupted();
  };
  const auto keep_going = [&](int64_t n_done, int64_t n_total) {
    context.console.Progress(fmt::format("token {}/{}{}", n_done, n_total, so_far));
    return !Interrupted();
  };
  context.console.Progress("token 0");  // starts the clock of the first line
  PANTRY_ASSIGN_OR_RETURN(const PerplexityResult result,
                          MeasurePerplexity(*engine, text, perplexity, on_chunk, keep_going));
  context.console.EndProgress();
  context.console.Note(
      fmt::format("{} windows of {} tokens · {:.1f} s · {}{}", result.n_chunks, perplexity.n_ctx, result.seconds,
                  MemoryFigure(engine->memory_plan()),
                  SparsityFigures(*engine) + PredictorFigures(*engine) + NeuronPolicyFigures(*engine)));
  if (engine->router() != nullptr) context.console.Note(PolicyLine(*engine));
  if (options.json) return context.output.Write(AsJson(result, perplexity.n_ctx, *engine));
  return context.output.Write(
      fmt::format("perplexity {:.4f} ± {:.4f} over {} tokens\n", result.ppl, result.ppl_stderr, result.n_tokens));
}

}  // namespace pantry
