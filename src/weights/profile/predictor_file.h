// SPDX-License-Identifier: Apache-2.0
// A PredictorFile holds what `pantry profile train` learned: for each gated feed-forward network of a model what predicts its neurons.
//
// A network is a dense layer, or an expert of a layer. What its numbers mean: compute/neuron_predictor.h. As a file, little-endian:
//
//   0   "PANTRYPD"                       36  f32 recall that was wanted          a network:
//   8   u32 version, 1                   40  u32 bytes of the name                 i32 rank; -1: it has no predictor
//   12  u32 n_layers                     44  u32 n_tokens it was made of           f32 recall, density, true_share
//   16  u32 n_networks of a layer        48  u64 0                                 then, of those with a predictor, in the same order:
//   20  u32 n_inputs                     56  u64 XXH3 of all else                  f32 bias [n_neurons]
//   24  u64 weights, NormsHash()         64  name, networks, predictors            f16 v [rank][n_inputs]
//   32  u32 n_neurons                                                              f16 u [n_neurons][rank]
//
// The checksum is hashed_bytes.h's. A rank-64 predictor of 14336 neurons and 4096 inputs takes 2.4 MB.
// Threads: a value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

struct PredictorFile {
  static constexpr int32_t kNone = -1;  // a rank: no predictor
  static constexpr int32_t kMostRank = 1024;

  struct Network {
    int32_t rank = kNone;
    // On samples that it was not trained on: of what fires, the share that is predicted; shares of the neurons that are predicted, and fire.
    float recall = 1;
    float density = 1;
    float true_share = 0;
    std::vector<float> bias;  // [n_neurons] less the threshold
    std::vector<uint16_t> v;  // [rank, n_inputs] F16
    std::vector<uint16_t> u;  // [n_neurons, rank] F16

    bool has_predictor() const { return rank != kNone; }
    int64_t n_bytes() const { return static_cast<int64_t>(4 * bias.size() + 2 * (v.size() + u.size())); }
  };

  std::string model;     // its name, for people
  uint64_t weights = 0;  // NormsHash()
  int32_t n_layers = 0;
  int32_t n_networks = 1;  // of a layer
  int32_t n_inputs = 0;
  int32_t n_neurons = 0;  // of a network
  float recall = 0;       // that was wanted
  int64_t n_tokens = 0;
  std::vector<Network> networks;  // [n_layers, n_networks]

  // Where a model's predictors lie if nobody says otherwise: MODEL.predictor.
  static std::string PathBeside(const std::string& model_path) { return model_path + ".predictor"; }

  std::string Serialize() const;
  // kCorruption when it is no such file, cut, damaged or holds numbers that are not finite; kUnsupported for another version; errors of
  // the reader.
  static Result<PredictorFile> Read(const Reader& reader);
};

}  // namespace pantry
