// SPDX-License-Identifier: Apache-2.0
// TrainPredictors() has a model read a text and learns for each of its gated feed-forward networks to predict which neurons fire.
//
// Of the text's windows the last fifth, at least one, is held back, and the others are learned from: what is held back decides on thresholds and
// ranks, and the figures are of it. Of each network so many rows are kept as fit into memory.
// Threads: as Session; networks are trained by the engine's pool, each by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "eval/observed_text.h"
#include "policy/predict/train_predictor.h"
#include "weights/profile/predictor_file.h"

namespace pantry {

struct PredictorTrainingOptions : ObservedTextOptions {
  static constexpr int64_t kLeastTokens = 64;
  static constexpr int64_t kLeastWindow = 4;

  int64_t room_bytes = int64_t{4} << 30;  // that may be taken beside the model and its session
  TrainOptions train;
  Status Validate() const;
};

struct TrainedPredictors {
  PredictorFile file;
  std::vector<std::vector<RankTried>> tried;  // [n_layers * n_networks] every rank that was tried
  int64_t most_rows = 0;                      // of each network that were learned from
  bool is_short_of_memory = false;            // there would have been more
};

struct TrainingCallbacks {  // false: kCancelled; empty: nobody is asked
  std::function<bool(int64_t n_done, int64_t n_total)> on_token = {};
  std::function<bool(int64_t n_done, int64_t n_total)> on_network = {};  // also between two, with the same numbers
};

// kUnsupported for models whose neurons do not gate by ReLU, and files whose gates cannot be read row by row; kInvalidArgument where the text
// is too short; kOutOfBudget: not even few rows fit into room_bytes; kCancelled. REQUIRES: nobody else observes the neurons.
Result<TrainedPredictors> TrainPredictors(Engine& engine, std::string_view text,
                                          const PredictorTrainingOptions& options,
                                          const TrainingCallbacks& callbacks = {});

// A line for each layer, its networks taken together, and one for all of them.
std::string PredictorTable(const PredictorFile& file);
std::string PredictorJson(const TrainedPredictors& trained);

}  // namespace pantry
