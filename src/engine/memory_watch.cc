// SPDX-License-Identifier: Apache-2.0
#include "engine/memory_watch.h"

#include <utility>

#include "base/units.h"
#include "sys/memory_pressure.h"

namespace pantry {

MemoryWatch::MemoryWatch(const CacheBounds& bounds, const Clock& clock, Logger& log,
                         std::unique_ptr<MemorySource> source)
    : bounds_(bounds),
      clock_(clock),
      log_(log),
      source_(source != nullptr ? std::move(source) : std::make_unique<MemoryPressure>()),
      calm_since_us_(clock.NowUs()) {}

std::optional<int64_t> MemoryWatch::Check(int64_t budget_bytes, int64_t committed_bytes) {
  const int64_t now_us = clock_.NowUs();
  if (now_us < next_look_us_) return std::nullopt;
  next_look_us_ = now_us + kIntervalUs;
  const PressureDecision decision =
      DecideCacheBudget(Bounds(), {budget_bytes, committed_bytes, now_us - calm_since_us_}, source_->Read());
  if (decision.is_short || decision.budget_bytes > budget_bytes) calm_since_us_ = now_us;
  if (decision.budget_bytes == budget_bytes) return std::nullopt;
  Tell(budget_bytes, decision);
  return decision.budget_bytes;
}

void MemoryWatch::Tell(int64_t from_bytes, const PressureDecision& decision) {
  const std::string from = FormatBytes(from_bytes), to = FormatBytes(decision.budget_bytes);
  if (!is_told_ && decision.budget_bytes < from_bytes) {
    is_told_ = true;
    log_.Warning("memory is short ({}): the cache of weights goes from {} to {}; answers stay the same, slower",
                 PressureText(decision.reason), from, to);
  } else if (is_told_ && decision.budget_bytes >= Bounds().wanted_bytes) {
    is_told_ = false;
    log_.Info("memory is no longer short: the cache of weights has its {} again", to);
  } else {
    log_.Debug("the cache of weights goes from {} to {}: {}", from, to, PressureText(decision.reason));
  }
}

}  // namespace pantry
