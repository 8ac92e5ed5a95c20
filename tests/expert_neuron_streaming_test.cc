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
#include "eval/expert_recorder.h"
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
  // What an engine's experts do with the random tokens that AllLogits() feeds.
  NeuronProfile ProfileOf(Engine& engine, int32_t n_batch) {
    const ModelShape& shape = engine.shape();
    ExpertRecorder recorder(shape);
    engine.ObserveNeurons(&recorder);
    std::vector<float> all;
    EXPECT_TRUE(AllLogits(engine, n_batch, all).ok());
    engine.ObserveNeurons(nullptr);
    EXPECT_TRUE(recorder.heard_all_layers());
    NeuronProfile profile;
    profile.weights = NormsHash(*file_).value();
    profile.activation = shape.activation;
    profile.n_tokens = kTokens;
    profile.n_neurons = shape.n_ff_expert;
    profile.n_experts = shape.n_experts;
    for (int32_t layer = 0; layer < shape.n_layers; ++layer) profile.layers.push_back(recorder.Layer(layer, kTokens));
    return profile;
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
          const int64_t n_neurons = stats.neurons.n_demanded;
          EXPECT_GT(stats.cache.n_demanded, 0);
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

// Memory is free only once the cache holds less than it has committed.
TEST_F(ExpertNeuronStreamingTest, GivesWayByWhatItHasCommittedWithTheSameBits) {
  const std::vector<float> expected = Dense();
  const auto engine = Open({.cache_share = 1.0});
  WeightStream& stream = *engine->stream();
  const int64_t planned = stream.cache_bytes();
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(*engine, 40, all).ok());
  EXPECT_TRUE(all == expected);
  const int64_t wanted = planned / 4;
  stream.GiveWay(wanted);
  const int64_t left = stream.cache_bytes();
  EXPECT_LE(left, planned - wanted);
  EXPECT_GT(left, 0);
  all.clear();
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  EXPECT_TRUE(all == expected);
  EXPECT_LE(stream.cache_bytes(), left);

  const auto fresh = Open({.cache_share = 1.0});  // has committed next to nothing yet
  fresh->stream()->GiveWay(wanted);
  EXPECT_LT(fresh->stream()->cache_bytes(), left);
  all.clear();
  ASSERT_TRUE(AllLogits(*fresh, 1, all).ok());
  EXPECT_TRUE(all == expected);
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
  EXPECT_TRUE(warm.ok() && !warm->has_value());  // there is no profile beside it
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(**engine, 9, all).ok());
  EXPECT_TRUE(all == expected);
}

// Counted from the pack, of which only what fires is read, and from the GGUF file, whose experts are computed as a whole.
TEST_F(ExpertNeuronStreamingTest, APackTellsWhichOfItsNeuronsFireAsItsGgufDoes) {
  const auto resident = testing::OpenTinyEngine(testing::TinyModel(kModel), nullptr, log_);
  const NeuronProfile expected = ProfileOf(*resident, 1);
  const ModelShape& shape = resident->shape();
  for (const NeuronProfile::Layer& layer : expected.layers) {
    int64_t n_uses = 0, n_firings = 0;
    for (const uint16_t use : layer.use) n_uses += use;
    for (size_t i = 0; i < layer.frequency.size(); ++i) {
      n_firings += layer.frequency[i];
      EXPECT_LE(layer.frequency[i], layer.use[i / static_cast<size_t>(shape.n_ff_expert)]);
    }
    EXPECT_NEAR(static_cast<double>(n_uses) / UINT16_MAX, shape.n_experts_used, 1e-3);
    EXPECT_NEAR(static_cast<double>(n_firings) / static_cast<double>(n_uses) / shape.n_ff_expert, layer.active_share[0],
                1e-3);
    EXPECT_GT(layer.active_share[0], 0.1);
    EXPECT_LT(layer.active_share[0], 0.8);
  }
  for (const int32_t n_batch : {1, 3, 64}) {
    const NeuronProfile got = ProfileOf(*Open({.cache_share = 0.3}), n_batch);
    ASSERT_EQ(got.layers.size(), expected.layers.size());
    for (size_t i = 0; i < got.layers.size(); ++i) {
      EXPECT_EQ(got.layers[i].use, expected.layers[i].use);
      EXPECT_EQ(got.layers[i].frequency, expected.layers[i].frequency);
      EXPECT_EQ(got.layers[i].active_share, expected.layers[i].active_share);
    }
  }
}

// Whatever a profile says, it changes what is in memory at first, and nothing else.
TEST_F(ExpertNeuronStreamingTest, AWarmStartFillsBothCachesAndGivesTheSameBits) {
  const std::vector<float> expected = Dense();
  const NeuronProfile right = ProfileOf(*Open({.cache_share = 0.3}), 64);
  NeuronProfile wrong = right;
  for (NeuronProfile::Layer& layer : wrong.layers) {
    for (uint16_t& use : layer.use) use = static_cast<uint16_t>(UINT16_MAX - use);
    for (uint16_t& fired : layer.frequency) fired = static_cast<uint16_t>(UINT16_MAX - fired);
  }
  double hit_rates[3];  // of neurons, in the first tokens: cold, right, wrong
  for (const int which : {0, 1, 2}) {
    const auto engine = Open({.cache_share = 0.5, .policy = PolicyKind::kCycle});
    WeightStream& stream = *engine->stream();
    if (which > 0) {
      const testing::TemporaryFile profile((which == 1 ? right : wrong).Serialize());
      int64_t n_left = -1;
      const auto warm = WarmUp(*engine, profile.path(), [&](int64_t n_done, int64_t n_total) {
        n_left = n_total - n_done;
        return true;
      });
      ASSERT_TRUE(warm.ok() && warm->has_value()) << warm.status().ToString();
      EXPECT_EQ(n_left, 0);
      EXPECT_GT((*warm)->n_experts, 1);
      EXPECT_GT((*warm)->n_neurons, 100);
      EXPECT_GT((*warm)->n_bytes, stream.cache_bytes() * 8 / 10);
      EXPECT_LE((*warm)->n_bytes, stream.cache_bytes());
      EXPECT_EQ(stream.stats().cache.n_demanded + stream.stats().neurons.n_demanded, 0);
      uint16_t least_near = UINT16_MAX, most_far = 0;
      const NeuronProfile& told = which == 1 ? right : wrong;
      for (int32_t layer = 0; layer < engine->shape().n_layers; ++layer) {
        const std::vector<uint16_t>& use = told.layers[static_cast<size_t>(layer)].use;
        std::vector<uint8_t> is_near(use.size());
        stream.Look(layer, is_near);
        for (size_t i = 0; i < use.size(); ++i) {
          if (is_near[i] != 0) least_near = std::min(least_near, use[i]);
          else most_far = std::max(most_far, use[i]);
        }
      }
      EXPECT_GE(least_near, most_far);
    }
    auto session = engine->NewSession({.n_ctx = kContext, .n_batch = 1});
    ASSERT_TRUE(session.ok());
    ASSERT_TRUE((*session)->Feed(RandomTokens(*engine, 3)).ok());
    hit_rates[which] = stream.stats().neurons.HitRate();
    std::vector<float> all;
    ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
    EXPECT_TRUE(all == expected);
  }
  EXPECT_GT(hit_rates[1], hit_rates[0] + 0.1);
  EXPECT_GT(hit_rates[1], hit_rates[2] + 0.1);
}

TEST_F(ExpertNeuronStreamingTest, AWarmStartReadsAroundABadGateAndStopsWhereItIsTold) {
  const testing::TemporaryFile profile(ProfileOf(*Open({.cache_share = 0.3}), 64).Serialize());
  DiskFaults faults;
  faults.bad_offset = OffsetOf(1, 2);
  const auto engine = Open({.cache_share = 1, .reader = FaultyBlockReader(*file_, faults)});
  const auto warm = WarmUp(*engine, profile.path(), {});
  ASSERT_TRUE(warm.ok() && warm->has_value()) << warm.status().ToString();
  const ModelShape& shape = engine->shape();
  EXPECT_EQ((*warm)->n_experts, int64_t{shape.n_layers} * shape.n_experts - 1);
  std::vector<float> all;
  EXPECT_EQ(AllLogits(*engine, 5, all).code(), StatusCode::kIoError) << "who wants it gets the error";

  const auto other = Open({.cache_share = 1});
  const auto stopped = WarmUp(*other, profile.path(), [](int64_t n_done, int64_t) { return n_done == 0; });
  EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled);
  EXPECT_GT(other->stream()->stats().cache.n_resident, 0);
  EXPECT_EQ(other->stream()->stats().neurons.n_resident, 0);
}

// Experts that come whole are warmed up by the same profile.
TEST_F(ExpertNeuronStreamingTest, AWarmStartFillsTheCacheOfWholeExpertsToo) {
  const std::vector<float> expected = Dense();
  const testing::TemporaryFile profile(ProfileOf(*Open({.cache_share = 0.3}), 64).Serialize());
  StreamSetup setup = {.cache_share = 0.5, .policy = PolicyKind::kCycle};
  const auto engine = testing::OpenTinyEngine(testing::TinyModel(kModel), &setup, log_);
  const auto warm = WarmUp(*engine, profile.path(), {});
  ASSERT_TRUE(warm.ok() && warm->has_value()) << warm.status().ToString();
  EXPECT_EQ((*warm)->n_neurons, 0);
  EXPECT_GT((*warm)->n_experts, 1);
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  EXPECT_TRUE(all == expected);
}

TEST_F(ExpertNeuronStreamingTest, OtherKernelsAndRunsThatCannotUseItAreRefusedWithARemedy) {
  OtherKernelsAndResidentRunsAreRefusedWithARemedy();
}

}  // namespace
}  // namespace pantry
