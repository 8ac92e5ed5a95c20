// SPDX-License-Identifier: Apache-2.0
// A RunTrace draws what a run did, and when: the file of --trace.
//
//   tokens          a slice for each run of tokens: a part of a prompt, or one token
//   layers          each event of the stream, from wanting blocks to the last one's end: hits, late ones, misses, evictions
//   compute         "blocks": those that were there are computed; "between": what the model does besides
//   waits           nothing can be computed until a block comes
//   disk N          a read, on the lowest row that was free when it was submitted: from its first transfer until it was seen to have ended
//   placing N       thread N brings a piece's bytes into the kernels' layout
//   reads pending, hits %     counters
//
// A resident run has the tokens only. A streamed token of a model with 48 layers takes 50 to 200 KB of the file.
// Threads: as StreamObserver; Run() likewise.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/trace_file.h"
#include "engine/engine.h"
#include "residency/stream/stream_observer.h"

namespace pantry {

// The blocks of a streamed model: where each layer's begin.
struct StreamedLayer {
  int32_t number = 0;  // in the model
  BlockId first_block;
};

class RunTrace final : public StreamObserver {
 public:
  // What a trace is written to, and what it is called. `layers` ascend; none: a resident run.
  RunTrace(std::unique_ptr<TraceFile> file, std::string_view model, std::vector<StreamedLayer> layers);

  // A run succeeded at `end_us`.
  void Run(const RunReport& run, int64_t end_us);

  void EventBegan(const StreamedEvent& event) override;
  void BlocksEvicted(size_t n_blocks) override { n_evicted_ += static_cast<int64_t>(n_blocks); }
  void PieceSubmitted(uint32_t slot, ReadUrgency urgency) override;
  void PieceCame(const StreamedPiece& piece) override;
  void Waited(int64_t begin_us, int64_t end_us) override;
  void HandedOut(std::span<const BlockId> blocks, int64_t at_us) override;
  void Released(std::span<const BlockId> blocks, int64_t at_us) override;
  void EventEnded(int64_t at_us, bool is_complete) override;

 private:
  int32_t NumberOf(int layer) const { return layers_[static_cast<size_t>(layer)].number; }
  void NotePending(int64_t at_us);
  void FreeLane(uint32_t slot);

  std::unique_ptr<TraceFile> file_;
  std::vector<StreamedLayer> layers_;

  // The event at hand, or the last one.
  int layer_ = -1;
  int64_t event_begin_us_ = 0;
  int64_t event_end_us_ = 0;
  int64_t n_hits_ = 0, n_late_ = 0, n_misses_ = 0, n_evicted_ = 0;
  size_t n_out_ = 0;              // blocks that are being computed
  int64_t compute_begin_us_ = 0;  // since then

  // The run at hand.
  bool has_event_ = false;
  int64_t first_event_us_ = 0;
  int64_t n_run_hits_ = 0, n_run_wanted_ = 0;

  int n_pending_ = 0;  // pieces
  int n_pending_drawn_ = 0;
  std::vector<int> lane_of_slot_;  // -1: none
  std::vector<bool> lane_is_taken_;
  int n_place_threads_ = 0;  // that have a row
};

}  // namespace pantry
