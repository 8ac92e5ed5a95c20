// SPDX-License-Identifier: Apache-2.0
#include "cli/known_machine.h"

#include "cli/model_path.h"
#include "engine/find_profile.h"
#include "engine/neuron_forecast.h"

namespace pantry {
Result<HardwareProfile> KnownMachine(const Environment& environment) {
  const std::string path = HardwareProfileFile(environment);
  Result<HardwareProfile> stored = path.empty() ? NotFoundError("no home") : LoadHardwareProfile(path);
  if (stored.status().code() == StatusCode::kNotFound) {
    return NotFoundError("this machine was not measured yet. Run: pantry doctor MODEL");
  }
  if (!stored.ok()) {
    return NotFoundError("the measurement of this machine is of no use ({}). Run: pantry doctor MODEL",
                         stored.status().message());
  }
  const std::string stale = WhyStale(*stored, DescribeMachine());
  if (stale.empty()) return stored;
  return NotFoundError("the measurement of this machine is of no use ({}). Run: pantry doctor MODEL", stale);
}

std::optional<RunForecast> ForecastOf(Engine& engine, const SessionOptions& session, const Environment& environment,
                                      const std::string& profile) {
  const WeightStream* const stream = engine.stream();
  const Result<HardwareProfile> machine = KnownMachine(environment);
  if (!machine.ok() || (stream != nullptr && !machine->disk)) return std::nullopt;
  const MemoryPlan resident, *plan = stream != nullptr ? engine.memory_plan() : &resident;
  if (stream != nullptr && stream->placer().neurons() != nullptr) {
    if (stream->placer().has_experts()) return std::nullopt;  // a RunForecast is of pieces of one kind
    const Result<NeuronProfile> known =
        ReadProfileOf(engine.file(), engine.shape(), ProfilePath(profile, engine.file()));
    if (!known.ok()) return std::nullopt;  // nobody knows how many will fire
    const FiringCurve firing = CurveOf(*known);
    return NeuronForecast(NeuronWorkOf(engine.shape(), engine.model().cost(), stream->placer(), session, firing),
                          firing, *plan, *machine, engine.pool().n_threads(), session, TypicalPosition(plan->n_ctx),
                          true);
  }
  const WeightPlacer nothing;
  const ModelWork work =
      WorkOf(engine.shape(), engine.model().cost(), stream != nullptr ? stream->placer() : nothing, session);
  return Forecast(work, *plan, *machine, engine.pool().n_threads(), session);
}

std::string TwoDigits(double value) {
  return value < 10 && value >= 1e-4 ? fmt::format("{:#.2g}", value) : fmt::format("{:.0f}", value);
}

std::string SecondsRange(const SpeedEstimate& run) {
  const std::string low = TwoDigits(run.low_s), high = TwoDigits(run.high_s);
  return low == high ? low + " s" : fmt::format("{} to {} s", low, high);
}

std::string SpeedRange(const SpeedEstimate& token) {
  if (token.low_s <= 0 || token.high_s <= 0) return "?";
  const std::string low = TwoDigits(1 / token.high_s), high = TwoDigits(1 / token.low_s);
  return low == high ? low : low + " to " + high;
}

}  // namespace pantry
