// SPDX-License-Identifier: Apache-2.0
// A NeuronStream brings the bundles of the neurons that fire into memory, and hands them out in their order.
//
// A layer's event: what fires is told as it becomes known, some neurons of a network after others, networks in any order, and reading of what is absent begins at once; meanwhile
// those in front are handed out and computed, a segment at a time. A bundle is read into a staging slot; it moves into the cache if it is worth
// that (NeuronCache), else it stays where it is until its segment was computed.
//
//   Begin(layer) --> Want(neurons) --> Want(more) ... --> Await(n) --> compute --> Release() --> Await(n) ... --> End()
//
// What lies in memory can be worked on before it is handed out, while the rest is read (Peek(), FetchOn()).
//
// In order, not in order of arrival, since sums over neurons have one order (compute/neuron_matmul.h). The reader is
// given as many reads as staging has slots, so that many wanted at once (a prompt's) are read ahead of the computing by so many.
// Threads: one at a time, not always the same; it makes progress in its calls only.
// Memory: staging, and 28 bytes for each neuron of a layer; nothing is allocated after Create() but the text of errors.
// Invariant: after an error, End() or Fill() no read is under way.
// Source: PowerInfer-2's pipeline without barriers, arXiv 2406.06282, section 4.4.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "io/block_reader.h"
#include "residency/cache/neuron_cache.h"
#include "residency/stream/block_stream.h"
#include "sys/aligned_buffer.h"

namespace pantry {

// Where the bundles of each network lie: of its neuron i at offsets[layer * n_networks + network] + i * bundle_bytes.
// All are multiples of kAlignment.
struct NeuronTable {
  static constexpr uint64_t kAlignment = 512;
  int file = 0;
  std::vector<uint64_t> offsets;
  int32_t n_networks = 1;    // of a layer
  int32_t n_neurons = 0;     // of a network
  int64_t bundle_bytes = 0;  // of a neuron in the file
  int64_t kept_bytes = 0;    // of these, the first that the cache keeps, as large as its slots, and Await() promises
  // Whether a bundle is what was packed; and the error that says it is not. `place`: of the network in `offsets`.
  std::function<bool(size_t place, int32_t neuron, std::span<const uint8_t> bundle)> is_intact;
  std::function<Status(size_t place, int32_t neuron)> damaged;

  size_t PlaceOf(int32_t layer, int32_t network) const {
    return static_cast<size_t>(layer) * static_cast<size_t>(n_networks) + static_cast<size_t>(network);
  }
  uint64_t OffsetOf(size_t place, int32_t neuron) const {
    return offsets[place] + static_cast<uint64_t>(neuron) * static_cast<uint64_t>(bundle_bytes);
  }
};

class NeuronStream {
 public:
  static constexpr size_t kMostAtOnce = 512;  // of one Await()
  // Two segments: one is read while another is computed.
  static constexpr int kStagingSlots = 2 * static_cast<int>(kMostAtOnce);
  // REQUIRES: a multiple of NeuronTable::kAlignment.
  static int64_t StagingBytes(int64_t bundle_bytes);

  // All must outlive the stream; nobody else uses cache and reader meanwhile. kOutOfBudget: no memory for staging.
  static Result<std::unique_ptr<NeuronStream>> Create(const NeuronTable& table, NeuronCache& cache, BlockReader& reader,
                                                      const Clock& clock);
  ~NeuronStream();
  NeuronStream(const NeuronStream&) = delete;
  NeuronStream& operator=(const NeuronStream&) = delete;

  // REQUIRES: the event before has ended.
  void Begin(int32_t layer, int64_t n_tokens);
  // Behind what was wanted before; ascending. `n_uses`: as NeuronCache::Use(). A neuron is wanted once in an event.
  void Want(int32_t network, std::span<const int32_t> neurons, std::span<const uint16_t> n_uses);
  // Sets the bundles of those that come `skip` behind the next one in order, null where one is not in memory yet. They stay until they
  // were handed out and released. REQUIRES: so many are wanted and were not handed out.
  void Peek(size_t skip, std::span<const uint8_t*> bundles) const;
  // Takes what was read and gives the reader what there is room for; does not wait. What failed is told by Await().
  void FetchOn();
  // Sets the next bundles in order, once all are in memory. They stay until Release(). kIoError, kCorruption: the event is over.
  // REQUIRES: bundles.size() <= kMostAtOnce; so many are wanted and were not handed out.
  Status Await(std::span<const uint8_t*> bundles);
  void Release();
  void End();  // REQUIRES: all wanted ones were handed out and released, or Await() failed

  // Between two events: brings absent neurons of a network, ascending, into the cache while that has room, before anybody wants them. Those
  // that lie near each other come in one large read. Errors as Await().
  Status Fill(int32_t layer, int32_t network, std::span<const int32_t> neurons);

  const BlockStreamStats& stats() const { return stats_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Entry {                      // a wanted neuron
    const uint8_t* bundle = nullptr;  // null: not there yet
    int32_t neuron = 0;
    int32_t network = 0;
    uint32_t staging = kNone;  // slot that it holds
  };

  NeuronStream(const NeuronTable& table, NeuronCache& cache, BlockReader& reader, const Clock& clock);
  void Pump();
  Status Collect(int64_t timeout_us);
  Status Take(const BlockReadDone& done);
  void FreeStaging(Entry& entry);
  void Reset();
  void Abandon();
  struct FillRead {
    int32_t first = 0;                   // neuron
    std::span<const int32_t> neurons{};  // of the layer that are wanted of it
    size_t n_bytes = 0;
  };
  FillRead NextFill(std::span<const int32_t>& left) const;
  Status TakeFill(size_t place, const FillRead& read, const uint8_t* bytes);

  const NeuronTable& table_;
  NeuronCache& cache_;
  BlockReader& reader_;
  const Clock& clock_;
  AlignedBuffer staging_;
  size_t staging_slot_bytes_ = 0;
  std::vector<uint32_t> free_staging_;
  std::vector<BlockReadDone> done_;
  std::vector<BlockRead> reads_;  // scratch of Pump()

  int32_t layer_ = 0;
  std::vector<Entry> entries_;    // of the event, [n_wanted_]
  std::vector<uint32_t> absent_;  // entries to be read, [n_absent_]; from next_absent_ on not submitted
  size_t n_wanted_ = 0;
  size_t n_absent_ = 0;
  size_t next_absent_ = 0;
  size_t n_released_ = 0;  // entries below were handed out and released
  size_t n_handed_ = 0;    // entries below were handed out
  Status failed_;          // in FetchOn(): for Await()
  BlockStreamStats stats_;
};

}  // namespace pantry
