// SPDX-License-Identifier: Apache-2.0
// Packs of experts whose neurons lie one by one behind their gates: the bits of a resident run of the GGUF file, whatever the caches hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/warm_up.h"
#include "support/neuron_pack_test.h"
#include "support/temporary_files.h"
#include "support/tiny_engine.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using testing::FaultyBlockReader;
using testing::RandomTokens;
using testing::StreamSetup;

constexpr char kModel[] = "tiny-turbosparse-quantized";
const SteadyClock kClock;

class ExpertNeuronStreamingTest : public testing::NeuronPackTest {
 protected:
  ExpertNeuronStreamingTest() : NeuronPackTest(kModel) {}
  // In a layer's expert: where its block begins, and the bundle of a neuron.
  uint64_t OffsetOf(int32_t layer, int32_t expert) { return file_->pack()->BlockOffset(Placed().Block(layer, expert)); }
  uint64_t OffsetOfNeuron(int32_t layer, int32_t expert, int32_t neuron) {
    const WeightPlacer placer = Placed();
    return placer.BundlesOffset(placer.Block(layer, expert)) +
           static_cast<uint64_t>(neuron * placer.neurons()->bundle_bytes);
  }
};

TEST_F(ExpertNeuronStreamingTest, ABlockIsAnExpertAndItsFrontIsAllThatIsCachedAsOne) {
  ASSERT_NE(file_->pack(), nullptr);
  EXPECT_TRUE(file_->pack()->has_neurons());
  const WeightPlacer placer = Placed();
  EXPECT_TRUE(placer.has_experts());
  EXPECT_EQ(placer.n_networks(), placer.n_blocks(0));
  for (const WeightPlacer::Group& group : placer.groups()) {
    EXPECT_EQ(group.order, PackOrder::kGateAndNeurons);
    EXPECT_EQ(group.tensors.size(), 3u);
    EXPECT_LT(group.cached_bytes, group.block_bytes / 2);
    EXPECT_EQ(placer.block_bytes(BlockId(group.first_block)), group.cached_bytes);
  }
  // Bundles of so few bytes are not worth it, and where a model does not gate by ReLU there is nothing to gain.
  EXPECT_FALSE(testing::OpenGguf(testing::TinyPack(kModel).path())->pack()->has_neurons());
  const testing::TinyPack silu("tiny-qwen3moe-quantized", NeuronPacking::kAlways);
  EXPECT_FALSE(testing::OpenGguf(silu.path())->pack()->has_neurons());
}

TEST_F(ExpertNeuronStreamingTest, EveryCacheBatchReaderAndThreadsGiveTheBitsOfTheDenseRun) {
  const std::vector<float> expected = Dense();
  for (const double share : {0.0, 0.2, 0.5, 1.0}) {
    for (const int32_t n_batch : {1, 2, 3, 5, 64}) {
      for (const DiskAccess access : {DiskAccess::kAuto, DiskAccess::kPread, DiskAccess::kPageCache}) {
        for (const int n_threads : {1, 3}) {
          SCOPED_TRACE(
              fmt::format("share {} batch {} {} threads {}", share, n_batch, DiskAccessName(access), n_threads));
          const auto engine = Open({.cache_share = share, .access = access, .n_threads = n_threads});
          std::vector<float> all;
          const Status status = AllLogits(*engine, n_batch, all);
          ASSERT_TRUE(status.ok()) << status.ToString();
          ASSERT_EQ(all.size(), expected.size());
          ASSERT_EQ(std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)), 0);
          const WeightStreamStats stats = engine->stream()->stats();
          const int64_t n_neurons = stats.cache.n_demanded - stats.blocks.n_demanded;
          EXPECT_GT(stats.blocks.n_demanded, 0);
          EXPECT_GT(n_neurons, 0);
          const ModelShape& shape = engine->shape();
          const int64_t n_used = int64_t{shape.n_layers} * shape.n_experts_used * shape.n_ff_expert;
          EXPECT_TRUE(n_batch > 1 || n_neurons < n_used * int64_t{kTokens} * 4 / 5) << n_neurons;  // many rest
          EXPECT_TRUE(share < 1 || stats.reader.n_reads < n_neurons);
          EXPECT_LE(engine->stream()->committed_bytes(), engine->stream()->cache_bytes() + (int64_t{2} << 20));
        }
      }
    }
  }
}

TEST_F(ExpertNeuronStreamingTest, WhateverIsInMemoryIsReadOnce) {
  const auto engine = Open({.cache_share = 1});
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  const WeightStreamStats first = engine->stream()->stats();
  EXPECT_EQ(first.cache.n_evicted, 0);
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  EXPECT_EQ(engine->stream()->stats().reader.n_reads, first.reader.n_reads);
  engine->stream()->Forget();
  EXPECT_EQ(engine->stream()->stats().cache.n_resident, 0);
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  EXPECT_GT(engine->stream()->stats().reader.n_reads, first.reader.n_reads);
}

TEST_F(ExpertNeuronStreamingTest, ABadDiskGivesTheSameBits) {
  const std::vector<float> expected = Dense();
  for (const uint64_t seed : {1, 2}) {
    const DiskFaults faults = {.error_share = 0.02, .short_share = 0.3, .hold_share = 0.5, .seed = seed};
    const auto engine = Open({.cache_share = 0.3,
                              .reader = FaultyBlockReader(*file_, faults),
                              .neuron_reader = FaultyBlockReader(*file_, faults)});
    for (const int32_t n_batch : {1, 64}) {
      std::vector<float> all;
      const Status status = AllLogits(*engine, n_batch, all);
      ASSERT_TRUE(status.ok()) << status.ToString();
      EXPECT_TRUE(all == expected);
    }
  }
}

TEST_F(ExpertNeuronStreamingTest, AnUnreadableGateOrNeuronIsAnErrorAndNoMore) {
  const std::vector<float> expected = Dense();
  for (const bool is_gate : {true, false}) {
    DiskFaults faults;
    faults.bad_offset = is_gate ? OffsetOf(1, 2) : OffsetOfNeuron(1, 2, 7);
    const auto engine = Open({.cache_share = 0.5,
                              .reader = is_gate ? FaultyBlockReader(*file_, faults) : nullptr,
                              .neuron_reader = is_gate ? nullptr : FaultyBlockReader(*file_, faults)});
    for (int round = 0; round < 3; ++round) {
      std::vector<float> all;
      const Status status = AllLogits(*engine, 5, all);
      EXPECT_EQ(status.code(), StatusCode::kIoError) << status.ToString();
      EXPECT_LT(all.size(), expected.size());
      EXPECT_TRUE(std::equal(all.begin(), all.end(), expected.begin()));
    }
  }
}

TEST_F(ExpertNeuronStreamingTest, ADamagedGateIsAnErrorThatNamesItAndGoesWhenItIsMended) {
  const std::vector<float> expected = Dense();
  const auto engine = Open({.cache_share = 0.5});
  const uint64_t at = OffsetOf(1, 2) + 3;
  pack_.FlipBit(at);  // behind the back of loading, which reads no blocks
  std::vector<float> all;
  const Status status = AllLogits(*engine, 64, all);
  EXPECT_EQ(status.code(), StatusCode::kCorruption) << status.ToString();
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("block 2 of blk.1"), ::testing::HasSubstr("checksum")));
  EXPECT_TRUE(all.empty());
  pack_.FlipBit(at);
  const auto again = Open({.cache_share = 0.5});  // the first one saw its file being changed
  ASSERT_TRUE(AllLogits(*again, 64, all).ok());
  EXPECT_TRUE(all == expected);
}

// What NeuronStream asks of each bundle that it reads.
TEST_F(ExpertNeuronStreamingTest, ABundleIsIntactAtItsOwnPlaceOnlyAndDamageNamesIt) {
  const WeightPlacer placer = Placed();
  const BlockId network = placer.Block(1, 2);
  const uint64_t at = OffsetOfNeuron(1, 2, 7);
  std::vector<uint8_t> bundle(static_cast<size_t>(placer.neurons()->bundle_bytes));
  ASSERT_TRUE(file_->shards()[0]->ReadAt(at, bundle).ok());
  EXPECT_TRUE(placer.BundleIsIntact(network, 7, bundle));
  EXPECT_FALSE(placer.BundleIsIntact(network, 8, bundle));
  EXPECT_FALSE(placer.BundleIsIntact(placer.Block(1, 1), 7, bundle));
  EXPECT_FALSE(placer.BundleIsIntact(placer.Block(0, 2), 7, bundle));
  bundle[3] ^= 1;
  EXPECT_FALSE(placer.BundleIsIntact(network, 7, bundle));
  const Status status = placer.DamagedBundle(network, 7);
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), ::testing::AllOf(::testing::HasSubstr("neuron 7 of expert 2 of layer 1"),
                                                              ::testing::HasSubstr("checksum")));
}

TEST_F(ExpertNeuronStreamingTest, StopsBetweenTwoLayersAndGoesOnAfterwards) {
  StopsBetweenTwoLayersAndGoesOnAfterwards();
}

// Memory that a session leaves idle goes to both caches, and comes back.
TEST_F(ExpertNeuronStreamingTest, LentMemoryComesAndGoesWithTheSameBits) {
  const std::vector<float> expected = Dense();
  const auto engine = Open({.cache_share = 0.2, .lendable_bytes = int64_t{64} << 20});
  WeightStream& stream = *engine->stream();
  const int64_t planned = stream.cache_bytes();
  LendsBetweenRuns(*engine, expected);
  stream.Lend(0);
  EXPECT_LE(stream.cache_bytes(), planned);

  stream.Lend(int64_t{64} << 20);
  std::vector<float> all;
  const int64_t floor = WeightStream::LeastCacheBytes(stream.placer());
  stream.WatchMemory(std::make_unique<MemoryWatch>(
      CacheBounds{.wanted_bytes = floor, .floor_bytes = floor, .other_bytes = 0}, kClock, log_));
  ASSERT_TRUE(AllLogits(*engine, 64, all).ok());
  EXPECT_TRUE(all == expected);
}

// The engine decides by itself: such a pack streams also where everything fits, within the one number that is given.
TEST_F(ExpertNeuronStreamingTest, EnginesStreamThePackWithinAnyBudget) {
  const std::vector<float> expected = Dense();
  PlansStreamWithinAnyBudget(WeightStream::LeastCacheBytes(Placed()));
  EngineOptions options;
  options.n_threads = 2;
  options.session.n_ctx = kContext;
  options.session.n_batch = 8;
  const auto engine = Engine::Open(testing::OpenGguf(pack_.path()), options, log_, {});
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  ASSERT_NE((*engine)->stream(), nullptr);
  EXPECT_GT((*engine)->stream()->committed_bytes(), 0);  // before the first run
  const auto warm = WarmUp(**engine, "", {});
  EXPECT_TRUE(warm.ok() && !warm->has_value());  // profiles are of dense layers
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(**engine, 9, all).ok());
  EXPECT_TRUE(all == expected);
}

TEST_F(ExpertNeuronStreamingTest, OtherKernelsAndRunsThatCannotUseItAreRefusedWithARemedy) {
  OtherKernelsAndResidentRunsAreRefusedWithARemedy();
}

}  // namespace
}  // namespace pantry
