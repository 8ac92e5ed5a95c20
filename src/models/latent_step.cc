// SPDX-License-Identifier: Apache-2.0
// The steps of latent attention: queries go to the latent's space instead of the latents to each head's, so that the cache holds, and
// attention reads, one key for all heads. The same numbers as expanding all keys and values, in another order.
#include <algorithm>

#include "compute/activations.h"
#include "models/forward_pass.h"

namespace pantry {

// A row of attn: [n_heads][plain | rotated], then [latent | rotated]. A head in qkv: [rotated | latent].
void ForwardPass::SplitLatents(const float* latent_norm) {
  ByRow([this, latent_norm](int64_t row) {
    const int64_t plain = shape_.latent.plain_dim, rotated = shape_.rope.n_dims, latent = shape_.latent.n_latent;
    const float* raw = attn + row * n_q;
    for (int32_t i = 0; i < shape_.n_heads; ++i, raw += plain + rotated) {
      std::copy_n(raw + plain, rotated, q + row * n_qkv + i * shape_.head_dim);
    }
    float *const key = k + row * n_qkv, *const value = v + row * n_qkv;
    std::copy_n(raw + latent, rotated, key);
    ops_.rms_norm(raw, latent_norm, latent, shape_.norm_eps, key + rotated);
    std::fill_n(value, rotated, 0.0f);
    std::copy_n(key + rotated, latent, value + rotated);
  });
}

void ForwardPass::ProjectHeads(const WeightStack& matrices, HeadPieces in, HeadPieces out, float* gathered) {
  FlushRowSteps();
  for (int32_t i = 0; i < shape_.n_heads; ++i) {
    const WeightMatrix matrix = matrices.At(i);
    const auto gather = [&](int64_t row) {
      std::copy_n(in.first + row * in.row_stride + i * in.head_stride, matrix.cols, gathered + row * matrix.cols);
    };
    const MatMulTask task = {&matrix, out.first + i * out.head_stride, out.row_stride};
    MatMul(pool_, {&task, 1}, ActivationRows::InScratch(gathered, m, matrix.cols, quantized_), RowTask(gather));
  }
}

}  // namespace pantry
