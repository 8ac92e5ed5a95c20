// SPDX-License-Identifier: Apache-2.0
#include "cli/run_trace.h"

#include <algorithm>
#include <utility>

namespace pantry {
namespace {

// Numbers of rows, in the order in which they are shown. A stream has far less than 900 staging slots.
constexpr int kTokens = 1, kLayers = 2, kCompute = 3, kWaits = 4, kDisk = 100, kPlacing = 1000;

}  // namespace

RunTrace::RunTrace(std::unique_ptr<TraceFile> file, std::string_view model, std::vector<StreamedLayer> layers)
    : file_(std::move(file)), layers_(std::move(layers)) {
  file_->NameProcess(fmt::format("pantry: {}", model));
  file_->NameRow(kTokens, "tokens");
  if (layers_.empty()) return;
  file_->NameRow(kLayers, "layers");
  file_->NameRow(kCompute, "compute");
  file_->NameRow(kWaits, "waits");
}

void RunTrace::Run(const RunReport& run, int64_t end_us) {
  const int64_t begin_us = end_us - run.us;
  const int64_t last = run.first_position + run.n_tokens - 1;
  if (run.n_tokens == 1) {
    file_->Slice(kTokens, begin_us, end_us, R"("token {}")", run.first_position);
  } else {
    file_->Slice(kTokens, begin_us, end_us, R"("tokens {} to {}")", run.first_position, last);
  }
  if (has_event_) {
    file_->Slice(kCompute, begin_us, std::max(first_event_us_, begin_us), R"("between")");
    file_->Slice(kCompute, event_end_us_, end_us, R"("between")");
  }
  if (n_run_wanted_ > 0) {
    file_->Counter("hits %", begin_us, 100 * static_cast<double>(n_run_hits_) / static_cast<double>(n_run_wanted_));
  }
  has_event_ = false;
  n_run_hits_ = n_run_wanted_ = 0;
  file_->Flush();
}

void RunTrace::EventBegan(const StreamedEvent& event) {
  const bool is_new_run = !has_event_ || event.layer < layer_;  // also where the run before failed between its layers
  if (is_new_run) {
    has_event_ = true;
    first_event_us_ = event.at_us;
    n_run_hits_ = n_run_wanted_ = 0;
  } else {
    file_->Slice(kCompute, event_end_us_, event.at_us, R"("between")");
  }
  layer_ = event.layer;
  event_begin_us_ = event.at_us;
  n_hits_ = std::count(event.before.begin(), event.before.end(), BlockState::kResident);
  n_late_ = std::count(event.before.begin(), event.before.end(), BlockState::kReading);
  n_misses_ = std::count(event.before.begin(), event.before.end(), BlockState::kAbsent);
  n_run_hits_ += n_hits_;
  n_run_wanted_ += static_cast<int64_t>(event.wanted.size());
}

void RunTrace::EventEnded(int64_t at_us, bool is_complete) {
  event_end_us_ = at_us;
  file_->Slice(kLayers, event_begin_us_, at_us,
               R"("layer {}","args":{{"hits":{},"late":{},"misses":{},"evictions":{},"failed":{}}})", NumberOf(layer_),
               n_hits_, n_late_, n_misses_, n_evicted_, !is_complete);
  n_evicted_ = 0;
  if (is_complete) return;
  has_event_ = false;
  n_out_ = 0;
  n_pending_ = 0;
  std::fill(lane_of_slot_.begin(), lane_of_slot_.end(), -1);
  std::fill(lane_is_taken_.begin(), lane_is_taken_.end(), false);
  NotePending(at_us);
}

void RunTrace::PieceSubmitted(uint32_t slot, ReadUrgency) {
  ++n_pending_;
  auto lane = std::find(lane_is_taken_.begin(), lane_is_taken_.end(), false);
  if (lane == lane_is_taken_.end()) {
    const auto n = static_cast<int>(lane_is_taken_.size());
    file_->NameRow(kDisk + n, fmt::format("disk {}", n));
    lane = lane_is_taken_.insert(lane, false);
  }
  *lane = true;
  if (slot >= lane_of_slot_.size()) lane_of_slot_.resize(slot + 1, -1);
  lane_of_slot_[slot] = static_cast<int>(lane - lane_is_taken_.begin());
}

void RunTrace::FreeLane(uint32_t slot) {
  lane_is_taken_[static_cast<size_t>(lane_of_slot_[slot])] = false;
  lane_of_slot_[slot] = -1;
  --n_pending_;
}

void RunTrace::PieceCame(const StreamedPiece& piece) {
  const auto after =
      std::upper_bound(layers_.begin(), layers_.end(), piece.block,
                       [](BlockId block, const StreamedLayer& layer) { return block < layer.first_block; });
  const StreamedLayer& layer = *std::prev(after);
  const uint32_t index = piece.block.value() - layer.first_block.value();
  // Without a lane it was submitted before anybody looked.
  if (piece.slot < lane_of_slot_.size() && lane_of_slot_[piece.slot] >= 0) {
    file_->Slice(kDisk + lane_of_slot_[piece.slot], piece.started_us, piece.done_us,
                 R"("{} L{} #{}.{}","args":{{"bytes":{},"queued_us":{}}})",
                 piece.urgency == ReadUrgency::kGuess ? "guess" : "read", layer.number, index, piece.piece,
                 piece.n_bytes, piece.started_us - piece.submitted_us);
    FreeLane(piece.slot);
  }
  if (piece.place_thread < 0) return;
  for (; n_place_threads_ <= piece.place_thread; ++n_place_threads_) {
    file_->NameRow(kPlacing + n_place_threads_, fmt::format("placing {}", n_place_threads_));
  }
  file_->Slice(kPlacing + piece.place_thread, piece.place_begin_us, piece.place_end_us, R"("L{} #{}.{}")", layer.number,
               index, piece.piece);
}

void RunTrace::NotePending(int64_t at_us) {
  if (n_pending_ == n_pending_drawn_) return;
  n_pending_drawn_ = n_pending_;
  file_->Counter("reads pending", at_us, n_pending_);
}

void RunTrace::Waited(int64_t begin_us, int64_t end_us) {
  NotePending(begin_us);
  file_->Slice(kWaits, begin_us, end_us, R"("wait, layer {}")", NumberOf(layer_));
}

void RunTrace::HandedOut(std::span<const BlockId> blocks, int64_t at_us) {
  NotePending(at_us);
  if (n_out_ == 0) compute_begin_us_ = at_us;
  n_out_ += blocks.size();
}

void RunTrace::Released(std::span<const BlockId> blocks, int64_t at_us) {
  file_->Slice(kCompute, compute_begin_us_, at_us, R"("{} block{} of layer {}")", blocks.size(),
               blocks.size() == 1 ? "" : "s", NumberOf(layer_));
  compute_begin_us_ = at_us;
  n_out_ -= blocks.size();
  NotePending(at_us);
}

}  // namespace pantry
