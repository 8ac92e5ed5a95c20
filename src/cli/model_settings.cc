// SPDX-License-Identifier: Apache-2.0
#include "cli/model_settings.h"

#include <cmath>
#include <string>
#include <utility>

#include "cli/flag_value.h"

namespace pantry {
namespace {

// Key after "general.sampling.", and the flag it sets. Source: llama.cpp's keys.
constexpr std::pair<std::string_view, std::string_view> kKeys[] = {
    {"temp", "--temp"},
    {"top_k", "--top-k"},
    {"top_p", "--top-p"},
    {"min_p", "--min-p"},
    {"penalty_repeat", "--repeat-penalty"},
    {"penalty_last_n", "--repeat-last-n"},
};

}  // namespace

Status TakeModelSettings(const Metadata& metadata, Invocation& invocation) {
  for (const auto& [key_end, flag_name] : kKeys) {
    const std::string key = fmt::format("general.sampling.{}", key_end);
    if (!metadata.Has(key) || invocation.Given(flag_name)) continue;
    PANTRY_ASSIGN_OR_RETURN(const double value, metadata.GetFloat(key));
    Status status;
    ForEachField(invocation.options, [&, name = flag_name](const Flag& flag, auto& field) {
      if (FlagName(flag) != name) return;
      const bool is_integer = std::is_same_v<decltype(field), int32_t&>;
      status =
          SetField(field, is_integer ? fmt::format("{:.0f}", value) : fmt::format("{}", static_cast<float>(value)));
    });
    if (!status.ok()) return CorruptionError("{}: {}", key, status.message());
    invocation.sources[std::string(flag_name)] = ValueSource::kModel;
  }
  return OkStatus();
}

}  // namespace pantry
