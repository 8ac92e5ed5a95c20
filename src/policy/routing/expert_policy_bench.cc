// SPDX-License-Identifier: Apache-2.0
// What a choice costs: 128 experts of which a token uses 8, half of them near.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/rng.h"
#include "policy/routing/cache_aware_router.h"

namespace pantry {
namespace {

class HalfNear final : public NearExperts {
 public:
  void Look(int32_t, std::span<uint8_t> is_near) const override {
    for (size_t i = 0; i < is_near.size(); ++i) is_near[i] = i * 7 % 2 == 0 ? 1 : 0;
  }
};

void BM_Choose(benchmark::State& state, const std::string& policy) {
  constexpr int32_t kExperts = 128, kUsed = 8;
  const HalfNear near;
  const CacheAwareRouterOptions options = {
      .policy = ParseExpertPolicy(policy).value(), .n_layers = 1, .n_experts = kExperts, .n_used = kUsed};
  const auto router = CacheAwareRouter::Create(options, near).value();
  constexpr size_t kTokens = 64;
  Rng rng(1);
  std::vector<float> logits(kTokens * kExperts);
  for (float& logit : logits) logit = static_cast<float>(8 * (rng.NextDouble() + rng.NextDouble() + rng.NextDouble()));
  std::vector<int32_t> chosen(kUsed);
  size_t token = 0;
  for (auto _ : state) {
    router->Choose(0, 1, std::span(logits).subspan(token * kExperts, kExperts), chosen);
    token = (token + 1) % kTokens;
    benchmark::DoNotOptimize(chosen.data());
  }
}
BENCHMARK_CAPTURE(BM_Choose, exact, "exact");
BENCHMARK_CAPTURE(BM_Choose, max_rank_16, "max-rank:16");
BENCHMARK_CAPTURE(BM_Choose, max_rank_64, "max-rank:64");
BENCHMARK_CAPTURE(BM_Choose, cumulative, "cumulative:0.9");
BENCHMARK_CAPTURE(BM_Choose, cumulative_all, "cumulative:1");
BENCHMARK_CAPTURE(BM_Choose, margin, "margin:0.1");
BENCHMARK_CAPTURE(BM_Choose, cache_prior, "cache-prior:0.3");
BENCHMARK_CAPTURE(BM_Choose, drop, "drop:0.1");

}  // namespace
}  // namespace pantry
