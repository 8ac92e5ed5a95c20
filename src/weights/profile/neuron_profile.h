// SPDX-License-Identifier: Apache-2.0
// A NeuronProfile says how often each neuron of a model's feed-forward networks fires on a text, and how small activations are.
//
// Of a mixture of experts it says how often each expert was used, and each of its neurons fired, of all tokens; nothing of batches, since
// what several tokens wake depends on which experts they choose, nor of thresholds. Dense layers beside those of experts count nothing.
//
// A neuron of a ReLU network fires where its gate is positive. One of a SiLU network always does something; here it fires where
// |silu(gate)| reaches its layer's threshold, chosen so that the share `sparsity` of neurons rests (base/firing_gates.h).
// As a file, little-endian:
//
//   0   "PANTRYNP"                       36  f32 sparsity                       a layer:
//   8   u32 version, 1                   40  u32 bytes of the name                f32 active_share [6]
//   12  u32 n_layers                     44  u32 n_experts of a layer; 0: dense   f32 up_share, refire_share
//   16  u32 n_neurons                    48  u64 0                                f32 thresholds [100]
//   20  u32 activation (GluActivation)   56  u64 XXH3 of all else                 u8  heat [6][64], of 255
//   24  u64 weights                      64  name                                 u16 use [n_experts], of 65535
//   32  u32 n_tokens                         layers, without gaps                 u16 frequency [max(n_experts, 1)][n_neurons]
//
// The checksum is of bytes 0 to 55, seeding that of all from 64 on. A model of 30 layers of 1536 neurons takes 120 kB.
// Threads: a value.
// Source: Xue et al. 2024, arXiv 2406.06282 (heat by batch size); Lee et al. 2024, arXiv 2404.08763 (thresholds).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/firing_gates.h"
#include "base/status.h"
#include "io/reader.h"
#include "weights/gguf/gguf_file.h"
#include "weights/model_shape.h"

namespace pantry {

struct NeuronProfile {
  static constexpr std::array<int32_t, 6> kBatches = {1, 2, 4, 8, 16, 32};  // consecutive tokens
  static constexpr size_t kThresholds = 100;
  static constexpr size_t kHeatColumns = 64;
  static constexpr double kMostSparsity = 0.99;

  struct Layer {
    std::array<float, kBatches.size()> active_share = {};  // of the neurons, in a batch: mean over batches
    float up_share = 0;      // of neurons that fire, those whose up is positive: with dReLU only these say anything
    float refire_share = 0;  // of neurons that fired at the token before, those that fire again
    // Of |act(gate)|, over all neurons and tokens: thresholds[i] is greater than i % of them. Ascending; the first is 0.
    std::array<float, kThresholds> thresholds = {};
    // How often a batch makes a neuron active, in 255ths: neurons from the most to the least frequent, in columns of as many each.
    std::array<std::array<uint8_t, kHeatColumns>, kBatches.size()> heat = {};
    std::vector<uint16_t> use;        // [n_experts] of tokens that chose the expert, in 65535ths
    std::vector<uint16_t> frequency;  // [max(n_experts, 1) * n_neurons] of all tokens, in 65535ths

    // The threshold below which so much of |act(gate)| lies. REQUIRES: 0 <= share <= kMostSparsity.
    float ThresholdFor(double share) const;
  };

  std::string model;     // its name, for people
  uint64_t weights = 0;  // NormsHash()
  GluActivation activation = GluActivation::kSilu;
  int64_t n_tokens = 0;   // that it was made of
  float sparsity = 0;     // what firing means here; 0 where gates are of ReLU
  int32_t n_neurons = 0;  // of a layer's network, or of each of its experts
  int32_t n_experts = 0;  // of a layer; 0: it has one network
  std::vector<Layer> layers;

  size_t neurons_of_layer() const {
    return static_cast<size_t>(n_experts > 0 ? n_experts : 1) * static_cast<size_t>(n_neurons);
  }

  // Where a model's profile lies if nobody says otherwise: MODEL.profile.
  static std::string PathBeside(const std::string& model) { return model + ".profile"; }

  std::string Serialize() const;
  // kCorruption when it is no such file, cut or damaged; kUnsupported for another version; errors of the reader.
  static Result<NeuronProfile> Read(const Reader& reader);
};

// Of the norms before the feed-forward networks, which quantisation leaves as they are: so it tells models apart, and those that differ in
// number format only have the same. Errors of the reader.
Result<uint64_t> NormsHash(const GgufFile& file);

}  // namespace pantry
