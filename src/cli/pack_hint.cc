// SPDX-License-Identifier: Apache-2.0
#include "cli/pack_hint.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "base/units.h"
#include "cli/model_path.h"
#include "engine/pack_plan.h"

namespace pantry {
namespace {

namespace fs = std::filesystem;

// Adds `line` to the file. false: it is there already, or cannot be added.
bool Remember(const std::string& path, const std::string& line) {
  std::ifstream known(path);
  for (std::string one; std::getline(known, one);) {
    if (one == line) return false;
  }
  const fs::path folder = fs::path(path).parent_path();
  std::error_code error;
  if (!fs::is_directory(folder.parent_path().parent_path(), error)) return false;  // a home is not ours to make
  fs::create_directories(folder, error);
  std::ofstream file(path, std::ios::app);
  file << line << '\n' << std::flush;
  return file.good();
}

}  // namespace

void SuggestPacking(VerbContext& context, Engine& engine, const std::string& path) {
  constexpr int32_t kShowsNotes = 2;
  const bool is_shown = context.options().verbose || context.options().verbosity >= kShowsNotes;
  if (!is_shown || engine.stream() == nullptr || engine.file().pack() != nullptr) return;
  const std::string known = HintedModelsFile(context.invocation.environment);
  std::error_code error;
  const fs::path model = fs::weakly_canonical(path, error);
  if (error || known.empty() || !Remember(known, model.string())) return;
  if (PacksByNeuron(engine.file(), engine.model().isa())) {
    // 7 B in Q4_0, half of its feed-forward weights out of memory, on 2 cores: 4.3 tokens a second instead of 1.2 (docs/performance.md).
    context.console.Note(
        fmt::format("hint: most of its neurons rest; packed, only those that fire are read (3 times as fast measured): "
                    "pantry pack {} (writes {})",
                    ShellWord(path), FormatBytes(static_cast<int64_t>(engine.file().total_bytes()))));
    return;
  }
  // Tokens a second, on 2 cores: one of 7 B with experts in 60 % of its size +13 %, a dense one in half its size +5 %, one of 4 B with
  // experts in half its size nothing (docs/performance.md).
  context.console.Note(
      fmt::format("hint: packed it would stream a little faster (0 to 15 % measured) and be checked as it is read: "
                  "pantry pack {} (writes {})",
                  ShellWord(path), FormatBytes(static_cast<int64_t>(engine.file().total_bytes()))));
}

}  // namespace pantry
