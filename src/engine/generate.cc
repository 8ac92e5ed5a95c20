// SPDX-License-Identifier: Apache-2.0
#include "engine/generate.h"

#include <limits>

#include "engine/stop_texts.h"

namespace pantry {
namespace {

// The answer as it grows: tokens become characters, characters become text that no stop text can take back.
class AnswerWriter {
 public:
  AnswerWriter(const Tokenizer& tokenizer, const GenerateOptions& options, const GenerateCallbacks& callbacks,
               GenerateResult& result)
      : decoder_(tokenizer, options.show_special, options.continues_text),
        stop_(options.stop),
        callbacks_(callbacks),
        result_(result) {}

  // False when a callback asked to stop.
  bool Add(TokenId token) {
    result_.tokens.push_back(token);
    return Show(stop_.Feed(decoder_.Feed(token))) && (!callbacks_.on_token || callbacks_.on_token(token));
  }
  void Finish() {
    Show(stop_.Feed(decoder_.Finish()));
    Show(stop_.Finish());
  }
  bool found_stop() const { return stop_.found(); }

 private:
  bool Show(const std::string& text) {
    if (text.empty()) return true;
    result_.text += text;
    return !callbacks_.on_text || callbacks_.on_text(text);
  }

  StreamDecoder decoder_;
  StopTexts stop_;
  const GenerateCallbacks& callbacks_;
  GenerateResult& result_;
};

Status CheckOptions(const GenerateOptions& options, std::span<const TokenId> prompt) {
  PANTRY_RETURN_IF_ERROR(options.sampling.Validate());
  PANTRY_RETURN_IF_ERROR(StopTexts::Validate(options.stop));
  if (options.max_tokens < -1) {
    return InvalidArgumentError("--predict {}: expected -1 (until the model ends) or a number of tokens",
                                options.max_tokens);
  }
  if (prompt.empty()) {
    return InvalidArgumentError("the prompt is empty and the model adds no token before it: give it some text");
  }
  return OkStatus();
}

Sampler MakeSampler(const Engine& engine, const GenerateOptions& options, std::span<const TokenId> prompt) {
  SamplingOptions sampling = options.sampling;
  if (options.ignore_eos) {
    for (const TokenId token : engine.tokenizer().end_of_generation()) {
      sampling.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
    }
  }
  Sampler sampler(sampling, engine.shape().n_vocab);
  for (const TokenId token : prompt) sampler.Accept(token);
  return sampler;
}

// Samples and feeds until something ends the answer.
Result<StopReason> Decode(Engine& engine, Session& session, Sampler& sampler, int64_t max_tokens, int64_t start_us,
                          AnswerWriter& answer, GenerateResult& result) {
  while (true) {
    const TokenId token = sampler.Sample(session.logits());
    if (result.first_token_us == 0) result.first_token_us = engine.clock().NowUs() - start_us;
    if (engine.tokenizer().IsEndOfGeneration(token)) return StopReason::kEndOfGeneration;
    sampler.Accept(token);
    const bool go_on = answer.Add(token);
    if (answer.found_stop()) return StopReason::kStopText;
    if (!go_on) return StopReason::kCancelled;
    if (max_tokens >= 0 && static_cast<int64_t>(result.tokens.size()) >= max_tokens) return StopReason::kMaxTokens;
    if (static_cast<int64_t>(session.tokens().size()) >= session.n_ctx()) return StopReason::kContextFull;
    PANTRY_RETURN_IF_ERROR(session.Feed({&token, 1}));
    ++result.n_decoded;
  }
}

}  // namespace

std::string_view StopReasonName(StopReason reason) {
  switch (reason) {
    case StopReason::kEndOfGeneration: return "end of generation";
    case StopReason::kStopText: return "stop text";
    case StopReason::kMaxTokens: return "token limit";
    case StopReason::kContextFull: return "context full";
    case StopReason::kCancelled: return "cancelled";
  }
  return "unknown";
}

Result<GenerateResult> Generate(Engine& engine, Session& session, std::span<const TokenId> prompt,
                                const GenerateOptions& options, const GenerateCallbacks& callbacks) {
  PANTRY_RETURN_IF_ERROR(CheckOptions(options, prompt));
  const Clock& clock = engine.clock();
  const int64_t start_us = clock.NowUs();
  GenerateResult result;
  result.n_prompt = static_cast<int64_t>(prompt.size());
  Sampler sampler = MakeSampler(engine, options, prompt);

  result.n_cached = session.ReusePrefix(prompt);
  const Status fed = session.Feed(prompt.subspan(static_cast<size_t>(result.n_cached)), callbacks.on_prefill);
  result.prefill_us = clock.NowUs() - start_us;
  if (fed.code() == StatusCode::kCancelled) {
    result.stop_reason = StopReason::kCancelled;
    return result;
  }
  PANTRY_RETURN_IF_ERROR(fed);
  if (options.max_tokens == 0) {
    result.stop_reason = StopReason::kMaxTokens;
    return result;
  }

  // The loop below allocates nothing: at most this many tokens can follow.
  const int64_t room = session.n_ctx() - static_cast<int64_t>(session.tokens().size()) + 1;
  result.tokens.reserve(static_cast<size_t>(options.max_tokens < 0 ? room : std::min(room, options.max_tokens)));
  AnswerWriter answer(engine.tokenizer(), options, callbacks, result);
  PANTRY_ASSIGN_OR_RETURN(result.stop_reason,
                          Decode(engine, session, sampler, options.max_tokens, start_us, answer, result));
  if (result.stop_reason != StopReason::kCancelled) answer.Finish();
  result.decode_us = clock.NowUs() - start_us - result.prefill_us;
  return result;
}

}  // namespace pantry
