// SPDX-License-Identifier: Apache-2.0
// Weights that most architectures have and GGUF names alike, each kind with the function that names its tensors to a loader.
//
// An architecture's Layer derives from those that it has and adds its own; what is named or shaped otherwise it binds itself. Nothing is
// bound that it did not ask for, so the loader refuses a bias that its arithmetic does not know.
// Threads: values.
// Invariants: tensors are bound, and lie in memory, in the order of their use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "models/weight_loader.h"

namespace pantry {

// Where tokens come in and logits go out.
struct ModelEnds {
  WeightMatrix embedding;              // [n_vocab, n_embd]; no tiles where its rows come from a source
  const float* output_norm = nullptr;  // [n_embd]
  WeightMatrix own_output;             // [n_vocab, n_embd]; none: the embedding is used for both

  const WeightMatrix& output() const { return own_output ? own_output : embedding; }
};
void BindEnds(WeightLoader& loader, const ModelShape& shape, ModelEnds* out);

struct AttentionWeights {
  const float* attn_norm = nullptr;                                     // [n_embd]
  WeightMatrix q, k, v;                                                 // n_embd -> n_q, n_kv, n_kv
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;  // null: none
  const float *q_norm = nullptr, *k_norm = nullptr;                     // as QkNorms says
  WeightMatrix o;                                                       // n_q -> n_embd
  const float* o_bias = nullptr;
};
enum class Biases : uint8_t {
  kNone,
  kOptional,  // some fine-tunes have them
  kRequired
};
enum class QkNorms : uint8_t {
  kNone,
  kByHead,  // [head_dim]
  kWhole    // [n_q], [n_kv]
};
// What an architecture's attention has besides the norm and the four matrices.
struct AttentionExtras {
  Biases qkv_biases = Biases::kNone;
  QkNorms qk_norms = QkNorms::kNone;
  Biases o_bias = Biases::kNone;
};
// `block` begins the names of a layer's tensors: "blk.0.".
void BindAttention(WeightLoader& loader, const std::string& block, const ModelShape& shape,
                   const AttentionExtras& extras, AttentionWeights* out);

// A gated feed-forward network: of a dense layer, or an expert that every token passes.
struct GluWeights {
  WeightMatrix gate, up;  // n_embd -> n_ff
  WeightMatrix down;      // n_ff -> n_embd
  int32_t layer = -1;     // whose part it is, of a dense layer
  NeuronLayer neurons;    // then up and down are none: the neurons lie one by one
};
// `suffix` follows the names' "ffn_gate" and so on: "" or "_shexp".
void BindGlu(WeightLoader& loader, const std::string& block, const char* suffix, int64_t n_embd, int64_t n_ff,
             GluWeights* out);

// What follows attention in a dense layer.
struct DenseWeights : GluWeights {
  const float* ffn_norm = nullptr;  // [n_embd]
};
// Where neurons rest, they lie one by one if they can, for a forward pass that computes them so (ForwardPass::FeedForward): `may_rest`.
void BindDense(WeightLoader& loader, const std::string& block, const ModelShape& shape, DenseWeights* out,
               bool may_rest = false);

// What follows it in a layer with experts, besides these.
struct RoutedWeights {
  const float* ffn_norm = nullptr;  // [n_embd]
  WeightMatrix router;              // n_embd -> n_experts
};
void BindRouted(WeightLoader& loader, const std::string& block, const ModelShape& shape, RoutedWeights* out,
                ExpertLayer* experts);

// The layer behind the i-th, or null: whose experts are guessed while the i-th's are computed.
template <typename Layer>
const Layer* LayerAfter(int32_t i, const std::vector<Layer>& layers) {
  const size_t next = static_cast<size_t>(i) + 1;
  return next < layers.size() ? &layers[next] : nullptr;
}

}  // namespace pantry
