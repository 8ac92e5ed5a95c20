// SPDX-License-Identifier: Apache-2.0
// `pantry doctor`: measures this machine, reports, and keeps the profile for other verbs.
#include <fmt/chrono.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "base/units.h"
#include "cli/doctor_report.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/verbs.h"
#include "io/disk_probe.h"
#include "io/scratch_file.h"
#include "sys/hardware_probe.h"
#include "sys/hardware_profile.h"

namespace pantry {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kScratchBytes = 1 * kGiB;
constexpr double kScratchSeconds = 5;
constexpr double kBusy = 0.1;  // of the time somebody waited for a CPU: passes that nobody disturbs are rare ...
constexpr double kSecondsWhenBusy = 0.8;  // ... so each figure gets more of them

std::string NowUtc() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

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

bool Measuring(VerbContext& context, std::string_view what) {
  context.console.Progress(fmt::format("measuring: {}", what));
  return !Interrupted();
}

Result<DiskProfile> MeasureFile(VerbContext& context, const std::string& path) {
  return ProbeDisk(path, {}, [&](std::string_view what) { return Measuring(context, what); });
}

Result<DiskProfile> MeasureFolder(VerbContext& context, const std::string& folder) {
  const auto progress = [&](int64_t n_bytes) {
    return Measuring(context, fmt::format("disk, writing a test file, {}", FormatBytes(n_bytes)));
  };
  PANTRY_ASSIGN_OR_RETURN(const ScratchFile file, ScratchFile::Make(folder, kScratchBytes, kScratchSeconds, progress));
  PANTRY_ASSIGN_OR_RETURN(DiskProfile disk, MeasureFile(context, file.path()));
  disk.path = folder;
  return disk;
}

// What is read: a file, or a folder to write one in.
struct DiskChoice {
  std::string file;
  std::string folder;
};

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

void Save(VerbContext& context, const HardwareProfile& profile, const std::string& path) {
  if (path.empty()) {
    context.console.Warning("the profile is not kept: neither HOME nor XDG_CACHE_HOME is set");
    return;
  }
  const Status saved = SaveHardwareProfile(profile, path);
  if (!saved.ok()) context.console.Warning("the profile is not kept: {}", saved.message());
  else context.console.Note(fmt::format("kept in {}", path));
}

}  // namespace

Status DoctorVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const DiskChoice choice, ChooseDisk(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  const CliOptions& options = context.options();
  const std::string path = HardwareProfileFile(invocation.environment);
  HardwareProfile profile = DescribeMachine();
  profile.measured_at = NowUtc();
  profile.pantry_version = PANTRY_VERSION;

  const Result<HardwareProfile> stored = LoadHardwareProfile(path);
  const std::string stale = stored.ok() ? WhyStale(*stored, profile) : "";
  if (!stale.empty()) context.console.Note(fmt::format("the profile kept before is of no use: {}", stale));
  if (stored.ok() && stale.empty() && options.no_disk) profile.disk = stored->disk;

  ProbeOptions probe;
  if (profile.pressure.cpu > kBusy) probe.seconds = kSecondsWhenBusy;
  PANTRY_RETURN_IF_ERROR(MeasureCpu(probe, [&](std::string_view what) { return Measuring(context, what); }, profile));
  if (!choice.file.empty() || !choice.folder.empty()) {
    PANTRY_ASSIGN_OR_RETURN(profile.disk, choice.folder.empty() ? MeasureFile(context, choice.file)
                                                                : MeasureFolder(context, choice.folder));
    profile.disk->measured_at = profile.measured_at;
  }
  context.console.EndProgress();
  if (Interrupted()) return CancelledError("interrupted");
  Save(context, profile, path);
  return context.output.Write(options.json ? ToJson(profile) : DoctorReport(profile, WhyNoDisk(options, profile)));
}

}  // namespace pantry
