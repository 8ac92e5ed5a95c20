// SPDX-License-Identifier: Apache-2.0
// `pantry profile train`: what predicts a model's neurons, learned from a text and kept in a file beside it.
#include <algorithm>
#include <memory>
#include <string>

#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "cli/profile_verbs.h"
#include "cli/report_file.h"
#include "eval/predictor_training.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

Result<PredictorTrainingOptions> TrainingOptionsOf(const CliOptions& options) {
  PredictorTrainingOptions training;
  PANTRY_RETURN_IF_ERROR(ReadTextFlags(options, training));
  training.train.recall = options.recall;
  if (options.predictor_kind == "hot") training.train.kind = PredictorKind::kHot;
  else if (options.predictor_kind == "svd") training.train.kind = PredictorKind::kSvd;
  else if (options.predictor_kind == "mlp") training.train.kind = PredictorKind::kMlp;
  else return InvalidArgumentError("--kind: expected hot, svd or mlp, found '{}'", options.predictor_kind);
  PANTRY_RETURN_IF_ERROR(training.Validate());
  return training;
}

// What may be taken beside a model that is open: what --memory, where it is given, and the system leave.
int64_t RoomBeside(const Engine& engine, bool has_budget) {
  const MemoryPlan* const plan = engine.memory_plan();
  const int64_t resident = std::max<int64_t>(ResidentSetBytes(), 0), available = AvailableMemoryBytes();
  int64_t room = available < 0 ? PredictorTrainingOptions().room_bytes : available - available / 10;
  const int64_t planned = plan == nullptr ? resident : std::max(resident, plan->total_bytes());
  room -= planned - resident;
  if (has_budget && plan != nullptr) room = std::min(room, plan->budget_bytes - planned);
  return room;
}

}  // namespace

Status ProfileTrainVerb(VerbContext& context) {
  const CliOptions& options = context.options();
  for (const char* const flag : {"--report", "--sparsity"}) {
    if (context.invocation.SourceOf(flag) != ValueSource::kFlag) continue;
    return InvalidArgumentError("{} has no effect on 'pantry profile train'. See: pantry help profile", flag);
  }
  PANTRY_ASSIGN_OR_RETURN(const std::string model, ModelOf(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  if (options.file.empty()) return InvalidArgumentError("no text given. Try: -f TEXT (-f - for standard input)");
  PANTRY_ASSIGN_OR_RETURN(PredictorTrainingOptions training, TrainingOptionsOf(options));
  context.invocation.options.sparsity.clear();
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(options.file));
  const std::string path = options.profile_out.empty() ? PredictorFile::PathBeside(model) : options.profile_out;
  PANTRY_ASSIGN_OR_RETURN(ReportFile out, OpenProfile(path, options.profile_out.empty()));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, model, training.session()));
  context.console.Note(ModeLine(*engine, nullptr));
  training.room_bytes = RoomBeside(*engine, options.memory != "auto");

  TrainingCallbacks callbacks;
  callbacks.on_token = [&](int64_t n_done, int64_t n_total) {
    context.console.Progress(fmt::format("token {}/{}", n_done, n_total));
    return !Interrupted();
  };
  callbacks.on_network = [&](int64_t n_done, int64_t n_total) {
    context.console.Progress(fmt::format("training network {}/{}", n_done, n_total));
    return !Interrupted();
  };
  context.console.Progress("token 0");  // starts the clock of the first line
  const Result<TrainedPredictors> trained = TrainPredictors(*engine, text, training, callbacks);
  context.console.EndProgress();
  if (!trained.ok()) return trained.status();
  if (trained->is_short_of_memory) {
    context.console.Warning("memory has room for {} tokens of each network: more would teach more", trained->most_rows);
  }
  const std::string bytes = trained->file.Serialize();
  PANTRY_RETURN_IF_ERROR(out.Write(bytes));
  PANTRY_RETURN_IF_ERROR(out.Close());
  context.console.Note(fmt::format("{} · {} tokens · {}", path, trained->file.n_tokens,
                                   FormatBytes(static_cast<int64_t>(bytes.size()))));
  return context.output.Write(options.json ? PredictorJson(*trained) : PredictorTable(trained->file));
}

}  // namespace pantry
