// SPDX-License-Identifier: Apache-2.0
#include "cli/model_path.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>
#include <vector>

namespace pantry {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNamesShown = 5;

std::string Variable(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

// $XDG_<kind>_HOME/pantry or ~/<fallback>/pantry; "" where neither is known.
std::string OwnFolder(const Environment& environment, const std::string& variable, const std::string& fallback) {
  if (const std::string dir = Variable(environment, variable); !dir.empty()) return dir + "/pantry";
  const std::string home = Variable(environment, "HOME");
  return home.empty() ? "" : home + "/" + fallback + "/pantry";
}

std::vector<std::string> ModelNames(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (IsModelName(it->path().native())) names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string ModelsFolder(const Environment& environment) {
  if (const std::string dir = Variable(environment, "PANTRY_MODELS"); !dir.empty()) return dir;
  const std::string own = OwnFolder(environment, "XDG_DATA_HOME", ".local/share");
  return own.empty() ? "" : own + "/models";
}

std::string ChatsFolder(const Environment& environment) {
  const std::string own = OwnFolder(environment, "XDG_DATA_HOME", ".local/share");
  return own.empty() ? "" : own + "/chats";
}

std::string HistoryFile(const Environment& environment) {
  const std::string own = OwnFolder(environment, "XDG_STATE_HOME", ".local/state");
  return own.empty() ? "" : own + "/history";
}

std::string HardwareProfileFile(const Environment& environment) {
  const std::string own = OwnFolder(environment, "XDG_CACHE_HOME", ".cache");
  return own.empty() ? "" : own + "/hardware.json";
}

std::string HintedModelsFile(const Environment& environment) {
  const std::string own = OwnFolder(environment, "XDG_CACHE_HOME", ".cache");
  return own.empty() ? "" : own + "/hinted_models";
}

Result<std::string> FindModel(const std::string& name, const Environment& environment) {
  std::error_code error;
  if (fs::exists(name, error)) {
    if (fs::is_directory(name, error)) {
      const std::vector<std::string> names = ModelNames(name);
      return NotFoundError("cannot open model '{}': it is a folder. Try: {}", name,
                           names.empty() ? "the path of a .gguf file" : fmt::format("{}/{}", name, names.front()));
    }
    if (!fs::is_regular_file(name, error) && !fs::is_block_file(name, error)) {
      return NotFoundError("cannot open model '{}': it is a device or a pipe. Try: the path of a .gguf file", name);
    }
    return name;
  }
  const std::string folder = ModelsFolder(environment);
  const bool is_path = name.find('/') != std::string::npos;
  if (!folder.empty() && !is_path) {
    for (const std::string_view ending : {"", ".gguf", ".pantry"}) {
      const std::string candidate = fmt::format("{}/{}{}", folder, name, ending);
      if (fs::is_regular_file(candidate, error)) return candidate;
    }
  }
  std::vector<std::string> names = is_path ? std::vector<std::string>() : ModelNames(folder);
  if (names.size() > kNamesShown) names.resize(kNamesShown);
  const bool is_set = !Variable(environment, "PANTRY_MODELS").empty();
  const std::string looked =
      is_path ? "" : fmt::format(" Looked in: ./, $PANTRY_MODELS ({}{}).", is_set ? "" : "not set: ", folder);
  const std::string advice = names.empty() ? "the path of a .gguf file" : fmt::format("{}", fmt::join(names, ", "));
  return NotFoundError("cannot open model '{}': No such file.{} Try: {}", name, looked, advice);
}

Result<std::string> ModelOf(Invocation& invocation) {
  std::string name = invocation.options.model;
  if (invocation.SourceOf("--model") != ValueSource::kFlag && !invocation.words.empty()) {
    name = invocation.words.front();
    invocation.words.erase(invocation.words.begin());
    invocation.options.model = name;
    invocation.sources["--model"] = ValueSource::kFlag;
  }
  if (name.empty()) {
    return InvalidArgumentError("no model given. Try: pantry {} -m MODEL.gguf", VerbName(invocation.verb));
  }
  return FindModel(name, invocation.environment);
}

bool IsModelName(std::string_view name) { return name.ends_with(".gguf") || name.ends_with(".pantry"); }

std::string PackNameOf(const std::string& model) {
  std::string name = model;
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  constexpr std::string_view kFirst = "-00001-of-";
  constexpr size_t kDigits = 5;
  const size_t at = name.size() < kFirst.size() + kDigits ? std::string::npos : name.size() - kFirst.size() - kDigits;
  const bool is_shard =
      at != std::string::npos && std::string_view(name).substr(at).starts_with(kFirst) &&
      std::all_of(name.end() - kDigits, name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (is_shard) name.resize(at);
  return name + ".pantry";
}

std::string ShellWord(const std::string& path) {
  const bool is_plain = std::all_of(path.begin(), path.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("/._-+=:,@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (is_plain && !path.empty()) return path;
  std::string out = "'";
  for (const char c : path) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace pantry
