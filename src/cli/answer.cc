// SPDX-License-Identifier: Apache-2.0
#include "cli/answer.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>

#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/known_machine.h"
#include "cli/neuron_flags.h"
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

// " · hit 83%, neurons 97% · 61 MB/tok · disk wait 22%" of the tokens since `before`; "" in a resident run.
std::string StreamFigures(const WeightStreamStats& before, const WeightStreamStats& after, int64_t n_tokens,
                          int64_t us) {
  const int64_t n_demanded = after.cache.n_demanded - before.cache.n_demanded;
  if (n_demanded == 0 || n_tokens == 0 || us <= 0) return "";
  const auto share = [](int64_t part, int64_t whole) {
    return 100 * static_cast<double>(part) / static_cast<double>(whole);
  };
  const int64_t n_neurons = after.neurons.n_demanded - before.neurons.n_demanded;
  const std::string of_neurons =
      n_neurons == 0 ? ""
                     : fmt::format(", neurons {:.0f}%", share(after.neurons.n_hits - before.neurons.n_hits, n_neurons));
  return fmt::format(" · hit {:.0f}%{} · {}/tok · disk wait {:.0f}%",
                     share(after.cache.n_hits - before.cache.n_hits, n_demanded), of_neurons,
                     FormatBytes((after.bytes_read() - before.bytes_read()) / n_tokens),
                     share(after.stream.wait_us - before.stream.wait_us, us));
}

// " · cache-prior:0.2: 91% of the router's picks, 97% of their weight" of the tokens since `before`; "" where experts run as routed.
std::string PolicyFigures(const ExpertRouter* router, const RoutingCounts& before) {
  if (router == nullptr) return "";
  if (router->chooser().counts().n_choices == before.n_choices) {
    return fmt::format(" · {}: nothing to choose", ExpertPolicyText(router->chooser().policy()));
  }
  const RoutingCounts since = router->chooser().counts() - before;
  return fmt::format(" · {}: {:.1f}% of the router's picks, {:.1f}% of their weight",
                     ExpertPolicyText(router->chooser().policy()), 100 * since.agreement(), 100 * since.gate_mass());
}

double HitRate(const WeightStreamStats& before, const WeightStreamStats& after) {
  const int64_t n_demanded = after.cache.n_demanded - before.cache.n_demanded;
  if (n_demanded == 0) return -1;
  return static_cast<double>(after.cache.n_hits - before.cache.n_hits) / static_cast<double>(n_demanded);
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
  const WeightStream* const stream = engine_.stream();
  const ExpertRouter* const router = engine_.router();
  const RoutingCounts counts_before = router != nullptr ? router->chooser().counts() : RoutingCounts();
  const NeuronCounts neurons_before = NeuronCounts::Of(engine_);
  const PredictedNeurons* const predicted = engine_.predicted();
  const PredictedNeurons::Counts predicted_before =
      predicted != nullptr ? predicted->counts() : PredictedNeurons::Counts();
  const NeuronPriorCounts prior_before = NeuronPriorCountsOf(engine_);
  std::optional<WeightStreamStats> after_prompt;
  callbacks.on_token = [&](TokenId) {
    if (stream != nullptr && !after_prompt) after_prompt = stream->stats();
    return !Interrupted();
  };
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
  std::string figures;
  if (after_prompt) figures = StreamFigures(*after_prompt, stream->stats(), result->n_decoded, result->decode_us);
  if (router == nullptr && stream != nullptr && engine_.shape().has_experts()) figures += " · experts exact";
  Account(*result, figures + PolicyFigures(router, counts_before) + SparsityFigures(engine_, neurons_before) +
                       PredictorFigures(engine_, predicted_before) + NeuronPolicyFigures(engine_, prior_before));
  if (forecast_ != nullptr) Compare(*result, after_prompt ? HitRate(*after_prompt, stream->stats()) : -1);
  return result;
}

void Answerer::Compare(const GenerateResult& result, double hit_rate) {
  if (totals_.n_answers == 1 && result.n_cached == 0) {  // later ones find experts in memory
    console_.Debug("first token: expected after {}, measured {} s", SecondsRange(forecast_->Prompt(result.n_prompt)),
                   TwoDigits(static_cast<double>(result.first_token_us) * 1e-6));
  }
  if (result.n_decoded == 0 || result.decode_us == 0) return;
  const int64_t position = result.n_prompt + result.n_decoded / 2;
  const double measured = PerSecond(result.n_decoded, result.decode_us);
  std::string line = fmt::format("answer: expected {} tok/s{}, measured {:.1f}", SpeedRange(forecast_->Token(position)),
                                 ForecastNote(engine_), measured);
  if (forecast_->is_streamed && hit_rate >= 0) {
    const SpeedEstimate at = forecast_->TokenAt(position, hit_rate);
    line += fmt::format(
        "; hits expected {:.0f} to {:.0f} %, measured {:.0f} %, at which {} tok/s were to be expected ({})",
        100 * forecast_->hits.low, 100 * forecast_->hits.high, 100 * hit_rate, SpeedRange(at), ResourceName(at.binds));
  }
  console_.Debug("{}", line);
}

void Answerer::Account(const GenerateResult& result, const std::string& stream_figures) {
  const auto n_written = static_cast<int64_t>(result.tokens.size());
  totals_.n_answers += 1;
  totals_.n_prompt += result.n_prompt - result.n_cached;
  totals_.n_cached += result.n_cached;
  totals_.n_written += n_written;
  totals_.n_decoded += result.n_decoded;
  totals_.prefill_us += result.prefill_us;
  totals_.decode_us += result.decode_us;
  last_footer_ =
      fmt::format("{} tok · {:.1f} tok/s · TTFT {:.1f}s{} · {}{}", n_written,
                  PerSecond(result.n_decoded, result.decode_us), static_cast<double>(result.first_token_us) * 1e-6,
                  stream_figures, MemoryFigure(engine_.memory_plan()), WhyStopped(result.stop_reason));
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
