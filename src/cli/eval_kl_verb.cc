// SPDX-License-Identifier: Apache-2.0
// `pantry eval kl`: how far a model's probabilities are from those of another, which were kept in a file.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/units.h"
#include "cli/eval_verbs.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/neuron_flags.h"
#include "cli/open_engine.h"
#include "eval/kl.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

// On one line; names of files may not be UTF-8.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

std::string NameOfFile(const std::string& path) { return std::filesystem::path(path).filename().string(); }

KlProgress ProgressOn(Console& console) {
  console.Progress("token 0");  // starts the clock of the first line
  return [&console](int64_t n_done, int64_t n_total) {
    console.Progress(fmt::format("token {}/{}", n_done, n_total));
    return !Interrupted();
  };
}

// What others are compared with is the model itself, and the file does not say otherwise.
Status RefusePolicies(const CliOptions& options) {
  PANTRY_ASSIGN_OR_RETURN(const ExpertPolicyOptions experts, ExpertPolicyOf(options));
  PANTRY_ASSIGN_OR_RETURN(const double strength, NeuronPriorStrengthOf(options));
  if (experts.is_exact() && strength == 0) return OkStatus();
  return InvalidArgumentError(
      "--save-logits: a reference must be exact, and {} {} is not. Save it without, and compare with --reference",
      experts.is_exact() ? "--neuron-policy" : "--expert-policy",
      experts.is_exact() ? NeuronPolicyText(strength) : ExpertPolicyText(experts.policy));
}

Status Save(VerbContext& context, const std::string& path) {
  const CliOptions& options = context.options();
  PANTRY_RETURN_IF_ERROR(RefusePolicies(options));
  if (options.file.empty()) return InvalidArgumentError("no text given. Try: -f TEXT (-f - for standard input)");
  PANTRY_ASSIGN_OR_RETURN(const WindowOptions windows, WindowOptionsOf(context, path));
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(options.file));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, windows.session()));
  context.console.Note(ModeLine(*engine, nullptr));
  PANTRY_ASSIGN_OR_RETURN(KlHead head, MakeKlHead(*engine, text, windows, NameOfFile(path)));
  const Json json = {{"reference", options.save_logits}, {"model", head.model},        {"n_ctx", head.n_ctx},
                     {"windows", head.n_windows},        {"positions", head.n_rows()}, {"bytes", head.file_bytes()}};
  const std::string summary =
      fmt::format("{} positions of {} windows, {}", head.n_rows(), head.n_windows, FormatBytes(head.file_bytes()));
  context.console.Note(fmt::format("writing {} to {}", summary, options.save_logits));
  PANTRY_RETURN_IF_ERROR(
      SaveReference(*engine, std::move(head), windows, options.save_logits, ProgressOn(context.console)));
  context.console.EndProgress();
  return context.output.Write(options.json ? Dump(json) : fmt::format("{}: {}\n", options.save_logits, summary));
}

Json EstimateJson(const Estimate& estimate) { return {{"value", estimate.value}, {"stderr", estimate.standard_error}}; }

std::string AsJson(const KlResult& result, const KlHead& head, Engine& engine) {
  Json json = {{"reference", head.model},
               {"positions", result.n_positions},
               {"kl_mean", EstimateJson(result.mean)},
               {"kl_median", result.median},
               {"kl_p90", result.percentile_90},
               {"kl_p99", result.percentile_99},
               {"kl_max", result.max},
               {"same_top", EstimateJson(result.same_top)},
               {"ppl", EstimateJson(result.ppl)},
               {"reference_ppl", EstimateJson(result.reference_ppl)},
               {"ppl_ratio", EstimateJson(result.ppl_ratio)},
               {"seconds", result.seconds}};
  AddNeuronPolicy(engine, json);
  return Dump(json);
}

std::string AsText(const KlResult& result, const KlHead& head) {
  const auto show = [](const Estimate& estimate, double factor, int digits) {
    return fmt::format("{:.{}f} ± {:.{}f}", estimate.value * factor, digits, estimate.standard_error * factor, digits);
  };
  std::string out = fmt::format("reference       {}, {} positions\n", head.model, result.n_positions);
  out += fmt::format("KL divergence   {} · median {:.6f} · 90 % {:.6f} · 99 % {:.6f} · max {:.6f}\n",
                     show(result.mean, 1, 6), result.median, result.percentile_90, result.percentile_99, result.max);
  out += fmt::format("same top token  {} %\n", show(result.same_top, 100, 2));
  out += fmt::format("perplexity      {} · reference {} · ratio {}\n", show(result.ppl, 1, 4),
                     show(result.reference_ppl, 1, 4), show(result.ppl_ratio, 1, 5));
  return out;
}

Status Compare(VerbContext& context, const std::string& path) {
  const CliOptions& options = context.options();
  if (!options.file.empty()) return InvalidArgumentError("-f has no effect beside --reference, which holds its text");
  PANTRY_ASSIGN_OR_RETURN(WindowOptions windows, WindowOptionsOf(context, path));
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Reader> reader, OpenFileReader(options.reference));
  PANTRY_ASSIGN_OR_RETURN(KlFile reference, KlFile::Open(std::move(reader)));
  const KlHead& head = reference.head();
  if (options.ctx_size > 0 && options.ctx_size != head.n_ctx) {
    return InvalidArgumentError("--ctx-size {}: the windows of {} have {} tokens", options.ctx_size, options.reference,
                                head.n_ctx);
  }
  windows.n_ctx = head.n_ctx;
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, windows.session()));
  context.console.Note(ModeLine(*engine, nullptr));
  PANTRY_ASSIGN_OR_RETURN(const KlResult result,
                          CompareWithReference(*engine, reference, windows, ProgressOn(context.console)));
  context.console.EndProgress();
  context.console.Note(fmt::format("{:.1f} s · {}{}", result.seconds, MemoryFigure(engine->memory_plan()),
                                   NeuronPolicyFigures(*engine)));
  if (engine->router() != nullptr) context.console.Note(PolicyLine(*engine));
  return context.output.Write(options.json ? AsJson(result, head, *engine) : AsText(result, head));
}

}  // namespace

Status EvalKlVerb(VerbContext& context) {
  PANTRY_RETURN_IF_ERROR(
      RejectOtherFlags(context.invocation, "kl", {"--file", "--chunks", "--save-logits", "--reference"}));
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  const bool saves = !context.options().save_logits.empty();
  if (saves == context.options().reference.empty()) {
    return saves ? Save(context, path) : Compare(context, path);
  }
  return InvalidArgumentError(
      "give one of --save-logits FILE (write a reference, of the text -f) and --reference FILE (compare with one)");
}

}  // namespace pantry
