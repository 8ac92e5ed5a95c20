// SPDX-License-Identifier: Apache-2.0
// A Model turns tokens into logits: hyperparameters, packed weights and a straight-line forward pass. One file per architecture.
//
// Forward() computes a run of tokens, those of a timeline at consecutive positions, writes their keys and values into the caller's KV caches,
// and gives the logits of the rows that were asked for. A run may hold parts of several timelines: weights are read once for all of them.
// The result of a position does not depend on how the tokens before it were split into runs, on what else is in its run, nor on threads (see
// compute/kernels: one canonical order of summation).
// Threads: immutable after Load(); Forward() from several threads only with distinct workspaces, pools and caches.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/firing_gates.h"
#include "base/logger.h"
#include "base/neuron_observer.h"
#include "base/routing_observer.h"
#include "base/status.h"
#include "base/strong_id.h"
#include "compute/kernels/attention/attention.h"
#include "compute/neuron_predictor.h"
#include "models/weight_source.h"
#include "policy/neurons/neuron_prior.h"
#include "policy/routing/expert_chooser.h"
#include "sys/aligned_buffer.h"
#include "sys/isa.h"
#include "sys/thread_pool.h"
#include "weights/gguf/gguf_file.h"
#include "weights/model_shape.h"

namespace pantry {

// Called while weights are read, from the loading thread. Returns false to cancel.
using LoadProgress = std::function<bool(int64_t n_bytes_done, int64_t n_bytes_total)>;

class WeightPlacer;
// The rows of a run that belong to one timeline: consecutive positions, and where their keys and values go.
struct RunPart {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int64_t first_position = 0;       // of first_row; the cache holds all positions before it
  std::span<const KvLayerView> kv;  // [n_layers]; capacity >= first_position + n_rows; no other part's
};
// A run of tokens to compute. "A run of one token" below is one of a single row, of whatever timeline.
struct ForwardRun {
  std::span<const TokenId> tokens;        // at most the workspace's max_tokens
  std::span<const RunPart> parts;         // one timeline after another, together all rows
  std::span<const int32_t> logit_rows;    // indices into tokens, ascending: whose logits are wanted
  std::span<float> logits;                // [logit_rows.size(), n_vocab]
  ExpertSource* experts = nullptr;        // where experts come from; null: the model's own memory
  MatrixSource* matrices = nullptr;       // likewise the matrices of layers
  NeuronSource* neuron_source = nullptr;  // likewise the neurons of dense layers, where they lie one by one
  NeuronPrior* neuron_prior = nullptr;    // which of these run in a run of one token; null: all that fire
  // Likewise the tokens' rows of the embedding.
  EmbeddingSource* embedding = nullptr;
  ExpertChooser* chooser = nullptr;    // which experts run; null: those that the router likes best
  RoutingObserver* routing = nullptr;  // told which experts run in each layer; null: nobody
  // Told gate and up of dense layers, which compute all of their neurons then, and the gates of experts; null: nobody.
  NeuronObserver* neurons = nullptr;
  // [n_layers] which neurons of a SiLU network fire in each dense layer, the others rest; none: all of them. And how many did.
  std::span<const FiringGates> firing = {};
  std::atomic<int64_t>* n_firing = nullptr;
  // Which neurons of a ReLU network are predicted to fire, the others rest; null: every gate is computed. Runs of several
  // tokens are exact unless it says all_rows; one of a single token, a prompt's last one too, asks it. Neurons of a source do not.
  PredictorRun* prediction = nullptr;
};

// What matrices cost a token: the bytes of them that a forward pass reads, and the multiply-adds of one token, by the arithmetic
// that their kernels use. Attention is not in it.
struct MatrixCost {
  int64_t n_bytes = 0;  // packed
  int64_t int8_macs = 0;
  int64_t float_macs = 0;
};
struct ModelCost {
  MatrixCost layers;  // of every token
  MatrixCost output;  // of those whose logits are wanted
};

class Workspace;

class Model {
 public:
  // Reads all weights of `file` into memory that the model owns, packed for `isa`. kUnsupported (architecture, tensor type),
  // kCorruption (missing tensor, wrong dims: names tensor, expected, found), kOutOfBudget, kIoError, kCancelled.
  // `in_file`, if given, is told where experts lie, or of a model without experts the matrices of its layers, and they stay there, as does
  // an embedding that is not the output matrix, too: Forward() then takes them from its run's sources. `by_neuron`: feed-forward networks that gate by ReLU are laid out so that a token
  // computes only what fires; results are the same. `has_thresholds`: runs say which neurons fire
  // (ForwardRun::firing), so those that gate by SiLU likewise. `has_predictors`: they have ForwardRun::prediction, so gate, too, lies in rows.
  static Result<std::unique_ptr<Model>> Load(const GgufFile& file, Isa isa, ThreadPool& pool, Logger& log,
                                             const LoadProgress& progress, WeightPlacer* in_file = nullptr,
                                             bool by_neuron = true, bool has_thresholds = false,
                                             bool has_predictors = false);
  virtual ~Model() = default;

  const ModelShape& shape() const { return shape_; }
  Isa isa() const { return isa_; }
  int64_t weight_bytes() const { return weight_bytes_; }          // in memory, packed
  int32_t layers_by_neuron() const { return layers_by_neuron_; }  // dense ones, where a token reads only what fires
  const ModelCost& cost() const { return cost_; }
  std::span<const ExpertLayer> experts() const { return experts_; }  // [n_layers], or none; dense layers' are empty

  // Scratch for runs of up to max_tokens tokens.
  virtual Result<std::unique_ptr<Workspace>> MakeWorkspace(int64_t max_tokens) const = 0;
  // Bytes that MakeWorkspace(max_tokens) takes; known before loading for the planner's sake.
  virtual int64_t WorkspaceBytes(int64_t max_tokens) const = 0;

  // REQUIRES: workspace came from this model; tokens in [0, n_vocab). Never fails after its arguments are checked.
  virtual Status Forward(const ForwardRun& run, ThreadPool& pool, Workspace& workspace) const = 0;

 protected:
  ModelShape shape_;
  Isa isa_ = Isa::kScalar;
  int64_t weight_bytes_ = 0;
  int32_t layers_by_neuron_ = 0;
  ModelCost cost_;
  std::vector<ExpertLayer> experts_;
};

// What Model::Load() will keep in memory and a workspace of max_tokens will take, known from the file's table alone: for the planner.
// Errors as Model::Load(), less those of reading. `cost`, if given, becomes what Model::cost() will be.
Result<int64_t> PackedWeightBytes(const GgufFile& file, Isa isa, WeightPlacer* in_file = nullptr,
                                  ModelCost* cost = nullptr, bool by_neuron = true);
int64_t ForwardWorkspaceBytes(const ModelShape& shape, int64_t max_tokens);

// The scratch memory of a forward pass; allocated once, reused for every run. A run of n tokens commits Model::WorkspaceBytes(n) of it.
class Workspace {
 public:
  virtual ~Workspace() = default;
  virtual int64_t max_tokens() const = 0;
  // Gives back to the system what runs of up to n_tokens do not need; it comes again with the next larger run.
  virtual void Trim(int64_t n_tokens) = 0;
};

}  // namespace pantry
