// SPDX-License-Identifier: Apache-2.0
// Kullback-Leibler divergence: how far a model's probabilities are from a reference's, token by token of a text.
//
// KL(P||Q) = sum over the vocabulary of p * log(p / q), P the reference. Text, windows and scored positions are those of text_windows.h, so
// both perplexities are what `MeasurePerplexity` would say; they are compared position by position, which is far more exact than two
// figures with their own errors.
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
#include "eval/kl_file.h"
#include "eval/text_windows.h"

namespace pantry {

// One scored position.
struct KlPosition {
  double kl = 0;
  double reference_loss = 0;
  double loss = 0;
  bool same_top = false;
};

struct Estimate {
  double value = 0;
  double standard_error = 0;
};

struct KlResult {
  int64_t n_positions = 0;
  Estimate mean;
  double median = 0;
  double percentile_90 = 0;
  double percentile_99 = 0;
  double max = 0;
  Estimate same_top;  // share of positions at which both hold the same token most probable
  Estimate ppl;       // of the model
  Estimate reference_ppl;
  Estimate ppl_ratio;  // of the model's to the reference's, its error from the differences at each position
  double seconds = 0;
};

// REQUIRES: not empty.
KlResult SummariseKl(std::span<const KlPosition> positions);

// sum p * log(p / q) where q = softmax(logits). The same bits for any number of threads. REQUIRES: as many logits as steps.
double KlDivergence(ThreadPool& pool, const KlRow& p, std::span<const float> logits);

using KlProgress = std::function<bool(int64_t n_done, int64_t n_total)>;  // tokens; false stops

// What a reference of `text` would be: its windows, not yet its rows. kInvalidArgument when the text is too short.
Result<KlHead> MakeKlHead(const Engine& engine, std::string_view text, const WindowOptions& options, std::string model);
// Computes the rows. When it is stopped (kCancelled) or fails, no file is left. kCorruption when the model gives no probabilities.
Status SaveReference(Engine& engine, KlHead head, const WindowOptions& options, const std::string& path,
                     const KlProgress& keep_going = {});
// kInvalidArgument when the reference has another vocabulary. Scores options.max_chunks of its windows; n_ctx is the reference's.
Result<KlResult> CompareWithReference(Engine& engine, KlFile& reference, const WindowOptions& options,
                                      const KlProgress& keep_going = {});

}  // namespace pantry
