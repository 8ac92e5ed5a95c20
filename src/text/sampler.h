// SPDX-License-Identifier: Apache-2.0
// A Sampler picks the next token from logits: penalties and bias first, then the filters in order, then a draw from what is left.
//
// Temperature 0 is greedy (the lowest id among equals). The same seed, options and logits give the same tokens on every machine:
// probabilities are doubles computed with basic arithmetic only (our own exp and log), in one order.
// Order of the chain: logit bias, penalties, top-k, typical, top-p, min-p, temperature (llama.cpp's order, so that settings carry over).
// Threads: thread-compatible.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/status.h"
#include "base/strong_id.h"

namespace pantry {

struct SamplingOptions {
  float temperature = 0.8f;        // 0: greedy
  int32_t top_k = 40;              // keep the k most probable; 0: all
  float top_p = 0.95f;             // keep the smallest set with this much probability; 1: all
  float min_p = 0.05f;             // drop tokens less probable than this share of the best; 0: off
  float typical_p = 1.0f;          // locally typical sampling (Meister et al. 2022); 1: off
  float repeat_penalty = 1.0f;     // divide positive (multiply negative) logits of recent tokens; 1: off
  int32_t repeat_last_n = 64;      // tokens that the penalties look back on; 0: off, -1: all
  float presence_penalty = 0.0f;   // subtracted once for a token that occurred
  float frequency_penalty = 0.0f;  // subtracted per occurrence
  std::vector<std::pair<TokenId, float>> logit_bias;  // added; -infinity bans
  uint64_t seed = 0;

  // kInvalidArgument names the option, its value and the range.
  Status Validate() const;
};

// The probability of a token among its rivals, natural logarithm.
struct TokenLogprob {
  TokenId token = kNoToken;
  float logprob = 0;
};

class Sampler {
 public:
  // Of memory, for each token of the vocabulary; candidates are few, but where all may be drawn (top_k 0), which takes 24 bytes more.
  static constexpr int64_t kBytesPerToken = sizeof(int32_t) + sizeof(float);

  // REQUIRES: options.Validate() is OK. `n_vocab` tokens; allocation happens here, not in Sample().
  Sampler(const SamplingOptions& options, int32_t n_vocab);

  // Tokens that count as history for penalties: the prompt, and what was sampled.
  void Accept(TokenId token);
  // Picks a token. `logits` [n_vocab] are not changed. NaN logits count as -infinity; if all are, the lowest id.
  TokenId Sample(std::span<const float> logits);
  const SamplingOptions& options() const { return options_; }

 private:
  struct Candidate {
    TokenId token;
    double logit;
    double weight;  // what the filter at work sorts by or sums up
  };
  // The penalised logits: `logits` itself where nothing changes them.
  std::span<const float> ApplyPenalties(std::span<const float> logits);
  void CollectCandidates(std::span<const float> logits);
  void SortBest(size_t n);  // the best n candidates first, in order
  void KeepTypical();
  void KeepTopP();
  void KeepMinP();
  TokenId Draw();
  SamplingOptions options_;
  Rng rng_;
  std::vector<TokenId> history_;       // the look-back window, a ring once it is full; unused when that has no end
  size_t oldest_ = 0;                  // index into history_ once it is full
  std::vector<int32_t> counts_;        // [n_vocab] occurrences within the look-back window
  std::vector<Candidate> candidates_;  // capacity top_k, or n_vocab
  size_t n_sorted_ = 0;                // the first n candidates are the best, in order
  std::vector<float> biased_;          // [n_vocab]
};

// log softmax of the best n tokens and of `chosen`, over the unmodified logits; best first. `chosen` comes last when it is not among them.
std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int32_t n, TokenId chosen);

}  // namespace pantry
