// SPDX-License-Identifier: Apache-2.0
#include "cli/measure_machine.h"

#include <fmt/chrono.h>

#include <chrono>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/known_machine.h"
#include "cli/model_path.h"
#include "io/disk_probe.h"
#include "io/scratch_file.h"
#include "sys/hardware_probe.h"

namespace pantry {
namespace {

constexpr int64_t kScratchBytes = 1 * kGiB;
constexpr double kScratchSeconds = 5;
constexpr double kBusy = 0.1;  // of the time somebody waited for a CPU: passes that nobody disturbs are rare ...
constexpr double kSecondsWhenBusy = 0.8;  // ... so each figure gets more of them

std::string NowUtc() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
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

void Save(VerbContext& context, const HardwareProfile& profile, const std::string& path) {
  if (path.empty()) {
    context.console.Warning("the profile is not kept: neither HOME nor XDG_CACHE_HOME is set");
    return;
  }
  const Status saved = SaveHardwareProfile(profile, path);
  if (!saved.ok()) context.console.Warning("the profile is not kept: {}", saved.message());
  else context.console.Note(fmt::format("kept in {}", path));
}

// Whether a profile has a place. A home that is not there is not made.
bool CanKeep(const std::string& path) {
  std::error_code error;
  return !path.empty() &&
         std::filesystem::is_directory(std::filesystem::path(path).parent_path().parent_path().parent_path(), error);
}

}  // namespace

Result<HardwareProfile> MeasureMachine(VerbContext& context, const DiskChoice& disk) {
  const std::string path = HardwareProfileFile(context.invocation.environment);
  HardwareProfile profile = DescribeMachine();
  profile.measured_at = NowUtc();
  profile.pantry_version = PANTRY_VERSION;

  const Result<HardwareProfile> stored = LoadHardwareProfile(path);
  const std::string stale = stored.ok() ? WhyStale(*stored, profile) : "";
  if (!stale.empty()) context.console.Note(fmt::format("the profile kept before is of no use: {}", stale));
  if (stored.ok() && stale.empty() && context.options().no_disk) profile.disk = stored->disk;

  ProbeOptions probe;
  if (profile.pressure.cpu > kBusy) probe.seconds = kSecondsWhenBusy;
  PANTRY_RETURN_IF_ERROR(MeasureCpu(probe, [&](std::string_view what) { return Measuring(context, what); }, profile));
  if (!disk.file.empty() || !disk.folder.empty()) {
    PANTRY_ASSIGN_OR_RETURN(
        profile.disk, disk.folder.empty() ? MeasureFile(context, disk.file) : MeasureFolder(context, disk.folder));
    profile.disk->measured_at = profile.measured_at;
  }
  context.console.EndProgress();
  if (Interrupted()) return CancelledError("interrupted");
  Save(context, profile, path);
  return profile;
}

Result<HardwareProfile> KnownOrMeasuredMachine(VerbContext& context, const std::string& model) {
  Result<HardwareProfile> known = KnownMachine(context.invocation.environment);
  const bool is_known = known.ok() && (known->disk.has_value() || model.empty());
  if (is_known || !context.options().measure) return known;
  if (!CanKeep(HardwareProfileFile(context.invocation.environment))) return known;  // it would be so at each run
  context.console.Note("measuring this machine, once, for some seconds (--no-measure: go without)");
  Result<HardwareProfile> measured = MeasureMachine(context, {.file = model, .folder = ""});
  if (measured.ok() || measured.status().code() == StatusCode::kCancelled) return measured;
  context.console.Warning("this machine cannot be measured: {}", measured.status().message());
  return known;
}

}  // namespace pantry
