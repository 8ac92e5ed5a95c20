// SPDX-License-Identifier: Apache-2.0
// A ModelShape is the set of hyperparameters that says what a model computes and how large its parts are. Pure data.
//
// Models, planner and simulator all read this; nobody but ParseModelShape() knows the GGUF keys.
// Threads: a value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace pantry {

class Metadata;

enum class RopeLayout : uint8_t {
  kInterleaved,  // pairs (0,1), (2,3), ...: llama as GGUF stores it
  kHalves,       // pairs (0, n/2), (1, n/2+1), ... ("NeoX"): qwen, phi, gemma
};
enum class RopeScaling : uint8_t {
  kNone,
  kLinear,
  kYarn,
  kLongRope
};  // Llama-3 scaling comes as the tensor rope_freqs.weight

struct RopeShape {
  RopeLayout layout = RopeLayout::kInterleaved;
  int32_t n_dims = 0;  // leading dimensions of a head that are rotated
  double freq_base = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double scale_factor = 1.0;  // context is this many times longer than trained
  int32_t original_context = 0;
  double attn_factor = 1.0;  // multiplies cos and sin, on top of YaRN's own 1 + 0.1 ln(scale_factor)
  double yarn_beta_fast = 32.0;
  double yarn_beta_slow = 1.0;
};

// How a router's logits become the weights of the experts that are chosen.
enum class ExpertGating : uint8_t {
  kSoftmax,          // over all experts
  kSigmoid,          // of each expert's own
  kSoftmaxOfChosen,  // over the chosen experts' logits
  kSparsemixer,  // one expert after another: softmax over those whose logit is near the largest that is left (phimoe)
};
// What a gated feed-forward network makes of gate and up, where architectures differ: each of them times up.
enum class GluActivation : uint8_t {
  kSilu,
  kRelu,   // smallthinker
  kDrelu,  // relu of both: Bamboo, TurboSparse (Song et al. 2024)
  kRelu2,  // relu(gate)^2
};
struct ExpertMixing {
  ExpertGating gating = ExpertGating::kSoftmax;
  bool normalized = false;  // weights are divided by their sum
  float scale = 1;          // multiplies them
};

// Attention whose keys and values are all made of one short vector a position, the latent, which the cache holds instead of them (MLA).
// A cached key is [rotated part | latent], the same for all heads, and a value the same again.
struct LatentShape {
  int32_t n_latent = 0;   // 0: no such attention
  int32_t plain_dim = 0;  // of a head's query, without its rotated part
  int32_t value_dim = 0;  // of a head's result
};

struct ModelShape {
  std::string architecture;  // "llama", "qwen2", ...
  std::string name;          // general.name
  int32_t n_layers = 0;
  int32_t n_embd = 0;  // width of the residual stream
  int32_t n_ff = 0;    // width of the feed-forward part; of the dense layers where there are experts, 0: no such layers
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;  // of keys and queries; values have the same
  LatentShape latent;
  int32_t n_vocab = 0;  // rows of the embedding
  int32_t n_ctx_train = 0;
  float norm_eps = 1e-5f;
  RopeShape rope;
  RopeShape rope_local;                // gemma3: of the layers with a sliding window; equals `rope` elsewhere
  int32_t sliding_window = 0;          // positions; 0: none
  std::vector<bool> layer_is_sliding;  // [n_layers]; a position sees itself and the sliding_window - 1 before it
  float attn_softcap = 0;              // gemma2; 0: none
  float final_softcap = 0;
  float attn_scale = 0;                // multiplies q.k; 1/sqrt(head_dim) unless the model says otherwise
  float embedding_scale = 1;           // gemma: sqrt(n_embd)
  std::vector<bool> layer_is_rotated;  // [n_layers]; smallthinker: not all of them
  int32_t n_experts = 0;               // 0: dense
  int32_t n_experts_used = 0;          // of a token, in a layer
  int32_t n_ff_expert = 0;             // width of an expert
  int32_t n_ff_shared = 0;             // width of what every token passes besides its experts; 0: none
  int32_t n_dense_layers = 0;          // leading layers without experts
  bool reads_expert_neurons = false;   // the file is a pack in which experts' neurons are read one by one
  ExpertMixing expert_mixing;
  GluActivation activation =
      GluActivation::kSilu;  // of llama and smallthinker; the other architectures have one of their own

  bool has_experts() const { return n_experts > 0; }
  // Of a layer's network, or of each of its experts.
  int32_t n_neurons() const { return has_experts() ? n_ff_expert : n_ff; }
  // Neurons whose gate is not positive rest: nothing else of them needs to be computed.
  bool gates_by_relu() const { return activation != GluActivation::kSilu; }
};

// kUnsupported for an architecture that Pantry does not run (the message lists those it does); kCorruption or kNotFound name the key.
// `n_vocab` is left 0 where the metadata do not say: the embedding tensor decides.
Result<ModelShape> ParseModelShape(const Metadata& metadata);

}  // namespace pantry
