// SPDX-License-Identifier: Apache-2.0
// A RoutingTrace is what a model wanted, in the order in which it wanted it: one event per layer and token, each a set of blocks. Where it is
// known what the router said of all experts, another choice can be made in its place (sim_router.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/block_id.h"
#include "base/status.h"
#include "residency/cache/block_info.h"

namespace pantry {

struct RoutingTrace {
  struct Event {
    uint32_t begin = 0;  // into `wanted`; it ends where the next event begins
    uint16_t layer = 0;
    bool begins_step = false;  // the first event of a token, or of n_tokens that are computed together
    int32_t n_tokens = 1;      // of the step
    int64_t logits_at = -1;    // in `logits`; -1: not known
  };
  std::vector<Event> events;
  std::vector<BlockId> wanted;
  std::vector<float> logits;  // [events of a single token whose router's are known, n_logits]
  size_t n_logits = 0;        // of an event that has them: the experts of a layer

  // Adds an event. `blocks` belong to `layer` and are distinct; the last one counts as the most recent. `its_logits`: none, or as many as other
  // events have.
  void Add(int layer, bool begins_step, std::span<const BlockId> blocks, int32_t n_tokens = 1,
           std::span<const float> its_logits = {});
  std::span<const BlockId> blocks_of(size_t event) const;
  std::span<const float> logits_of(size_t event) const;  // none: not known
  size_t n_steps() const;
};

// A trace made up to look like a mixture-of-experts model's: a token's router logits are
//   1.2 popularity (Zipf-like, by layer) + 1.2 affinity to the topic at hand + 0.7 of the token's own,
// the n_chosen largest are wanted; tokens are drawn by Zipf's law and stay on a topic for a while.
// What it is not: a recording (routing_file.h). As it stands, neighbouring tokens share 44 to 49 % of their experts, and an LRU cache of 25 % / 50 % of 64
// experts hits 0.69 / 0.92 (published for trained fine-grained models: 34 to 50 %; 0.76 to 0.87 / 0.94 to 0.96). Layers are independent.
struct TraceShape {
  std::string name;
  int n_layers = 0;
  int n_experts = 0;  // of each layer; block of (layer, expert) = layer * n_experts + expert
  int n_chosen = 0;
};
struct TraceOptions {
  int n_tokens = 1000;
  uint64_t seed = 1;
  int n_topics = 48;
  double topic_stays = 0.2;  // likelihood that the next token stays on the topic; real text may stay longer
  double popularity = 1.2;
  double affinity = 1.2;
  double own = 0.7;
  bool ascends = false;       // an event's blocks, as the engine demands them; else the most liked first
  bool keeps_logits = false;  // with the choices; as made up as these
};
RoutingTrace MakeTrace(const TraceShape& shape, const TraceOptions& options);
// The block table that goes with it.
std::vector<BlockInfo> MakeBlocks(const TraceShape& shape, int64_t block_bytes);

// A dense model that is streamed: every token wants all of its n_tiles tiles of each layer.
RoutingTrace MakeRotation(int n_layers, int n_tiles, int n_tokens);

// Mean share of an event's blocks that the same layer wanted a token before.
double NeighbourOverlap(const RoutingTrace& trace);

}  // namespace pantry
