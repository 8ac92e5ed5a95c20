// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_figures.h"

#include <fmt/format.h>

#include "cli/known_machine.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

SpeedEstimate OfOne(const SpeedEstimate& run, int n_tokens) {
  SpeedEstimate token = run;
  token.low_s /= n_tokens;
  token.likely_s /= n_tokens;
  token.high_s /= n_tokens;
  return token;
}

}  // namespace

double PerSecond(double seconds) { return seconds > 0 ? 1 / seconds : 0; }

std::string PlanRow(std::string_view name, std::string_view text) { return fmt::format("{:<20}{}\n", name, text); }

std::string Percent(double share) {
  const double percent = 100 * share;
  return fmt::format("{:.{}f}", percent, percent > 99 && percent < 100 ? 1 : 0);
}

std::string About(double likely, std::string range, std::string_view unit) {
  if (range.ends_with(unit)) range.resize(range.size() - unit.size());
  const std::string about = TwoDigits(likely);
  return range == about ? about + std::string(unit) : fmt::format("about {}{} ({})", about, unit, range);
}

std::string AboutSpeed(const SpeedEstimate& run, int n_tokens) {
  const SpeedEstimate token = OfOne(run, n_tokens);
  return About(PerSecond(token.likely_s), SpeedRange(token), "");
}

Json RangeJson(double low, double likely, double high) { return {{"low", low}, {"likely", likely}, {"high", high}}; }

Json SpeedJson(const SpeedEstimate& run, int n_tokens) {
  const SpeedEstimate token = OfOne(run, n_tokens);
  return RangeJson(PerSecond(token.high_s), PerSecond(token.likely_s), PerSecond(token.low_s));
}

Json ResourcesJson(const SpeedEstimate& run) {
  return {{"memory_s", run.memory_s},
          {"arithmetic_s", run.arithmetic_s},
          {"disk_s", run.disk_s},
          {"binds", ResourceName(run.binds)}};
}

}  // namespace pantry
