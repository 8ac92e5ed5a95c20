// SPDX-License-Identifier: Apache-2.0
// Nanoseconds per row of every vector op on every instruction set that this CPU runs, for rows of 576 and 1536 numbers in the L1 cache.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

struct Rows {
  explicit Rows(int64_t n)
      : x(static_cast<size_t>(n), 0.75f),
        y(x),
        out(x),
        halves(x.size()),
        q(x.size()),
        scales(x.size() / 32),
        scaled_sums(x.size() / 32),
        sums(x.size() / 16) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 37) * 0.11f - 2.0f;
    activations = {.n_rows = 1,
                   .n_cols = n,
                   .f32 = x.data(),
                   .q = q.data(),
                   .scales = scales.data(),
                   .scaled_sums = scaled_sums.data(),
                   .sums = sums.data()};
  }
  std::vector<float> x, y, out;
  std::vector<uint16_t> halves;
  std::vector<int8_t> q;
  std::vector<float> scales, scaled_sums;
  std::vector<int16_t> sums;
  ActivationRows activations;
};

using Call = void (*)(const VectorOps& ops, Rows& rows, int64_t n);

struct Op {
  const char* name;
  Call call;
};

constexpr Op kOps[] = {
    {"rms_norm",
     [](const VectorOps& o, Rows& r, int64_t n) { o.rms_norm(r.x.data(), r.y.data(), n, 1e-5f, r.out.data()); }},
    {"layer_norm", [](const VectorOps& o, Rows& r,
                      int64_t n) { o.layer_norm(r.x.data(), r.y.data(), r.y.data(), n, 1e-5f, r.out.data()); }},
    {"add", [](const VectorOps& o, Rows& r, int64_t n) { o.add(r.out.data(), r.y.data(), n); }},
    {"add_scaled", [](const VectorOps& o, Rows& r, int64_t n) { o.add_scaled(r.out.data(), r.y.data(), 0.0f, n); }},
    {"scale", [](const VectorOps& o, Rows& r, int64_t n) { o.scale(r.out.data(), 1.0f, n); }},
    {"silu_mul", [](const VectorOps& o, Rows& r, int64_t n) { o.silu_mul(r.x.data(), r.y.data(), n, r.out.data()); }},
    {"gelu_mul", [](const VectorOps& o, Rows& r, int64_t n) { o.gelu_mul(r.x.data(), r.y.data(), n, r.out.data()); }},
    {"relu_mul", [](const VectorOps& o, Rows& r, int64_t n) { o.relu_mul(r.x.data(), r.y.data(), n, r.out.data()); }},
    {"drelu_mul", [](const VectorOps& o, Rows& r, int64_t n) { o.drelu_mul(r.x.data(), r.y.data(), n, r.out.data()); }},
    {"relu2_mul", [](const VectorOps& o, Rows& r, int64_t n) { o.relu2_mul(r.x.data(), r.y.data(), n, r.out.data()); }},
    {"clamped_swiglu",
     [](const VectorOps& o, Rows& r, int64_t n) { o.clamped_swiglu(r.x.data(), r.y.data(), n, r.out.data()); }},
    {"softcap", [](const VectorOps& o, Rows& r, int64_t n) { o.softcap(r.out.data(), n, 30.0f); }},
    {"rope_interleaved",
     [](const VectorOps& o, Rows& r, int64_t n) { o.rope_interleaved(r.out.data(), r.y.data(), n); }},
    {"rope_halves", [](const VectorOps& o, Rows& r, int64_t n) { o.rope_halves(r.out.data(), r.y.data(), n); }},
    {"f32_to_f16", [](const VectorOps& o, Rows& r, int64_t n) { o.f32_to_f16(r.x.data(), n, r.halves.data()); }},
    {"f16_to_f32", [](const VectorOps& o, Rows& r, int64_t n) { o.f16_to_f32(r.halves.data(), n, r.out.data()); }},
    {"quantize_row", [](const VectorOps& o, Rows& r, int64_t) { o.quantize_row(r.activations, 0); }},
};

void Measure(benchmark::State& state, const VectorOps& ops, Call call, int64_t n) {
  Rows rows(n);
  for (auto _ : state) {
    call(ops, rows, n);
    benchmark::ClobberMemory();
  }
}

bool RegisterAll() {
  for (const Op& op : kOps) {
    for (const Isa isa : kBuildIsas) {
      const VectorOps& ops = VectorOpsFor(isa);
      if (!IsaSupported(isa) || ops.isa != isa) continue;
      for (const int64_t n : {576, 1536}) {
        const std::string name = fmt::format("{}/{}/{}", op.name, IsaName(isa), n);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [&ops, &op, n](benchmark::State& state) { Measure(state, ops, op.call, n); });
      }
    }
  }
  return true;
}
const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace pantry
