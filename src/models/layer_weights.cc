// SPDX-License-Identifier: Apache-2.0
#include "models/layer_weights.h"

namespace pantry {
namespace {

void BindBias(WeightLoader& loader, const std::string& name, Biases biases, int64_t n, const float** out) {
  if (biases == Biases::kOptional) loader.OptionalVector(name, n, out);
  if (biases == Biases::kRequired) loader.Vector(name, n, out);
}

}  // namespace

void BindEnds(WeightLoader& loader, const ModelShape& shape, ModelEnds* out) {
  if (loader.file().FindTensor("output.weight") != nullptr) {
    loader.Rows("token_embd.weight", shape.n_vocab, shape.n_embd, &out->embedding);
  } else {
    loader.Matrix("token_embd.weight", shape.n_vocab, shape.n_embd, &out->embedding);
  }
  loader.Vector("output_norm.weight", shape.n_embd, &out->output_norm);
  loader.OptionalMatrix("output.weight", shape.n_vocab, shape.n_embd, &out->own_output);
}

void BindAttention(WeightLoader& loader, const std::string& block, const ModelShape& shape,
                   const AttentionExtras& extras, AttentionWeights* out) {
  const int64_t n_embd = shape.n_embd, head_dim = shape.head_dim;
  const int64_t n_q = shape.n_heads * head_dim, n_kv = shape.n_kv_heads * head_dim;
  loader.Vector(block + "attn_norm.weight", n_embd, &out->attn_norm);
  loader.Matrix(block + "attn_q.weight", n_q, n_embd, &out->q);
  loader.Matrix(block + "attn_k.weight", n_kv, n_embd, &out->k);
  loader.Matrix(block + "attn_v.weight", n_kv, n_embd, &out->v);
  BindBias(loader, block + "attn_q.bias", extras.qkv_biases, n_q, &out->q_bias);
  BindBias(loader, block + "attn_k.bias", extras.qkv_biases, n_kv, &out->k_bias);
  BindBias(loader, block + "attn_v.bias", extras.qkv_biases, n_kv, &out->v_bias);
  if (extras.qk_norms != QkNorms::kNone) {
    const bool is_by_head = extras.qk_norms == QkNorms::kByHead;
    loader.Vector(block + "attn_q_norm.weight", is_by_head ? head_dim : n_q, &out->q_norm);
    loader.Vector(block + "attn_k_norm.weight", is_by_head ? head_dim : n_kv, &out->k_norm);
  }
  loader.Matrix(block + "attn_output.weight", n_embd, n_q, &out->o);
  BindBias(loader, block + "attn_output.bias", extras.o_bias, n_embd, &out->o_bias);
}

void BindGlu(WeightLoader& loader, const std::string& block, const char* suffix, int64_t n_embd, int64_t n_ff,
             GluWeights* out) {
  const auto name = [&](const char* part) { return fmt::format("{}{}{}.weight", block, part, suffix); };
  loader.Matrix(name("ffn_gate"), n_ff, n_embd, &out->gate);
  loader.Matrix(name("ffn_up"), n_ff, n_embd, &out->up);
  loader.Matrix(name("ffn_down"), n_embd, n_ff, &out->down);
}

void BindDense(WeightLoader& loader, const std::string& block, const ModelShape& shape, DenseWeights* out,
               bool may_rest) {
  loader.Vector(block + "ffn_norm.weight", shape.n_embd, &out->ffn_norm);
  out->layer = WeightLoader::LayerOf(block);
  const std::string gate = block + "ffn_gate.weight", up = block + "ffn_up.weight", down = block + "ffn_down.weight";
  const bool come_alone = may_rest && shape.gates_by_relu() && loader.leaves_neurons();
  const bool rest = may_rest && (shape.gates_by_relu() || loader.rests_by_threshold());
  if (!come_alone && !(rest && loader.CanLieByNeuron(gate, up, down))) {
    return BindGlu(loader, block, "", shape.n_embd, shape.n_ff, out);
  }
  loader.Matrix(gate, shape.n_ff, shape.n_embd, &out->gate, loader.gate_order(!come_alone));
  loader.Neurons(up, down, shape.n_ff, shape.n_embd, out->gate, &out->neurons);
}

void BindRouted(WeightLoader& loader, const std::string& block, const ModelShape& shape, RoutedWeights* out,
                ExpertLayer* experts) {
  loader.Vector(block + "ffn_norm.weight", shape.n_embd, &out->ffn_norm);
  loader.Matrix(block + "ffn_gate_inp.weight", shape.n_experts, shape.n_embd, &out->router);
  loader.Experts(block, shape.n_experts, shape.n_embd, shape.n_ff_expert, experts, shape.gates_by_relu());
}

}  // namespace pantry
