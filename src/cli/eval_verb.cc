// SPDX-License-Identifier: Apache-2.0
// `pantry eval perplexity`: how well a model predicts a text.
#include <nlohmann/json.hpp>
#include <string>

#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/verbs.h"
#include "eval/perplexity.h"

namespace pantry {
namespace {

Result<PerplexityOptions> PerplexityOptionsOf(VerbContext& context) {
  const CliOptions& options = context.options();
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session, SessionOptionsOf(options));
  if (session.k_type != session.v_type && context.invocation.Given("--cache-type-v")) {
    return InvalidArgumentError(
        "--cache-type-v: eval uses one number format for keys and values. Give --cache-type-k only");
  }
  PerplexityOptions perplexity;
  if (options.ctx_size > 0) perplexity.n_ctx = options.ctx_size;
  if (options.chunks < -1 || options.chunks == 0) {
    return InvalidArgumentError("--chunks: expected -1 (all) or 1 or more, found {}", options.chunks);
  }
  perplexity.max_chunks = options.chunks;
  perplexity.n_batch = session.n_batch;
  perplexity.kv_type = options.cache_type_k;
  PANTRY_RETURN_IF_ERROR(perplexity.Validate());
  return perplexity;
}

// What the measurement will ask of the engine.
SessionOptions EvalSession(const PerplexityOptions& perplexity) {
  SessionOptions session;
  session.n_ctx = perplexity.n_ctx;
  session.n_batch = perplexity.n_batch;
  session.k_type = session.v_type = perplexity.kv_type;
  session.all_logits = true;
  return session;
}

std::string AsJson(const PerplexityResult& result, int64_t n_ctx) {
  const double tok_per_s = result.seconds > 0 ? static_cast<double>(result.n_chunks * n_ctx) / result.seconds : 0.0;
  const nlohmann::ordered_json json = {{"ppl", result.ppl},         {"ppl_stderr", result.ppl_stderr},
                                       {"tokens", result.n_tokens}, {"chunks", result.n_chunks},
                                       {"seconds", result.seconds}, {"tok_per_s", tok_per_s}};
  return json.dump() + "\n";
}

}  // namespace

Status EvalVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  if (invocation.words.empty() || invocation.words.front() != "perplexity") {
    return InvalidArgumentError("say what to evaluate. Try: pantry eval perplexity -m MODEL.gguf -f TEXT");
  }
  invocation.words.erase(invocation.words.begin());
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  const CliOptions& options = context.options();
  if (options.file.empty()) return InvalidArgumentError("no text given. Try: -f TEXT (-f - for standard input)");
  PANTRY_ASSIGN_OR_RETURN(const PerplexityOptions perplexity, PerplexityOptionsOf(context));
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(options.file));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, EvalSession(perplexity)));
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
  context.console.Note(fmt::format("{} windows of {} tokens · {:.1f} s · {}", result.n_chunks, perplexity.n_ctx,
                                   result.seconds, MemoryFigure(engine->memory_plan())));
  if (options.json) return context.output.Write(AsJson(result, perplexity.n_ctx));
  return context.output.Write(
      fmt::format("perplexity {:.4f} ± {:.4f} over {} tokens\n", result.ppl, result.ppl_stderr, result.n_tokens));
}

}  // namespace pantry
