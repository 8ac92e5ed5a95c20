// SPDX-License-Identifier: Apache-2.0
#include "residency/stream/neuron_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "io/disk_queue.h"

namespace pantry {
namespace {

constexpr int32_t kLayers = 3;
constexpr int32_t kNeurons = 3000;  // more than staging has slots
constexpr int64_t kBundle = 1536;   // not a divisor of a page
constexpr int64_t kKept = 1088;     // of it, in a slot

uint8_t ByteAt(uint64_t offset) { return static_cast<uint8_t>(offset * 2654435761U >> 13); }

struct Bench {
  explicit Bench(int64_t n_slots, size_t n_missing_bytes = 0) : bytes(kLayers * kNeurons * kBundle - n_missing_bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = ByteAt(i);
    file = MakeMemoryReader("neurons", bytes);
    const std::vector<const Reader*> files = {file.get()};
    auto queue = OpenReaderQueue(files, 16);
    PANTRY_CHECK(queue.ok());
    reader = std::make_unique<BlockReader>(files, std::move(queue).value(), BlockReaderOptions(), clock);
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      table.offsets.push_back(static_cast<uint64_t>(layer) * kNeurons * kBundle);
    }
    table.n_neurons = kNeurons;
    table.bundle_bytes = kBundle;
    table.kept_bytes = kKept;
    table.is_intact = [](size_t, int32_t, std::span<const uint8_t> bundle) {
      return bundle[1] != bundle[0] || bundle[2] != bundle[0];
    };
    table.damaged = [](size_t layer, int32_t neuron) { return CorruptionError("{} of {}", neuron, layer); };
    cache = NeuronCache::Create(
                {.n_layers = kLayers, .n_neurons = kNeurons, .slot_bytes = kKept, .budget_bytes = n_slots * kKept})
                .value();
    stream = NeuronStream::Create(table, *cache, *reader, clock).value();
  }
  bool IsNeuron(const uint8_t* bundle, int32_t layer, int32_t neuron) const {
    const uint64_t at = (static_cast<uint64_t>(layer) * kNeurons + static_cast<uint64_t>(neuron)) * kBundle;
    for (uint64_t i = 0; i < kKept; ++i) {
      if (bundle[i] != ByteAt(at + i)) return false;
    }
    return true;
  }
  // The whole event, told in parts of `n_told` and taken in segments of `n_taken`. False: a bundle was wrong.
  Status Run(int32_t layer, const std::vector<int32_t>& wanted, size_t n_told, size_t n_taken) {
    stream->Begin(layer, 1);
    for (size_t i = 0; i < wanted.size(); i += n_told) {
      stream->Want(0, std::span(wanted).subspan(i, std::min(n_told, wanted.size() - i)), {});
    }
    for (size_t i = 0; i < wanted.size(); i += n_taken) {
      std::vector<const uint8_t*> there(wanted.size() - i), later(wanted.size() - i);
      const size_t skip = there.size() / 50;
      stream->Peek(0, there);
      stream->FetchOn();
      stream->Peek(skip, std::span(later).subspan(skip));
      for (size_t k = 0; k < there.size(); ++k) {
        if (there[k] != nullptr && !IsNeuron(there[k], layer, wanted[i + k])) return InternalError("a look at {}", k);
        if (k >= skip && there[k] != nullptr && later[k] != there[k]) return InternalError("{} moved", k);
        if (later[k] != nullptr && there[k] == nullptr) ++n_fetched;
      }
      std::vector<const uint8_t*> bundles(std::min(n_taken, wanted.size() - i));
      PANTRY_RETURN_IF_ERROR(stream->Await(bundles));
      for (size_t k = 0; k < bundles.size(); ++k) {
        if (there[k] != nullptr && bundles[k] != there[k]) return InternalError("neuron {} moved", wanted[i + k]);
        if (!IsNeuron(bundles[k], layer, wanted[i + k])) return InternalError("neuron {} is wrong", wanted[i + k]);
      }
      stream->Release();
    }
    stream->End();
    return OkStatus();
  }

  SteadyClock clock;
  int n_fetched = 0;  // that came with FetchOn()
  std::vector<uint8_t> bytes;
  std::unique_ptr<Reader> file;
  std::unique_ptr<BlockReader> reader;
  NeuronTable table;
  std::unique_ptr<NeuronCache> cache;
  std::unique_ptr<NeuronStream> stream;
};

std::vector<int32_t> Some(Rng& rng, double share) {
  std::vector<int32_t> some;
  for (int32_t neuron = 0; neuron < kNeurons; ++neuron) {
    if (rng.NextDouble() < share) some.push_back(neuron);
  }
  return some;
}

TEST(NeuronStream, HandsOutWhatWasWantedInOrderWhateverTheCacheHolds) {
  for (const int64_t n_slots : {0, 1, 500, 2 * kNeurons, kLayers * kNeurons}) {
    Bench bench(n_slots);
    Rng rng(4);
    for (int round = 0; round < 12; ++round) {
      const double share =
          round % 4 == 3 ? 1.0 : 0.1 * (round % 4);  // also all of them, more than staging holds, and none
      const Status status = bench.Run(round % kLayers, Some(rng, share), 700, NeuronStream::kMostAtOnce);
      ASSERT_TRUE(status.ok()) << n_slots << " slots, round " << round << ": " << status.ToString();
    }
    EXPECT_GT(bench.n_fetched, 0);
    const CacheStats total = bench.cache->TotalStats();
    EXPECT_EQ(bench.reader->stats().n_reads, total.n_misses);
    EXPECT_EQ(total.n_hits > (n_slots < 500 ? 12 : 0), n_slots >= 500) << n_slots;
  }
}

// As the layers of the bench, but all of one layer: what is wanted of several networks comes in the order in which it was wanted.
TEST(NeuronStream, HandsOutSeveralNetworksOfALayerInTheOrderOfWanting) {
  Bench bench(0);
  bench.table.n_networks = kLayers;
  for (const int64_t n_slots : {0, 300, 100000}) {
    const auto cache = NeuronCache::Create({.n_layers = 1,
                                            .n_networks = kLayers,
                                            .n_neurons = kNeurons,
                                            .slot_bytes = kKept,
                                            .budget_bytes = n_slots * kKept})
                           .value();
    const auto stream = NeuronStream::Create(bench.table, *cache, *bench.reader, bench.clock).value();
    Rng rng(3);
    for (int round = 0; round < 4; ++round) {
      stream->Begin(0, 1);
      std::vector<std::pair<int32_t, int32_t>> wanted;
      for (int32_t network = kLayers; network-- > 0;) {
        const std::vector<int32_t> some = Some(rng, 0.3);
        stream->Want(network, some, {});
        for (const int32_t neuron : some) wanted.emplace_back(network, neuron);
      }
      for (size_t i = 0; i < wanted.size(); i += 100) {
        std::vector<const uint8_t*> bundles(std::min<size_t>(100, wanted.size() - i));
        ASSERT_TRUE(stream->Await(bundles).ok());
        for (size_t k = 0; k < bundles.size(); ++k) {
          ASSERT_TRUE(bench.IsNeuron(bundles[k], wanted[i + k].first, wanted[i + k].second));
        }
        stream->Release();
      }
      stream->End();
    }
    EXPECT_EQ(cache->TotalStats().n_hits > 0, n_slots > 0);
  }
}

TEST(NeuronStream, ReadsNothingThatIsThere) {
  Bench bench(kLayers * kNeurons);
  Rng rng(5);
  const std::vector<int32_t> wanted = Some(rng, 0.3);
  ASSERT_TRUE(bench.Run(1, wanted, 100, 64).ok());
  const int64_t n_reads = bench.reader->stats().n_reads;
  EXPECT_EQ(n_reads, static_cast<int64_t>(wanted.size()));
  ASSERT_TRUE(bench.Run(1, wanted, 100, 64).ok());
  EXPECT_EQ(bench.reader->stats().n_reads, n_reads);
}

TEST(NeuronStream, AnErrorEndsTheEventAndTheNextOneIsWhole) {
  Bench bench(100, /*n_missing_bytes=*/kBundle + 5);  // the last two neurons of the last layer are not in the file
  Rng rng(6);
  std::vector<int32_t> all(kNeurons);
  std::iota(all.begin(), all.end(), 0);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(bench.Run(2, all, 1000, 512).code(), StatusCode::kCorruption);
    EXPECT_EQ(bench.reader->n_pending(), 0U);
    ASSERT_TRUE(bench.Run(1, all, 1000, 512).ok());
  }
}

TEST(NeuronStream, ABundleThatIsNotIntactIsTheTablesError) {
  Bench bench(100);
  std::fill_n(bench.bytes.begin() + 7 * kBundle, 3, uint8_t{9});
  const Status status = bench.Run(0, {3, 7, 9}, 3, 3);
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("7 of 0"));
}

TEST(NeuronStream, FillsTheCacheBeforeAnybodyAsksWithFewLargeReads) {
  for (const double share : {0.002, 0.05, 0.4, 1.0}) {
    Bench bench(kLayers * kNeurons);
    Rng rng(7);
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      const std::vector<int32_t> warm = Some(rng, share);
      const Status status = bench.stream->Fill(layer, 0, warm);
      ASSERT_TRUE(status.ok()) << status.ToString();
      const int64_t n_reads = bench.reader->stats().n_reads;
      ASSERT_TRUE(bench.Run(layer, warm, 700, 512).ok());  // and holds the right bytes
      EXPECT_EQ(bench.reader->stats().n_reads, n_reads);
    }
    const CacheStats total = bench.cache->TotalStats();
    EXPECT_EQ(total.n_misses, 0);
    EXPECT_EQ(total.n_hits, total.n_resident);
    EXPECT_LT(bench.reader->stats().n_reads, share < 0.05 ? total.n_resident + 1 : total.n_resident / 3);
    EXPECT_LT(share < 0.4 ? 0 : bench.reader->stats().n_reads, kLayers * 8);  // 4.6 MB a layer
    EXPECT_LT(bench.reader->stats().bytes_wanted, kLayers * kNeurons * kBundle + 1);
  }
}

TEST(NeuronStream, FillsNoMoreThanTheCacheHoldsAndGoesOnAfterAnError) {
  Bench bench(100, /*n_missing_bytes=*/kBundle + 5);
  std::vector<int32_t> all(kNeurons);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(bench.stream->Fill(2, 0, all).code(), StatusCode::kCorruption);
  EXPECT_EQ(bench.reader->n_pending(), 0U);
  ASSERT_TRUE(bench.stream->Fill(1, 0, all).ok());
  EXPECT_EQ(bench.cache->TotalStats().n_resident, 100);
  ASSERT_TRUE(bench.Run(1, all, 1000, 512).ok());
  std::fill_n(bench.bytes.begin() + 7 * kBundle, 3, uint8_t{9});
  const std::vector<int32_t> some = {3, 7, 9};
  const Status status = bench.stream->Fill(0, 0, some);
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("7 of 0"));
  EXPECT_TRUE(bench.stream->Fill(0, 0, {}).ok());
}

TEST(NeuronStream, WhatAFillBroughtBeforeADamagedBundleIsThereAsAWhole) {
  Bench bench(kLayers * kNeurons);
  uint8_t* const damaged = bench.bytes.data() + 9 * kBundle;
  const std::vector<uint8_t> right(damaged, damaged + 3);
  std::fill_n(damaged, 3, uint8_t{9});
  EXPECT_EQ(bench.stream->Fill(0, 0, std::vector<int32_t>{3, 7, 9, 11}).code(), StatusCode::kCorruption);
  std::copy(right.begin(), right.end(), damaged);
  ASSERT_TRUE(bench.Run(0, {3, 7, 9, 11}, 4, 4).ok());
  EXPECT_EQ(bench.cache->TotalStats().n_hits, 2);
}

}  // namespace
}  // namespace pantry
