// SPDX-License-Identifier: Apache-2.0
// An ExpertSource finds the experts that a layer's tokens chose, a MatrixSource the matrices of a layer: where they do not lie in the
// model's own memory, but come from a disk, block by block. A NeuronSource finds the neurons that fire, an
// EmbeddingSource the rows of a run's tokens.
//
// A forward pass hands over what is to be computed; the source puts the blocks' addresses in and calls back as soon as some are there, in
// whatever order. What a block's rows get does not depend on that order (compute/matmul.h, compute/expert_matmul.h).
// Threads: one run at a time.
#pragma once

#include <cstdint>
#include <span>

#include "base/function_ref.h"
#include "base/status.h"
#include "base/strong_id.h"
#include "compute/expert_matmul.h"
#include "compute/neuron_layout.h"

namespace pantry {

// The experts of one layer: how a block looks, and where the blocks are if they are all in memory.
struct ExpertLayer {
  ExpertLayout layout;
  NeuronLayout neurons;  // where they are read alone: then a block is the gate and what neurons share, at neurons_at
  int64_t neurons_at = 0;
  int32_t n_experts = 0;
  ExpertBias biases;                // of expert 0; those of the others follow, always in memory
  const uint8_t* blocks = nullptr;  // expert i at blocks + i * layout.n_bytes; null: they come from a source

  ExpertBias BiasOf(int64_t expert) const {
    const auto at = [&](const float* first, int64_t n) { return first != nullptr ? first + expert * n : nullptr; };
    const ExpertBlock& shape = layout.shape;
    return {at(biases.gate, shape.gate.rows), at(biases.up, shape.up.rows), at(biases.down, shape.down.rows)};
  }
  const uint8_t* Block(int32_t expert) const { return blocks + expert * layout.n_bytes; }
};

// What computes tasks whose blocks are in memory.
using ExpertSink = FunctionRef<void(std::span<const ExpertTask> tasks)>;

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  // Sets `block` of each task and calls compute() with runs of them until each task was in exactly one. A block must stay where it is
  // until the call with it returns. `tasks` are of distinct experts of the layer, in ascending order; their order may be changed.
  virtual Status Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) = 0;
  // The layer's Provide() will want `experts`, the likeliest first and some perhaps twice: 1 for certain, less for a guess. Negative ones
  // are none. Does not wait.
  virtual void Expect(int32_t layer, std::span<const int32_t> experts, double likelihood) = 0;
};

// What computes tasks over parts of matrices, a row range each, that are in memory.
using MatrixSink = FunctionRef<void(std::span<const MatMulTask> tasks)>;

class MatrixSource {
 public:
  virtual ~MatrixSource() = default;
  // Calls compute() with tasks over parts of the tasks' matrices, at most kMaxMatMulTasks at once, until each row was in exactly one. A part
  // stays where it is until the call with it returns. `tasks` are of distinct matrices of one layer, all of which come from the source.
  virtual Status Provide(std::span<const MatMulTask> tasks, const MatrixSink& compute) = 0;
};

// The neurons of a layer that fire, from wherever their bundles lie (compute/neuron_layout.h), in the order in which they are computed. A
// layer has one network of neurons, or one for each expert.
//   BeginNeurons(layer) -> Want(neurons, perhaps by what Look() says) ... -> Await(next ones) -> ReleaseNeurons() ... -> EndNeurons()
// and before Await(), as often as wanted, Peek() and FetchOn().
class NeuronSource {
 public:
  static constexpr size_t kMostAtOnce = 512;  // of one Await()
  virtual ~NeuronSource() = default;
  // A run of `n_tokens` computes the model's layer `layer` now. kCancelled.
  virtual Status BeginNeurons(int32_t layer, int64_t n_tokens) = 0;
  // Which of these neurons of the layer's only network are in memory; those wanted before may be on their way.
  virtual void Look(std::span<const int32_t> neurons,
                    std::span<uint8_t> is_near) const = 0;  // [neurons.size()], all set
  // Neurons of a network that fire, behind those before; for n_uses[i] of the tokens each, empty: for one. Begins to fetch them, and does not
  // wait.
  virtual void Want(int32_t network, std::span<const int32_t> neurons, std::span<const uint16_t> n_uses) = 0;
  // Sets the bundles of those that come `skip` behind the next one in order, where they are in memory already; else null. They stay where
  // they are until they were awaited and released.
  virtual void Peek(size_t skip, std::span<const uint8_t*> bundles) const = 0;
  // Takes what has come and goes on fetching; does not wait. What failed is told by Await().
  virtual void FetchOn() = 0;
  // Sets the bundles of the next ones in order, of each NeuronLayout::kept_bytes; they stay where they are until ReleaseNeurons(). After an
  // error the layer has ended.
  virtual Status Await(std::span<const uint8_t*> bundles) = 0;
  virtual void ReleaseNeurons() = 0;
  virtual void EndNeurons() = 0;
};

class EmbeddingSource {
 public:
  virtual ~EmbeddingSource() = default;
  // Writes the tokens' rows of the embedding to out [tokens.size(), n_embd], the values that its matrix would give. An error names file and
  // tensor, and what was written means nothing then. REQUIRES: tokens in [0, n_vocab).
  virtual Status Rows(std::span<const TokenId> tokens, float* out) = 0;
};

}  // namespace pantry
