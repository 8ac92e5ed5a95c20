// SPDX-License-Identifier: Apache-2.0
// A SimRouter is what engine/expert_router.h is to the engine: it lets the real CacheAwareRouter choose by what a SimStream holds, from what the
// routers said when the trace was recorded.
//
// The logits are those of the recorded run, whose hidden states another choice would have changed a little: the published replays of such
// policies take them as they are, too. Of a prompt that was computed at once none are recorded: it runs what it ran, and the mean range of
// a layer's logits begins with the first token that was computed alone (the engine's with the prompt).
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "policy/routing/cache_aware_router.h"
#include "sim/routing_trace.h"
#include "sim/sim_model.h"
#include "sim/sim_stream.h"

namespace pantry {

class SimRouter final : public NearExperts {
 public:
  // All of them must outlive it. kInvalidArgument: the policy does not suit the model, or the trace lacks logits.
  static Result<std::unique_ptr<SimRouter>> Create(const ExpertPolicyOptions& options, const SimModel& model,
                                                   const RoutingTrace& trace, const SimStream& stream);

  void Look(int32_t layer, std::span<uint8_t> is_near) const override;
  // What the policy would run, as things are, in place of what the trace's event of a single token wanted; ascending. The second changes and
  // counts nothing. Each is valid until it is called again.
  std::span<const BlockId> Choose(size_t event);
  std::span<const BlockId> Guess(size_t event);

  void BeginRun() { wait_us_ = stream_.wait_us(); }
  // It was of n_tokens and took `us`.
  void EndRun(int64_t n_tokens, double us);

  const CacheAwareRouter& chooser() const { return *chooser_; }

 private:
  SimRouter(const SimModel& model, const RoutingTrace& trace, const SimStream& stream);
  void SetBlocks(int32_t layer, std::vector<BlockId>& blocks) const;

  const RoutingTrace& trace_;
  const SimStream& stream_;
  std::unique_ptr<CacheAwareRouter> chooser_;
  int64_t wait_us_ = 0;  // of the stream, until the run at hand
  uint32_t n_experts_;
  std::vector<int32_t> chosen_;  // [n_used]  scratch
  std::vector<BlockId> wanted_, guessed_;
};

}  // namespace pantry
