// SPDX-License-Identifier: Apache-2.0
#include "engine/find_profile.h"

#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>

#include "io/reader.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/pack_table.h"

namespace pantry {
namespace {

constexpr size_t kMaxNameChars = 100;
constexpr std::string_view kPackEnding = ".pantry";

std::string HowToMakeOne(const GgufFile& file, const ModelShape& shape) {
  if (shape.has_experts()) return fmt::format("Make one: pantry profile {} -f TEXT", file.path());  // of a pack, too
  return HowToProfile(file, "profile", NeuronProfile::PathBeside(std::string(file.path())));
}

std::string Times(int32_t n_experts) { return n_experts > 0 ? fmt::format("{} x ", n_experts) : ""; }

Status CheckIsOf(const NeuronProfile& profile, const std::string& path, const GgufFile& file, const ModelShape& shape) {
  PANTRY_ASSIGN_OR_RETURN(const uint64_t weights, NormsHash(file));
  const int32_t n_neurons = shape.n_neurons();
  const bool is_same_shape = profile.layers.size() == static_cast<size_t>(shape.n_layers) &&
                             profile.n_neurons == n_neurons && profile.n_experts == shape.n_experts &&
                             profile.activation == shape.activation;
  if (is_same_shape && profile.weights == weights) return OkStatus();
  return InvalidArgumentError(
      "{}: a profile of another model, '{}' ({} layers of {}{} neurons; this one is '{}', {} of {}{}{}). {}", path,
      Printable(profile.model, kMaxNameChars), profile.layers.size(), Times(profile.n_experts), profile.n_neurons,
      Printable(shape.name, kMaxNameChars), shape.n_layers, Times(shape.n_experts), n_neurons,
      is_same_shape ? ", with other weights" : "", HowToMakeOne(file, shape));
}

}  // namespace

// A pack of neurons computes nothing of those that rest but their gates, so nobody can tell all of them.
std::string HowToProfile(const GgufFile& file, std::string_view verb, const std::string& beside) {
  if (file.pack() == nullptr || !file.pack()->has_neurons()) {
    return fmt::format("Make one: pantry {} {} -f TEXT", verb, file.path());
  }
  return fmt::format("Make one of the GGUF file that the pack was made of: pantry {} MODEL.gguf -f TEXT -o {}", verb,
                     beside);
}

std::string ProfilePath(const std::string& path, const GgufFile& file) {
  if (!path.empty()) return path;
  std::string model(file.path());
  std::string beside = NeuronProfile::PathBeside(model);
  std::error_code error;
  if (!model.ends_with(kPackEnding) || std::filesystem::exists(beside, error)) return beside;
  model.replace(model.size() - kPackEnding.size(), kPackEnding.size(), ".gguf");
  const std::string of_gguf = NeuronProfile::PathBeside(model);
  return std::filesystem::exists(of_gguf, error) ? of_gguf : beside;
}

Result<NeuronProfile> ReadProfileOf(const GgufFile& file, const ModelShape& shape, const std::string& path) {
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path);
  if (reader.status().code() == StatusCode::kNotFound) {
    return NotFoundError("there is no profile of the model's neurons, no file '{}'. {}", path,
                         HowToMakeOne(file, shape));
  }
  if (!reader.ok()) return reader.status();
  Result<NeuronProfile> profile = NeuronProfile::Read(**reader);
  if (profile.ok()) PANTRY_RETURN_IF_ERROR(CheckIsOf(*profile, path, file, shape));
  return profile;
}

}  // namespace pantry
