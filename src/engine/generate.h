// SPDX-License-Identifier: Apache-2.0
// Generate() writes an answer: feed the prompt, then sample and feed one token after another until something ends it.
//
// What the caller sees is text that is certain: whole characters, and never the beginning of what may become a stop text. The last token
// sampled is not fed (nothing comes after it); a following turn that repeats the answer computes it then.
// Cancelling from another thread: have a callback return false when a flag is set. Each is called at least once per token or batch.
// Threads: as Session.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "text/sampler.h"

namespace pantry {

struct GenerateOptions {
  SamplingOptions sampling;
  int64_t max_tokens = -1;        // -1: until the model ends, or the context is full
  std::vector<std::string> stop;  // text that ends the answer; not part of it
  bool ignore_eos = false;        // ban end-of-generation tokens
  bool show_special = false;      // control tokens as text
  // The answer carries on the text of the prompt, so it keeps the space before its first word. False: it stands alone, as in a chat, and
  // that space goes where the tokenizer's rule says so (SentencePiece).
  bool continues_text = true;
};

enum class StopReason : uint8_t { kEndOfGeneration, kStopText, kMaxTokens, kContextFull, kCancelled };

struct GenerateResult {
  std::string text;             // as given to on_text, all together
  std::vector<TokenId> tokens;  // sampled, without the end-of-generation token
  StopReason stop_reason = StopReason::kEndOfGeneration;
  int64_t n_prompt = 0;  // tokens of the prompt
  int64_t n_cached = 0;  // of them, already computed
  int64_t prefill_us = 0;
  int64_t decode_us = 0;       // from the end of the prefill to the end of the answer
  int64_t n_decoded = 0;       // tokens computed in that time: n_decoded / decode_us is the speed
  int64_t first_token_us = 0;  // from the call to the first token sampled
};

struct GenerateCallbacks {
  // Text as it becomes certain: whole characters, never the beginning of a stop text. Returns false to cancel.
  std::function<bool(std::string_view text)> on_text;
  // Each token that was sampled, after its text. Returns false to cancel.
  std::function<bool(TokenId token)> on_token;
  // After each batch of the prompt. Returns false to cancel.
  std::function<bool(int64_t n_done, int64_t n_total)> on_prefill;
};

std::string_view StopReasonName(StopReason reason);  // "end of generation", "stop text", ...

// Errors as Session::Feed(), and kInvalidArgument for options. A cancelled generation is OK with stop_reason kCancelled. The session keeps
// prompt and answer. What the session holds already of the prompt is not computed again.
Result<GenerateResult> Generate(Engine& engine, Session& session, std::span<const TokenId> prompt,
                                const GenerateOptions& options, const GenerateCallbacks& callbacks);

}  // namespace pantry
