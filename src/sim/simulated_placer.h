// SPDX-License-Identifier: Apache-2.0
// A SimulatedPlacer says where a SimModel's pieces lie, and takes a Machine's time to place them; it reads and writes nothing.
//
// Threads: the pool that places must have one thread, the caller: the machine itself knows how many cores share the work.
#pragma once

#include <algorithm>
#include <vector>

#include "residency/stream/block_placer.h"
#include "sim/machine.h"
#include "sim/sim_model.h"

namespace pantry {

class SimulatedPlacer final : public BlockPlacer {
 public:
  // Both must outlive the placer.
  SimulatedPlacer(const SimModel& model, const DeviceProfile& device, Machine& machine)
      : model_(model),
        machine_(machine),
        bytes_per_s_(model.places_blocks ? device.place_bytes_per_s : device.copy_bytes_per_s) {
    for (const BlockPiece& piece : model.pieces) max_piece_bytes_ = std::max(max_piece_bytes_, piece.n_bytes);
  }
  // Memory that the cache took for the first time since the last call is touched by what is placed next.
  void FreshMemory(int64_t n_bytes) { fresh_bytes_ += static_cast<double>(n_bytes); }

  size_t max_piece_bytes() const override { return max_piece_bytes_; }
  int n_pieces(BlockId block) const override {
    return static_cast<int>(model_.first_piece_of[block.value() + 1] - model_.first_piece_of[block.value()]);
  }
  BlockPiece Piece(BlockId block, int piece) const override {
    return model_.pieces[model_.first_piece_of[block.value()] + static_cast<uint32_t>(piece)];
  }
  Status Place(BlockId block, int piece, const uint8_t*, uint8_t*) const override {
    const auto n_bytes = static_cast<double>(Piece(block, piece).n_bytes);
    const double n_fresh = std::min(fresh_bytes_, n_bytes);
    fresh_bytes_ -= n_fresh;
    machine_.Place(n_bytes, bytes_per_s_, n_fresh);
    return OkStatus();
  }

 private:
  const SimModel& model_;
  Machine& machine_;
  const double bytes_per_s_;  // of one core
  size_t max_piece_bytes_ = 1;
  mutable double fresh_bytes_ = 0;
};

}  // namespace pantry
