// SPDX-License-Identifier: Apache-2.0
// `pantry eval WHAT`: chooses the measurement, and checks what several of them share.
#include <algorithm>
#include <memory>
#include <string>

#include "cli/eval_verbs.h"
#include "cli/neuron_flags.h"
#include "cli/open_engine.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

Result<SessionOptions> EvalSessionOf(VerbContext& context, const std::string& path) {
  PANTRY_ASSIGN_OR_RETURN(SessionOptions session, SessionOptionsOf(context.options()));
  // A policy changes tokens that are computed one by one; prompts only where that is asked for.
  const CliOptions& options = context.options();
  if (options.expert_policy != "exact" && !options.expert_policy_prompts) session.n_batch = 1;
  PANTRY_ASSIGN_OR_RETURN(const double strength, NeuronPriorStrengthOf(options));
  if (strength > 0) {
    PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
    if (file->pack() != nullptr && file->pack()->has_neurons()) session.n_batch = 1;  // they are always streamed
  }
  return session;
}

Result<WindowOptions> WindowOptionsOf(VerbContext& context, const std::string& path) {
  const CliOptions& options = context.options();
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session, EvalSessionOf(context, path));
  WindowOptions windows;
  if (options.ctx_size > 0) windows.n_ctx = options.ctx_size;
  if (options.chunks < -1 || options.chunks == 0) {
    return InvalidArgumentError("--chunks: expected -1 (all) or 1 or more, found {}", options.chunks);
  }
  windows.max_chunks = options.chunks;
  windows.n_batch = session.n_batch;
  windows.k_type = session.k_type;
  windows.v_type = session.v_type;
  PANTRY_RETURN_IF_ERROR(windows.Validate());
  return windows;
}

std::string PolicyLine(Engine& engine) {
  const CacheAwareRouter& chooser = engine.router()->chooser();
  const CacheStats cache = engine.stream()->stats().cache;
  return fmt::format(
      "{}: misses {:.2f} % · {:.2f} % of the router's picks · {:.2f} % of their weight · excess KL {:.5f}",
      ExpertPolicyText(chooser.policy()), 100 * (1 - cache.HitRate()), 100 * chooser.counts().agreement(),
      100 * chooser.counts().gate_mass(), chooser.counts().mean_excess_kl());
}

Status RejectOtherFlags(const Invocation& invocation, std::string_view what,
                        std::initializer_list<std::string_view> known) {
  Status status;
  ForEachField(invocation.options, [&](const Flag& flag, const auto&) {
    const std::string_view name = FlagName(flag);
    const bool is_ours = (flag.verbs & kEval) != 0 && (flag.group == "Evaluation" || flag.group == "Prompt");
    if (!is_ours || !status.ok() || invocation.SourceOf(name) != ValueSource::kFlag) return;
    if (std::find(known.begin(), known.end(), name) != known.end()) return;
    status = InvalidArgumentError("{} has no effect on 'pantry eval {}'. See: pantry help eval", name, what);
  });
  return status;
}

Status EvalVerb(VerbContext& context) {
  std::vector<std::string>& words = context.invocation.words;
  const std::string what = words.empty() ? "" : words.front();
  if (!words.empty()) words.erase(words.begin());
  if (what == "perplexity") return EvalPerplexityVerb(context);
  if (what == "tasks") return EvalTasksVerb(context);
  if (what == "kl") return EvalKlVerb(context);
  if (what == "routing") return EvalRoutingVerb(context);
  return InvalidArgumentError(
      "say what to evaluate: perplexity, tasks, kl, routing. Try: pantry eval perplexity -m MODEL.gguf -f TEXT");
}

}  // namespace pantry
