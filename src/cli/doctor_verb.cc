// SPDX-License-Identifier: Apache-2.0
// `pantry doctor`: measures this machine, reports, and keeps the profile for other verbs.
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "cli/doctor_report.h"
#include "cli/measure_machine.h"
#include "cli/model_path.h"
#include "cli/verbs.h"
#include "sys/hardware_profile.h"

namespace pantry {
namespace {

namespace fs = std::filesystem;

// The largest model in the models folder, "" where there is none: the less of it a drive can cache, the better.
std::string LargestModel(const Environment& environment) {
  std::string largest;
  uintmax_t most = 0;
  std::error_code error;
  for (fs::directory_iterator it(ModelsFolder(environment), error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const uintmax_t size = IsModelName(it->path().native()) ? it->file_size(ignored) : 0;
    if (ignored || size <= most) continue;
    most = size;
    largest = it->path().string();
  }
  return largest;
}

// Nothing to read is no error, unless something was asked for.
Result<DiskChoice> ChooseDisk(Invocation& invocation) {
  const CliOptions& options = invocation.options;
  const bool names_file = invocation.SourceOf("--model") == ValueSource::kFlag || !invocation.words.empty();
  if (options.no_disk && !options.disk.empty())
    return InvalidArgumentError("--disk and --no-disk contradict each other");
  if (options.no_disk && names_file) return InvalidArgumentError("a MODEL has no effect beside --no-disk");
  if (!options.disk.empty() && names_file) {
    return InvalidArgumentError(
        "a MODEL and --disk contradict each other: give the file to read, or the folder to write one in");
  }
  DiskChoice choice;
  if (options.no_disk) return choice;
  if (!options.disk.empty()) {
    choice.folder = options.disk;
  } else if (names_file || !options.model.empty()) {
    PANTRY_ASSIGN_OR_RETURN(choice.file, ModelOf(invocation));
  } else {
    choice.file = LargestModel(invocation.environment);
  }
  return choice;
}

// Why there are no rates of a disk in the report.
std::string WhyNoDisk(const CliOptions& options, const HardwareProfile& profile) {
  if (profile.disk && options.no_disk) return fmt::format("the rates above are of {}", profile.disk->measured_at);
  if (profile.disk) return "";
  if (options.no_disk) return "not measured";
  return "not measured, for want of a file to read. Try: pantry doctor MODEL.gguf, or --disk FOLDER";
}

}  // namespace

Status DoctorVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const DiskChoice choice, ChooseDisk(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  const CliOptions& options = context.options();
  PANTRY_ASSIGN_OR_RETURN(const HardwareProfile profile, MeasureMachine(context, choice));
  return context.output.Write(options.json ? ToJson(profile) : DoctorReport(profile, WhyNoDisk(options, profile)));
}

}  // namespace pantry
