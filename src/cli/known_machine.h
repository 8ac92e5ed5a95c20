// SPDX-License-Identifier: Apache-2.0
// What `pantry doctor` found out about this machine, for verbs that foretell speed; nothing is measured here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/args.h"
#include "engine/run_forecast.h"
#include "sys/hardware_profile.h"

namespace pantry {

// The profile that is kept, while it is true of this machine. kNotFound: there is none that is of use, and how to get one.
Result<HardwareProfile> KnownMachine(const Environment& environment);

// What to expect of a run on `engine`; nothing where the machine is not known, or not its disk though weights come from there, or not what fires
// of neurons that do: `profile` is the file that tells, "": beside the model.
std::optional<RunForecast> ForecastOf(Engine& engine, const SessionOptions& session, const Environment& environment,
                                      const std::string& profile = "");

// Tokens a second, at worst and at best: "4.9 to 8.2".
std::string SpeedRange(const SpeedEstimate& token);
// "0.42 to 0.95 s", at best and at worst.
std::string SecondsRange(const SpeedEstimate& run);
// Two digits that matter: "0.42", "4.2", "42".
std::string TwoDigits(double value);

}  // namespace pantry
