// SPDX-License-Identifier: Apache-2.0
// `pantry pack`: writes a model as a .pantry file, whose blocks lie on the disk as the kernels want them.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/verbs.h"
#include "engine/pack_plan.h"
#include "io/output_file.h"
#include "weights/gguf/pack_table.h"
#include "weights/pack/pack_writer.h"

namespace pantry {
namespace {

// The second word: a file, or a folder to write it in.
std::string OutOf(Invocation& invocation, const std::string& model) {
  std::string name = PackNameOf(model);
  if (invocation.words.empty()) return name;
  std::filesystem::path out = invocation.words.front();
  invocation.words.erase(invocation.words.begin());
  std::error_code error;
  if (std::filesystem::is_directory(out, error)) out /= std::filesystem::path(name).filename();
  return out.string();
}

std::string_view NameOf(PackStep step) {
  switch (step) {
    case PackStep::kChecking: return "checking";
    case PackStep::kPacking: return "packing";
    case PackStep::kVerifying: return "verifying";
  }
  return "";
}

}  // namespace

Status PackVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  const CliOptions& options = invocation.options;
  PANTRY_ASSIGN_OR_RETURN(const std::string model, ModelOf(invocation));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(model));
  const std::string out_path = OutOf(invocation, model);
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  PANTRY_RETURN_IF_ERROR(CheckPackPath(*file, out_path));
  if (file->pack() != nullptr) {
    return InvalidArgumentError(
        "'{}' is packed already, for {}. To pack it differently, take the GGUF file it was made of", model,
        IsaName(file->pack()->layout()));
  }
  const Isa isa = options.isa.value_or(BestIsa());
  PANTRY_RETURN_IF_ERROR(RequireIsa(isa));
  const NeuronPacking neurons = options.sparse ? NeuronPacking::kWhereWorthIt : NeuronPacking::kNever;
  PANTRY_ASSIGN_OR_RETURN(const PackPlan plan, PlanPack(*file, isa, neurons));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> out, OpenOutputFile(out_path, options.force));

  const SteadyClock clock;
  const int64_t begin_us = clock.NowUs();
  PackStep step = PackStep::kChecking;
  int64_t step_begin_us = begin_us;
  const auto progress = [&](PackStep now, uint64_t n_done, uint64_t n_total) {
    if (now != step) {
      step = now;
      step_begin_us = clock.NowUs();
    }
    context.console.Progress(LoadingLine(static_cast<int64_t>(n_done), static_cast<int64_t>(n_total),
                                         1e-6 * static_cast<double>(clock.NowUs() - step_begin_us), NameOf(step)));
    return !Interrupted();
  };
  const Result<PackReport> report = WritePack(*file, plan, *out, {.verify = options.verify}, context.console, progress);
  context.console.EndProgress();
  if (report.status().code() == StatusCode::kCancelled) context.console.Note(report.status().message());
  if (!report.ok()) return report.status();

  const double seconds = std::max(1e-6 * static_cast<double>(clock.NowUs() - begin_us), 1e-3);
  const double bytes_per_s = static_cast<double>(report->file_bytes - report->kept_bytes) / seconds;
  const bool by_neuron = plan.groups.front().order == PackOrder::kNeurons;
  return context.output.Write(fmt::format("{}: {}, {} {} for {}, {} in {:.1f} s ({}/s)\nRun it: pantry run {}\n",
                                          out_path, FormatBytes(static_cast<int64_t>(report->file_bytes)),
                                          report->n_blocks, by_neuron ? "layers, neuron by neuron," : "blocks",
                                          IsaName(isa), options.verify ? "written and verified" : "written", seconds,
                                          FormatBytes(static_cast<int64_t>(bytes_per_s)), ShellWord(out_path)));
}

}  // namespace pantry
