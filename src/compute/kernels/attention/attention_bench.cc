// SPDX-License-Identifier: Apache-2.0
// One thread. Decode: bytes of K and V per second, one row against a context. Prefill: multiply-adds per second of the last 64 rows of a
// context, in blocks as parallel_attention.h makes them. The caches of several layers are walked in turn, so that a long context comes
// from memory and not from a cache, as in a model.
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
  int32_t n_rows;  // of an item; 1: decode
};

constexpr Case kCases[] = {
    {KvType::kF16, 64, 3, 512, 1},    {KvType::kF16, 64, 3, 2048, 1},  {KvType::kF16, 64, 3, 8192, 1},
    {KvType::kQ8_0, 64, 3, 512, 1},   {KvType::kQ8_0, 64, 3, 2048, 1}, {KvType::kQ8_0, 64, 3, 8192, 1},
    {KvType::kQ4_0, 64, 3, 512, 1},   {KvType::kQ4_0, 64, 3, 2048, 1}, {KvType::kQ4_0, 64, 3, 8192, 1},
    {KvType::kQ4_0, 128, 4, 8192, 1}, {KvType::kQ4_0, 64, 3, 512, 5},  {KvType::kQ4_0, 64, 3, 8192, 5},
    {KvType::kF32, 64, 3, 8192, 1},   {KvType::kF16, 64, 1, 8192, 1},  {KvType::kF16, 128, 4, 8192, 1},
    {KvType::kQ8_0, 128, 4, 8192, 1}, {KvType::kF16, 128, 8, 8192, 1}, {KvType::kF16, 64, 3, 512, 5},
    {KvType::kQ8_0, 64, 3, 512, 5},   {KvType::kF32, 64, 3, 512, 5},   {KvType::kF16, 64, 3, 8192, 5},
    {KvType::kQ8_0, 64, 3, 8192, 5},  {KvType::kF16, 128, 4, 2048, 4}, {KvType::kF16, 128, 1, 2048, 16},
};
constexpr int64_t kPrefillRows = 60;
constexpr int64_t kDecodeBytes = int64_t{96} << 20;  // of all layers' caches; more than the L3 cache

void Measure(benchmark::State& state, const AttentionOps& ops, const Case& c) {
  const int64_t head_bytes = KvHeadBytes(c.type, c.head_dim, c.n_positions);
  const int64_t n_layers = c.n_rows > 1 ? 2 : std::max<int64_t>(1, kDecodeBytes / (2 * head_bytes));
  std::vector<uint8_t> k(static_cast<size_t>(head_bytes * n_layers)), v(k.size());
  // A layer is a KV head of one view: the same memory layout, and no view per layer.
  const KvLayerView view = {.k_type = c.type,
                            .v_type = c.type,
                            .k = k.data(),
                            .v = v.data(),
                            .n_positions = c.n_positions,
                            .n_kv_heads = static_cast<int32_t>(n_layers),
                            .head_dim = c.head_dim};
  const std::vector<float> row(static_cast<size_t>(c.head_dim), 0.25f);
  for (int32_t layer = 0; layer < n_layers; ++layer) {
    for (int64_t p = 0; p < c.n_positions; ++p) ops.store(view, layer, p, row.data(), row.data());
  }
  const int64_t n_rows = c.n_rows > 1 ? kPrefillRows : 1, stride = c.n_heads * c.head_dim;
  const std::vector<float> q(static_cast<size_t>(n_rows * stride), 0.5f);
  std::vector<float> out(q.size());
  AttentionQuery query = {.q = q.data(),
                          .q_stride = stride,
                          .n_rows = c.n_rows,
                          .n_heads = c.n_heads,
                          .kv_head = 0,
                          .position = 0,
                          .window = 0,
                          .scale = 0.125f,
                          .softcap = 0};
  for (auto _ : state) {
    for (int64_t done = 0; done < n_rows; done += c.n_rows) {
      query.q = q.data() + done * stride;
      query.position = c.n_positions - n_rows + done;
      ops.attend(view, query, out.data() + done * stride, stride);
    }
    benchmark::ClobberMemory();
    query.kv_head = static_cast<int32_t>((query.kv_head + 1) % n_layers);
  }
  const auto rounds = static_cast<double>(state.iterations());
  const auto pairs = static_cast<double>(n_rows * c.n_heads * (2 * c.n_positions - n_rows + 1) / 2);
  state.counters["GFLOPS"] = benchmark::Counter(rounds * pairs * 4 * c.head_dim * 1e-9, benchmark::Counter::kIsRate);
  if (c.n_rows == 1) state.SetBytesProcessed(state.iterations() * 2 * head_bytes);
}

bool RegisterAll() {
  for (const Case& c : kCases) {
    for (const Isa isa : kBuildIsas) {
      const AttentionOps& ops = AttentionOpsFor(isa);
      if (!IsaSupported(isa) || ops.isa != isa) continue;
      const std::string name =
          fmt::format("{}/{}/{}/dim{}/heads{}/positions{}", c.n_rows == 1 ? "attend_decode" : "attend_prefill",
                      IsaName(isa), KvTypeName(c.type), c.head_dim, c.n_heads, c.n_positions);
      benchmark::RegisterBenchmark(name.c_str(), [&ops, &c](benchmark::State& state) { Measure(state, ops, c); });
    }
  }
  return true;
}
const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace pantry
