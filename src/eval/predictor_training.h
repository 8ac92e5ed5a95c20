// SPDX-License-Identifier: Apache-2.0
// TrainPredictors() has a model read a text and learns for each of its gated feed-forward networks to predict which neurons fire.
//
// Four fifths of the text are learned from, the last fifth is held back: it decides on thresholds and ranks, and the figures are of it.
// Threads: as Session; networks are trained by the engine's pool, each by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "policy/predict/train_predictor.h"
#include "weights/profile/predictor_file.h"

namespace pantry {

struct PredictorTrainingOptions {
  static constexpr int64_t kLeastTokens = 64;

  int64_t max_tokens = 4096;  // of the text that are read
  int64_t n_ctx = 512;        // tokens of a window
  int32_t n_batch = 512;
  TrainOptions train;
  Status Validate() const;
  SessionOptions session() const;  // what it asks of the engine
};

struct TrainedPredictors {
  PredictorFile file;
  std::vector<std::vector<RankTried>> tried;  // [n_layers * n_networks] every rank that was tried
};

struct TrainingCallbacks {  // false: kCancelled; empty: nobody is asked
  std::function<bool(int64_t n_done, int64_t n_total)> on_token = {};
  std::function<bool(int64_t n_done, int64_t n_total)> on_network = {};  // also between two, with the same numbers
};

// kUnsupported for models whose neurons do not gate by ReLU, and files whose gates cannot be read row by row; kInvalidArgument where the text
// is too short; kCancelled. REQUIRES: nobody else observes the neurons.
Result<TrainedPredictors> TrainPredictors(Engine& engine, std::string_view text,
                                          const PredictorTrainingOptions& options,
                                          const TrainingCallbacks& callbacks = {});

// A line for each layer, its networks taken together, and one for all of them.
std::string PredictorTable(const PredictorFile& file);
std::string PredictorJson(const TrainedPredictors& trained);

}  // namespace pantry
