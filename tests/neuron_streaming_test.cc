// SPDX-License-Identifier: Apache-2.0
// Models whose neurons lie one by one in a pack: the bits of a resident run that computes everything, whatever the cache holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/find_profile.h"
#include "engine/warm_up.h"
#include "support/made_up_profile.h"
#include "support/neuron_pack_test.h"
#include "support/temporary_files.h"
#include "support/tiny_engine.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using testing::FaultyBlockReader;
using testing::RandomTokens;
using testing::StreamSetup;

constexpr char kModel[] = "tiny-bamboo-quantized";
const SteadyClock kClock;

class NeuronStreamingTest : public testing::NeuronPackTest {
 protected:
  NeuronStreamingTest() : NeuronPackTest(kModel) {}
  uint64_t OffsetOfNeuron(int32_t layer, int32_t neuron) {
    const WeightPlacer placer = Placed();
    return file_->pack()->BlockOffset(placer.Block(layer, 0)) +
           static_cast<uint64_t>(placer.NeuronsOf(layer).bundle_offset(neuron));
  }

  // Of the model's own weights; what fires is made up, and what never does is said to (not `is_right`) or not.
  NeuronProfile Profile(bool is_right) {
    return testing::MadeUpProfile(
        *file_, 1000, [&](int64_t neuron) { return is_right ? 1 + 40000 * (neuron % 5 == 0) : 65535 - neuron; });
  }
};

TEST_F(NeuronStreamingTest, PacksHaveNeuronsWhereTheyAreAskedFor) {
  ASSERT_NE(file_->pack(), nullptr);
  EXPECT_TRUE(file_->pack()->has_neurons());
  for (const PackGroup& group : file_->pack()->groups()) {
    EXPECT_EQ(group.order, PackOrder::kNeurons);
    EXPECT_THAT(group.tensors,
                ::testing::ElementsAre(::testing::HasSubstr("ffn_up"), ::testing::HasSubstr("ffn_down")));
  }
  const testing::TinyPack in_tiles(kModel, NeuronPacking::kNever);
  EXPECT_FALSE(testing::OpenGguf(in_tiles.path())->pack()->has_neurons());
  const testing::TinyPack silu("tiny-llama-quantized", NeuronPacking::kAlways);
  EXPECT_FALSE(testing::OpenGguf(silu.path())->pack()->has_neurons());
}

TEST_F(NeuronStreamingTest, EveryCacheBatchReaderAndThreadsGiveTheBitsOfTheDenseRun) {
  const std::vector<float> expected = Dense();
  for (const double share : {0.0, 0.05, 0.3, 1.0}) {
    for (const int32_t n_batch : {1, 2, 3, 5, 64}) {
      for (const DiskAccess access : {DiskAccess::kAuto, DiskAccess::kPread, DiskAccess::kPageCache}) {
        for (const int n_threads : {1, 3}) {
          SCOPED_TRACE(
              fmt::format("share {} batch {} {} threads {}", share, n_batch, DiskAccessName(access), n_threads));
          StreamSetup setup = {.cache_share = share, .access = access, .n_threads = n_threads};
          const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
          ASSERT_NE(engine, nullptr);
          std::vector<float> all;
          const Status status = AllLogits(*engine, n_batch, all);
          ASSERT_TRUE(status.ok()) << status.ToString();
          ASSERT_EQ(all.size(), expected.size());
          ASSERT_EQ(std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)), 0);
          const WeightStreamStats stats = engine->stream()->stats();
          EXPECT_GT(stats.cache.n_demanded, 0);
          EXPECT_EQ(stats.cache.n_demanded, stats.cache.n_hits + stats.cache.n_misses);
          EXPECT_EQ(stats.reader.n_reads, stats.cache.n_misses);
          const bool must_hit = share >= 0.3, may_hit = share > 0;
          EXPECT_TRUE(must_hit ? stats.cache.n_hits > 0 : may_hit || stats.cache.n_hits == 0) << stats.cache.n_hits;
          const int64_t n_neurons = engine->shape().n_ff * engine->shape().n_layers;  // of which many rest
          const int64_t most = n_batch == 1 ? n_neurons * 4 / 5 : n_neurons;
          EXPECT_LT(stats.cache.n_demanded, most * static_cast<int64_t>(kTokens));
        }
      }
    }
  }
}

TEST_F(NeuronStreamingTest, ABadDiskGivesTheSameBits) {
  const std::vector<float> expected = Dense();
  for (const uint64_t seed : {1, 2}) {
    StreamSetup setup = {.cache_share = 0.2,
                         .reader = FaultyBlockReader(
                             *file_, {.error_share = 0.02, .short_share = 0.3, .hold_share = 0.5, .seed = seed})};
    const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
    ASSERT_NE(engine, nullptr);
    for (const int32_t n_batch : {1, 64}) {
      std::vector<float> all;
      const Status status = AllLogits(*engine, n_batch, all);
      ASSERT_TRUE(status.ok()) << status.ToString();
      EXPECT_TRUE(all == expected);
    }
  }
}

TEST_F(NeuronStreamingTest, AnUnreadableNeuronIsAnErrorAndNoMore) {
  const std::vector<float> expected = Dense();
  DiskFaults faults;
  faults.bad_offset = OffsetOfNeuron(1, 7);
  StreamSetup setup = {.cache_share = 0.5, .reader = FaultyBlockReader(*file_, faults)};
  const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  for (int round = 0; round < 3; ++round) {
    std::vector<float> all;
    const Status status = AllLogits(*engine, 5, all);
    EXPECT_EQ(status.code(), StatusCode::kIoError) << status.ToString();
    EXPECT_LT(all.size(), expected.size());
    EXPECT_TRUE(std::equal(all.begin(), all.end(), expected.begin()));
  }
}

TEST_F(NeuronStreamingTest, ADamagedNeuronIsAnErrorThatNamesIt) {
  StreamSetup setup = {.cache_share = 0.5};
  const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  pack_.FlipBit(OffsetOfNeuron(1, 7) + 3);  // behind the back of loading, which checks a part of the blocks
  std::vector<float> all;
  const Status status = AllLogits(*engine, 64, all);
  EXPECT_EQ(status.code(), StatusCode::kCorruption) << status.ToString();
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("neuron 7 of layer 1"), ::testing::HasSubstr("checksum")));
  EXPECT_TRUE(all.empty());
}

TEST_F(NeuronStreamingTest, DamagedScalesAreAnErrorOfLoading) {
  WeightPlacer placer = WeightPlacer::ByNeuron();
  ASSERT_TRUE(PackedWeightBytes(*file_, BestIsa(), &placer).ok());
  pack_.FlipBit(file_->pack()->BlockOffset(placer.Block(0, 0)) + 3);
  const auto file = testing::OpenGguf(pack_.path());
  ThreadPool pool(1);
  WeightPlacer again = WeightPlacer::ByNeuron();
  EXPECT_EQ(Model::Load(*file, BestIsa(), pool, log_, {}, &again).status().code(), StatusCode::kCorruption);
}

TEST_F(NeuronStreamingTest, StopsBetweenTwoLayersAndGoesOnAfterwards) { StopsBetweenTwoLayersAndGoesOnAfterwards(); }

// The engine decides by itself: such a pack streams also where everything fits, and what a budget leaves is the cache's.
TEST_F(NeuronStreamingTest, EnginesStreamThePackWithinAnyBudget) {
  PlansStreamWithinAnyBudget(/*least_cache_bytes=*/0);
  EngineOptions options;
  options.n_threads = 2;
  options.session.n_ctx = kContext;
  const auto engine = Engine::Open(testing::OpenGguf(pack_.path()), options, log_, {});
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  ASSERT_NE((*engine)->stream(), nullptr);
  EXPECT_GT((*engine)->stream()->committed_bytes(), 0);  // before the first run
  std::vector<float> all;
  ASSERT_TRUE(AllLogits(**engine, 9, all).ok());
  EXPECT_TRUE(all == Dense());
}

// Memory that a session leaves idle goes to the cache, and comes back also when pressure has taken more than was lent.
TEST_F(NeuronStreamingTest, LentMemoryComesAndGoesWithTheSameBits) {
  const std::vector<float> expected = Dense();
  StreamSetup setup = {.cache_share = 0.1, .lendable_bytes = int64_t{64} << 20};
  const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  WeightStream& stream = *engine->stream();
  const int64_t planned = stream.cache_bytes();
  LendsBetweenRuns(*engine, expected);
  stream.Lend(0);
  EXPECT_EQ(stream.cache_bytes(), planned);

  stream.Lend(int64_t{64} << 20);
  std::vector<float> all;
  stream.WatchMemory(
      std::make_unique<MemoryWatch>(CacheBounds{.wanted_bytes = 0, .floor_bytes = 0, .other_bytes = 0}, kClock, log_));
  ASSERT_TRUE(AllLogits(*engine, 64, all).ok());
  EXPECT_TRUE(all == expected);
  stream.Lend(0);
  EXPECT_LE(stream.cache_bytes(), planned);
  ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
  EXPECT_TRUE(all == expected);
}

// Whatever it says fires, a profile changes what is in memory at first, and nothing else.
TEST_F(NeuronStreamingTest, AWarmStartHitsFromTheFirstTokenAndGivesTheSameBits) {
  const std::vector<float> expected = Dense();
  for (const bool is_right : {true, false}) {
    int64_t first_hits[2];
    for (const bool is_warm : {false, true}) {
      StreamSetup setup = {.cache_share = 0.4};
      const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
      ASSERT_NE(engine, nullptr);
      const testing::TemporaryFile profile(Profile(is_right).Serialize());
      if (is_warm) {
        int64_t n_left = -1;
        const auto warm = WarmUp(*engine, profile.path(), [&](int64_t n_done, int64_t n_total) {
          EXPECT_GT(n_total, 0);
          n_left = n_total - n_done;
          return true;
        });
        EXPECT_EQ(n_left, 0);
        ASSERT_TRUE(warm.ok() && warm->has_value()) << warm.status().ToString();
        EXPECT_EQ((*warm)->n_bytes, engine->stream()->stats().cache.resident_bytes);
        EXPECT_GT((*warm)->n_bytes, engine->stream()->cache_bytes() * 9 / 10);
        EXPECT_LE((*warm)->n_bytes, engine->stream()->cache_bytes());
      }
      auto session = engine->NewSession({.n_ctx = kContext});
      ASSERT_TRUE(session.ok());
      ASSERT_TRUE((*session)->Feed(RandomTokens(*engine, 1)).ok());
      first_hits[is_warm] = engine->stream()->stats().cache.n_hits;
      std::vector<float> all;
      ASSERT_TRUE(AllLogits(*engine, 1, all).ok());
      EXPECT_TRUE(all == expected);
    }
    EXPECT_EQ(first_hits[0], 0);
    EXPECT_GT(first_hits[1], 0);
  }
}

TEST_F(NeuronStreamingTest, AProfileOfOtherWeightsOrNoneIsNoWarmStart) {
  StreamSetup setup = {.cache_share = 0.4};
  const auto engine = testing::OpenTinyEngine(pack_.path(), &setup, log_);
  ASSERT_NE(engine, nullptr);
  NeuronProfile profile = Profile(true);
  profile.weights ^= 1;
  const testing::TemporaryFile other(profile.Serialize()), garbage("no profile");
  for (const std::string& path : {other.path(), garbage.path(), std::string()}) {
    const auto warm = WarmUp(*engine, path, {});
    ASSERT_TRUE(warm.ok()) << warm.status().ToString();
    EXPECT_FALSE(warm->has_value());
  }
  EXPECT_EQ(WarmUp(*engine, "/no/such/file", {}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(engine->stream()->stats().cache.n_resident, 0);

  const testing::TemporaryFile good(Profile(true).Serialize());
  const auto stopped = WarmUp(*engine, good.path(), [](int64_t n_done, int64_t) { return n_done == 0; });
  EXPECT_EQ(stopped.status().code(), StatusCode::kCancelled);
  EXPECT_GT(engine->stream()->stats().cache.n_resident, 0);
  const auto resident = testing::OpenTinyEngine(testing::TinyModel(kModel), nullptr, log_);
  const auto nothing = WarmUp(*resident, good.path(), {});
  EXPECT_TRUE(nothing.ok() && !nothing->has_value());
}

TEST_F(NeuronStreamingTest, TheGgufsProfileHoldsForItsPack) {
  const testing::TemporaryFolder folder;
  const std::string pack = folder.path() + "/m.pantry", of_pack = pack + ".profile",
                    of_gguf = folder.path() + "/m.gguf.profile";
  std::filesystem::copy_file(pack_.path(), pack);
  const auto file = testing::OpenGguf(pack);
  EXPECT_EQ(ProfilePath("x", *file), "x");
  EXPECT_EQ(ProfilePath("", *file), of_pack);
  std::ofstream(of_gguf) << Profile(true).Serialize();
  EXPECT_EQ(ProfilePath("", *file), of_gguf);
  EXPECT_TRUE(ReadProfileOf(*file, ParseModelShape(file->metadata()).value(), of_gguf).ok());
  std::ofstream(of_pack) << Profile(true).Serialize();
  EXPECT_EQ(ProfilePath("", *file), of_pack);
}

TEST_F(NeuronStreamingTest, OtherKernelsAndRunsThatCannotUseItAreRefusedWithARemedy) {
  OtherKernelsAndResidentRunsAreRefusedWithARemedy();
}

}  // namespace
}  // namespace pantry
