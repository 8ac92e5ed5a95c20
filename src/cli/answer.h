// SPDX-License-Identifier: Apache-2.0
// An Answerer writes answers: text to standard output as it comes, progress and the footer with the figures to standard error.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cli/console.h"
#include "cli/options.h"
#include "cli/output.h"
#include "engine/generate.h"
#include "engine/run_forecast.h"

namespace pantry {

struct AnswerTotals {
  int64_t n_answers = 0;
  int64_t n_prompt = 0;  // tokens computed, without those reused
  int64_t n_cached = 0;  // tokens reused
  int64_t n_written = 0;
  int64_t n_decoded = 0;  // tokens computed in decode_us
  int64_t prefill_us = 0;
  int64_t decode_us = 0;
};

class Answerer {
 public:
  // All borrowed; `forecast` may be null, else what it expects stands beside what came (at -v).
  Answerer(Engine& engine, Session& session, Console& console, Output& output, const RunForecast* forecast = nullptr)
      : engine_(engine), session_(session), console_(console), output_(output), forecast_(forecast) {}

  // Writes the answer to `prompt` and ends its line. Errors as Generate(); kOutOfBudget when the prompt does not fit in the context;
  // kIoError when standard output fails. An answer stopped by Ctrl-C is OK with stop_reason kCancelled.
  Result<GenerateResult> Answer(std::span<const TokenId> prompt, const GenerateOptions& options);

  const AnswerTotals& totals() const { return totals_; }
  const std::string& last_footer() const { return last_footer_; }

 private:
  void Account(const GenerateResult& result, const std::string& stream_figures);
  // `hit_rate` of the answer's tokens; -1: a resident run.
  void Compare(const GenerateResult& result, double hit_rate);
  Engine& engine_;
  Session& session_;
  Console& console_;
  Output& output_;
  const RunForecast* forecast_;
  AnswerTotals totals_;
  std::string last_footer_;
};

// -n, --stop, sampling and so on. The seed is drawn here when it is -1. kInvalidArgument names the flag.
Result<GenerateOptions> GenerateOptionsOf(const CliOptions& options);

}  // namespace pantry
