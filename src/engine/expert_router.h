// SPDX-License-Identifier: Apache-2.0
// An ExpertRouter is EngineOptions::expert_policy at work: it lets a CacheAwareRouter choose by what a WeightStream holds.
//
// Threads: one run at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"
#include "engine/weight_stream.h"
#include "policy/routing/cache_aware_router.h"
#include "weights/model_shape.h"

namespace pantry {

class ExpertRouter final : public NearExperts {
 public:
  // `stream` must outlive it. kInvalidArgument: the policy does not suit the model.
  static Result<std::unique_ptr<ExpertRouter>> Create(const ExpertPolicyOptions& options, const ModelShape& shape,
                                                      const WeightStream& stream);

  void Look(int32_t layer, std::span<uint8_t> is_near) const override;
  CacheAwareRouter& chooser() { return *chooser_; }
  const CacheAwareRouter& chooser() const { return *chooser_; }

  void BeginRun() { wait_us_ = stream_.wait_us(); }
  // The run was of `n_tokens`, took `us` and succeeded; steers a policy that is to be steered.
  void EndRun(int64_t n_tokens, int64_t us);

 private:
  explicit ExpertRouter(const WeightStream& stream) : stream_(stream) {}
  const WeightStream& stream_;
  std::unique_ptr<CacheAwareRouter> chooser_;
  int64_t wait_us_ = 0;  // of the stream, until the run at hand
};

}  // namespace pantry
