// SPDX-License-Identifier: Apache-2.0
// `pantry profile`: which neurons of a model fire on a text, kept in a file beside it.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/neuron_flags.h"
#include "cli/open_engine.h"
#include "cli/profile_verbs.h"
#include "cli/report_file.h"
#include "eval/neuron_profile.h"
#include "eval/neuron_report.h"

namespace pantry {
namespace {

Result<NeuronProfileOptions> ProfileOptionsOf(const CliOptions& options) {
  NeuronProfileOptions profile;
  PANTRY_RETURN_IF_ERROR(ReadTextFlags(options, profile));
  if (!options.sparsity.empty()) {
    PANTRY_ASSIGN_OR_RETURN(profile.sparsity, ParseSparsity(options.sparsity));
  }
  PANTRY_RETURN_IF_ERROR(profile.Validate());
  return profile;
}

Status WithOtherPlace(const Status& status) {
  return {status.code(), fmt::format("{}. Write it elsewhere with -o FILE", status.message())};
}

}  // namespace

Status ReadTextFlags(const CliOptions& options, ObservedTextOptions& text) {
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session, SessionOptionsOf(options));
  if (options.ctx_size > 0) text.n_ctx = options.ctx_size;
  text.n_batch = session.n_batch;
  text.max_tokens = options.profile_tokens;
  return OkStatus();
}

Result<ReportFile> OpenProfile(const std::string& path, bool is_default) {
  Result<ReportFile> file = ReportFile::Open(path);
  if (!file.ok() && is_default) return WithOtherPlace(file.status());
  return file;
}

Status ProfileVerb(VerbContext& context) {
  const CliOptions& options = context.options();
  std::vector<std::string>& words = context.invocation.words;
  if (!words.empty() && words.front() == "train") {
    words.erase(words.begin());
    return ProfileTrainVerb(context);
  }
  for (const char* const flag : {"--kind", "--recall"}) {
    if (context.invocation.SourceOf(flag) != ValueSource::kFlag) continue;
    return InvalidArgumentError("{} is for 'pantry profile train MODEL -f TEXT'", flag);
  }
  PANTRY_ASSIGN_OR_RETURN(const std::string model, ModelOf(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  if (options.file.empty()) return InvalidArgumentError("no text given. Try: -f TEXT (-f - for standard input)");
  PANTRY_ASSIGN_OR_RETURN(const NeuronProfileOptions profile_options, ProfileOptionsOf(options));
  context.invocation.options.sparsity.clear();    // nothing rests while it is found out what would
  context.invocation.options.warm_start = false;  // what was found before is about to be replaced
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(options.file));
  // Paths that cannot be written are found before the work, not after.
  const std::string path = options.profile_out.empty() ? NeuronProfile::PathBeside(model) : options.profile_out;
  PANTRY_ASSIGN_OR_RETURN(ReportFile out, OpenProfile(path, options.profile_out.empty()));
  std::optional<ReportFile> report;
  if (!options.profile_report.empty()) {
    PANTRY_ASSIGN_OR_RETURN(report, ReportFile::Open(options.profile_report));
  }
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, model, profile_options.session()));
  context.console.Note(ModeLine(*engine, nullptr));
  if (engine->shape().gates_by_relu() && context.invocation.SourceOf("--sparsity") == ValueSource::kFlag) {
    context.console.Warning("--sparsity: no effect here because the model's neurons gate by ReLU: what fires is sure");
  }

  const auto keep_going = [&](int64_t n_done, int64_t n_total) {
    context.console.Progress(fmt::format("token {}/{}", n_done, n_total));
    return !Interrupted();
  };
  context.console.Progress("token 0");  // starts the clock of the first line
  const Result<NeuronProfile> profile = ProfileNeurons(*engine, text, profile_options, keep_going);
  context.console.EndProgress();
  if (!profile.ok()) return profile.status();

  const std::string bytes = profile->Serialize();
  PANTRY_RETURN_IF_ERROR(out.Write(bytes));
  PANTRY_RETURN_IF_ERROR(out.Close());
  if (report) {
    const std::string name = options.file.substr(options.file.rfind('/') + 1);
    PANTRY_RETURN_IF_ERROR(report->Write(ProfileHtml(*profile, name, PANTRY_VERSION)));
    PANTRY_RETURN_IF_ERROR(report->Close());
  }
  context.console.Note(fmt::format("{} · {} tokens · {} · {}", path, profile->n_tokens,
                                   FormatBytes(static_cast<int64_t>(bytes.size())), FiringMeans(*profile)));
  return context.output.Write(options.json ? ProfileJson(*profile) : ProfileTable(*profile));
}

}  // namespace pantry
