// SPDX-License-Identifier: Apache-2.0
// How plans are written: rows of tables for people, ranges and estimates as JSON.
//
// Threads: any.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/run_forecast.h"

namespace pantry {

double PerSecond(double seconds);  // 0 of 0
// A name in a column of 20, and what there is to say.
std::string PlanRow(std::string_view name, std::string_view text);
std::string Percent(double share);  // "84", "99.5"
// "about 41 (22 to 78)", "about 6.4 s (5.5 to 8.9)"; `range` ends with the unit or has none.
std::string About(double likely, std::string range, std::string_view unit);
// The same of tokens a second, where a run computes n_tokens.
std::string AboutSpeed(const SpeedEstimate& run, int n_tokens = 1);

nlohmann::ordered_json RangeJson(double low, double likely, double high);
nlohmann::ordered_json SpeedJson(const SpeedEstimate& run, int n_tokens = 1);  // tokens a second
nlohmann::ordered_json ResourcesJson(const SpeedEstimate& run);

}  // namespace pantry
