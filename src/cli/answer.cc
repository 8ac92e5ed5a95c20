// SPDX-License-Identifier: Apache-2.0
#include "cli/answer.h"

#include <algorithm>
#include <random>
#include <string>

#include "cli/interrupt.h"
#include "cli/open_engine.h"
#include "engine/stop_texts.h"

namespace pantry {
namespace {

double PerSecond(int64_t n, int64_t us) {
  return us > 0 ? static_cast<double>(n) * 1e6 / static_cast<double>(us) : 0.0;
}

std::string_view WhyStopped(StopReason reason) {
  switch (reason) {
    case StopReason::kMaxTokens: return " · stopped by -n";
    case StopReason::kContextFull: return " · stopped: the context is full (see --ctx-size)";
    case StopReason::kCancelled: return " · interrupted";
    case StopReason::kEndOfGeneration:
    case StopReason::kStopText: return "";
  }
  return "";
}

// The engine calls a setting by the name of its field, with which its messages begin.
Status WithFlagName(const Status& status) {
  if (status.ok()) return status;
  const std::string_view message = status.message();
  const size_t end = std::min(message.find_first_of(" :"), message.size());
  std::string name(message.substr(0, end));
  if (name == "temperature") name = "temp";
  if (name == "typical_p") name = "typical";
  std::replace(name.begin(), name.end(), '_', '-');
  return Status(status.code(), fmt::format("--{}{}", name, message.substr(end)));
}

}  // namespace

Result<GenerateResult> Answerer::Answer(std::span<const TokenId> prompt, const GenerateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Status write_status;
  GenerateCallbacks callbacks;
  callbacks.on_text = [&](std::string_view text) {
    console_.EndProgress();
    write_status = output_.Write(text);
    return write_status.ok();
  };
  callbacks.on_token = [](TokenId) { return !Interrupted(); };
  callbacks.on_prefill = [&](int64_t n_done, int64_t n_total) {
    const int64_t us =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
    const double rate = PerSecond(n_done, us);
    const double eta_s = rate > 0 ? static_cast<double>(n_total - n_done) / rate : 0;
    if (n_done < n_total)
      console_.Progress(fmt::format("prompt {}/{}, {:.0f} t/s, ETA {:.0f} s", n_done, n_total, rate, eta_s));
    return !Interrupted();
  };
  console_.Progress(fmt::format("prompt 0/{}", prompt.size()));
  Result<GenerateResult> result = Generate(engine_, session_, prompt, options, callbacks);
  console_.EndProgress();
  if (!write_status.ok()) return write_status;
  if (!result.ok()) {
    const bool too_long = static_cast<int64_t>(prompt.size()) > session_.n_ctx();
    return too_long ? Status(StatusCode::kOutOfBudget, std::string(result.status().message())) : result.status();
  }
  PANTRY_RETURN_IF_ERROR(output_.EndLine());
  Account(*result);
  return result;
}

void Answerer::Account(const GenerateResult& result) {
  const auto n_written = static_cast<int64_t>(result.tokens.size());
  totals_.n_answers += 1;
  totals_.n_prompt += result.n_prompt - result.n_cached;
  totals_.n_cached += result.n_cached;
  totals_.n_written += n_written;
  totals_.n_decoded += result.n_decoded;
  totals_.prefill_us += result.prefill_us;
  totals_.decode_us += result.decode_us;
  last_footer_ = fmt::format(
      "{} tok · {:.1f} tok/s · TTFT {:.1f}s · {}{}", n_written, PerSecond(result.n_decoded, result.decode_us),
      static_cast<double>(result.first_token_us) * 1e-6, MemoryFigure(), WhyStopped(result.stop_reason));
  console_.Note(last_footer_);
  console_.Debug("prompt: {} tokens, {} of them reused, {:.1f} tok/s", result.n_prompt, result.n_cached,
                 PerSecond(result.n_prompt - result.n_cached, result.prefill_us));
}

Result<GenerateOptions> GenerateOptionsOf(const CliOptions& options) {
  if (options.predict < -1)
    return InvalidArgumentError("--predict: expected -1 (until the model ends) or more, found {}", options.predict);
  if (options.seed < -1) return InvalidArgumentError("--seed: expected -1 (random) or more, found {}", options.seed);
  GenerateOptions generate;
  generate.sampling = options.sampling;
  generate.sampling.seed = options.seed >= 0 ? static_cast<uint64_t>(options.seed) : std::random_device()();
  generate.max_tokens = options.predict;
  generate.stop = options.stop;
  generate.ignore_eos = options.ignore_eos;
  generate.show_special = options.special;
  PANTRY_RETURN_IF_ERROR(WithFlagName(generate.sampling.Validate()));
  PANTRY_RETURN_IF_ERROR(StopTexts::Validate(generate.stop));
  return generate;
}

}  // namespace pantry
