// SPDX-License-Identifier: Apache-2.0
// Bytes of K and V per second that one decode step reads, on one thread. The caches of several layers are walked in turn, so that a long
// context comes from memory and not from the L2 cache, as in a model.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "compute/kernels/attention/attention.h"

namespace pantry {
namespace {

struct Case {
  KvType type;
  int32_t head_dim;
  int32_t n_heads;  // in the group
  int64_t n_positions;
};

constexpr Case kCases[] = {
    {KvType::kF16, 64, 3, 1024},  {KvType::kF16, 64, 3, 8192},  {KvType::kQ8_0, 64, 3, 1024},
    {KvType::kQ8_0, 64, 3, 8192}, {KvType::kF16, 128, 4, 1024}, {KvType::kF16, 128, 4, 8192},
    {KvType::kF16, 128, 8, 8192}, {KvType::kF16, 64, 1, 8192},  {KvType::kF32, 64, 3, 8192},
};
constexpr int64_t kTotalBytes = int64_t{48} << 20;  // of all layers' caches; more than an L3 slice

void Measure(benchmark::State& state, const AttentionOps& ops, const Case& c) {
  const int64_t row_bytes = KvRowBytes(c.type, c.head_dim);
  const int64_t head_bytes = row_bytes * c.n_positions;
  const int32_t n_layers = static_cast<int32_t>(std::max<int64_t>(1, kTotalBytes / (2 * head_bytes)));
  std::vector<float> row(static_cast<size_t>(c.head_dim), 0.25f), q(static_cast<size_t>(c.head_dim * c.n_heads), 0.5f),
      out(q.size());
  std::vector<uint8_t> k(static_cast<size_t>(head_bytes * n_layers)), v(k.size());
  for (int64_t at = 0; at < head_bytes * n_layers; at += row_bytes) {
    ops.store_row(c.type, row.data(), c.head_dim, k.data() + at);
    ops.store_row(c.type, row.data(), c.head_dim, v.data() + at);
  }
  // A layer is a KV head of one view: the same memory layout, and no view per layer.
  const KvLayerView view = {.k_type = c.type,
                            .v_type = c.type,
                            .k = k.data(),
                            .v = v.data(),
                            .n_positions = c.n_positions,
                            .n_kv_heads = n_layers,
                            .head_dim = c.head_dim};
  AttentionQuery query = {.q = q.data(),
                          .n_heads = c.n_heads,
                          .kv_head = 0,
                          .position = c.n_positions - 1,
                          .window = 0,
                          .scale = 0.125f,
                          .softcap = 0,
                          .out = out.data()};
  for (auto _ : state) {
    ops.attend(view, query);
    benchmark::ClobberMemory();
    query.kv_head = (query.kv_head + 1) % n_layers;
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * 2 * head_bytes);
}

bool RegisterAll() {
  for (const Case& c : kCases) {
    for (const Isa isa : kAllIsas) {
      const AttentionOps& ops = AttentionOpsFor(isa);
      if (!IsaSupported(isa) || ops.isa != isa) continue;
      const std::string name = fmt::format("attend/{}/{}/dim{}/heads{}/positions{}", IsaName(isa), KvTypeName(c.type),
                                           c.head_dim, c.n_heads, c.n_positions);
      benchmark::RegisterBenchmark(name.c_str(), [&ops, &c](benchmark::State& state) { Measure(state, ops, c); });
    }
  }
  return true;
}
const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace pantry
