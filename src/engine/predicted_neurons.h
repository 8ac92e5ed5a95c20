// SPDX-License-Identifier: Apache-2.0
// PredictedNeurons are --predictor at work: what fires in networks that gate by ReLU is guessed from their input, and the rest is not computed.
//
// Where a single token is computed, only the gates that are predicted are: every token that is generated, and a prompt, or its rest behind
// the last full batch, that is one token. Where several are computed at once, all gates are, exactly, unless `all_rows` says that they are
// to be treated as tokens one by one would be. What a predictor misses rests, so the answer is not the model's own: this is lossy.
// Predictions, and what came of them, are counted.
// Threads: one run at a time.
// Source: Liu et al. 2023, arXiv 2310.17157; Song et al. 2023, arXiv 2312.12456.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/logger.h"
#include "base/status.h"
#include "compute/neuron_predictor.h"
#include "models/model.h"
#include "sys/aligned_buffer.h"
#include "sys/isa.h"
#include "weights/gguf/gguf_file.h"
#include "weights/model_shape.h"

namespace pantry {

struct PredictorOptions {
  std::string file;       // "": every gate is computed
  bool all_rows = false;  // also where several tokens are computed at once
};

class PredictedNeurons {
 public:
  // Null where nothing is predicted; `log` is told if that was not asked for. kNotFound: there is no such file, with how to make one;
  // kInvalidArgument: it is another model's; errors of PredictorFile::Read(); kOutOfBudget.
  static Result<std::unique_ptr<PredictedNeurons>> Load(const PredictorOptions& options, const GgufFile& file,
                                                        const ModelShape& shape, Isa isa, Logger& log);

  // A run of so many tokens begins. Takes memory where none was as long before.
  PredictorRun& BeginRun(int64_t n_tokens);

  struct Counts {
    int64_t n_neurons = 0;    // of networks that have a predictor, in rows for which it was asked
    int64_t n_gates = 0;      // of these, that were computed
    int64_t n_predicted = 0;  // to fire
    int64_t n_firing = 0;     // of those whose gate was computed
    int64_t n_missed = 0;     // of these, not predicted
    Counts operator-(const Counts& before) const;
    double density() const { return Share(n_predicted, n_neurons); }
    // Of the neurons, those that fire. None where gates were left out, and so nobody knows.
    std::optional<double> true_share() const {
      return n_gates == n_neurons ? std::optional(Share(n_firing, n_neurons)) : std::nullopt;
    }
    // Of what was predicted, the share that fired: predicted gates are computed always.
    double precision() const { return Share(n_firing - n_missed, n_predicted); }
    // None where gates were left out, and so nobody knows what was missed.
    std::optional<double> recall() const {
      return n_gates == n_neurons ? std::optional(1 - Share(n_missed, n_firing)) : std::nullopt;
    }

   private:
    static double Share(int64_t part, int64_t whole) {
      return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
    }
  };
  Counts counts() const;
  bool all_rows() const { return run_.all_rows; }
  double wanted_recall() const { return wanted_recall_; }
  int64_t n_bytes() const { return static_cast<int64_t>(memory_.size()); }  // of the predictors

 private:
  PredictedNeurons() = default;
  AlignedBuffer memory_;
  std::vector<NeuronPredictor> networks_;
  std::vector<float> reduced_;
  int64_t n_used_ = 1;  // networks of a layer that a row goes through
  double wanted_recall_ = 0;
  PredictorRun run_;
};

// Warns of layers where a prediction changes the answer and spares nothing, since all gates are computed anyway: they do not lie in rows.
void SayWherePredictingSavesNothing(const Model& model, Logger& log);

}  // namespace pantry
