// SPDX-License-Identifier: Apache-2.0
// The simulator against the engine: on a model whose weights are really read, the same choices through the same cache are counted alike, hit
// by hit and byte by byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/sim_input.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "sim/replay.h"
#include "sim/simulator.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using testing::RandomTokens;
using testing::StreamSetup;

constexpr int64_t kContext = 256;
constexpr size_t kTokens = 200;

// What a run's routers chose, as a trace of the stream's blocks.
class Recorder final : public RoutingObserver {
 public:
  explicit Recorder(const WeightPlacer& placer) : placer_(placer) {}
  void Routed(int32_t layer, int64_t n_tokens, std::span<const float> logits,
              std::span<const int32_t> chosen) override {
    const int32_t at = placer_.LayerAt(layer);
    std::vector<BlockId> blocks;
    for (const int32_t expert : chosen) {
      if (expert >= 0) blocks.push_back(placer_.Block(at, expert));
    }
    std::sort(blocks.begin(), blocks.end());
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
    trace_.Add(at, at <= last_, blocks, static_cast<int32_t>(n_tokens), n_tokens == 1 ? logits : logits.first(0));
    last_ = at;
  }
  const RoutingTrace& trace() const { return trace_; }

 private:
  const WeightPlacer& placer_;
  RoutingTrace trace_;
  int32_t last_ = INT32_MAX;
};

// Experts of a stream, without what a forward pass says beforehand: whether a guess comes in time depends on the clock.
class WithoutExpectations final : public ExpertSource {
 public:
  explicit WithoutExpectations(WeightStream& stream) : stream_(stream) {}
  Status Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) override {
    return stream_.Provide(layer, tasks, compute);
  }
  void Expect(int32_t, std::span<const int32_t>, double) override {}

 private:
  WeightStream& stream_;
};

class SimAgreementTest : public ::testing::TestWithParam<std::string> {
 protected:
  // Computes kTokens in runs of n_batch, from an empty cache.
  void RunEngine(int64_t n_batch, double cache_share, PolicyKind policy,
                 const ExpertPolicyOptions& expert_policy = {}) {
    StreamSetup setup = {
        .cache_share = cache_share, .policy = policy, .access = DiskAccess::kPread, .expert_policy = expert_policy};
    engine_ = testing::OpenTinyEngine(testing::TinyModel(GetParam()), &setup, log_);
    ASSERT_NE(engine_, nullptr);
    const Model& model = engine_->model();
    WeightStream& stream = *engine_->stream();
    recorder_ = std::make_unique<Recorder>(stream.placer());
    WithoutExpectations experts(stream);
    auto kv = KvCache::Allocate(model.shape(), KvType::kF32, KvType::kF32, kContext);
    auto workspace = model.MakeWorkspace(n_batch);
    ASSERT_TRUE(kv.ok() && workspace.ok());
    const std::vector<TokenId> tokens = RandomTokens(*engine_, kTokens);
    std::vector<float> logits(static_cast<size_t>(model.shape().n_vocab));
    for (size_t done = 0; done < tokens.size(); done += static_cast<size_t>(n_batch)) {
      const auto part = std::span(tokens).subspan(done, std::min(static_cast<size_t>(n_batch), tokens.size() - done));
      const auto last = static_cast<int32_t>(part.size() - 1);
      ForwardRun run;
      run.tokens = part;
      const RunPart rows = {.n_rows = static_cast<int64_t>(part.size()),
                            .first_position = static_cast<int64_t>(done),
                            .kv = kv->layers()};
      run.parts = {&rows, 1};
      run.logit_rows = {&last, 1};
      run.logits = logits;
      run.experts = &experts;
      run.embedding = stream.embedding();
      run.chooser = engine_->expert_chooser();
      run.routing = recorder_.get();
      stream.BeginRun(engine_->pool(), static_cast<int64_t>(part.size()));
      const Status status = model.Forward(run, engine_->pool(), **workspace);
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
  }

  // As `pantry sim` would, from the model's file.
  SimReport Simulated(PolicyKind policy, const ExpertPolicyOptions& expert_policy = {}) const {
    EngineOptions engine;
    engine.memory_bytes = int64_t{1} << 30;
    engine.stream = StreamMode::kOn;
    engine.session.n_ctx = kContext;
    auto input = SimInputOf(*testing::OpenGguf(testing::TinyModel(GetParam())), engine, FreeMemory::Now());
    EXPECT_TRUE(input.ok()) << input.status().ToString();
    for (SimStep& step : input->model.steps) {  // nothing is known beforehand here either
      step.before += step.between;
      step.between = {};
    }
    DeviceProfile device;
    device.dram_read_bytes_per_s = {{1, 10e9}};
    device.flash = {{4096, 1, 1e8, 0}, {1 << 20, 32, 2e9, 0}};
    device.place_bytes_per_s = 5e9;
    SimOptions options;
    options.cache_bytes = engine_->stream()->cache_bytes();
    options.policy.kind = policy;
    options.guess_recall = 0;
    options.expert_policy = expert_policy;
    auto report = Simulate(input->model, recorder_->trace(), device, options);
    EXPECT_TRUE(report.ok()) << report.status().ToString();
    return report.ok() ? *report : SimReport();
  }

  CacheStats Replayed(PolicyKind policy) const {
    const WeightPlacer& placer = engine_->stream()->placer();
    std::vector<BlockInfo> blocks;
    for (uint32_t i = 0; i < placer.n_blocks(); ++i) {
      blocks.push_back({placer.LayerOf(BlockId(i)), placer.block_bytes(BlockId(i))});
    }
    BlockCacheOptions options;
    options.budget_bytes = engine_->stream()->cache_bytes();
    options.policy.kind = policy;
    auto cache = BlockCache::Create(blocks, options);
    EXPECT_TRUE(cache.ok());
    const auto stats = Replay(recorder_->trace(), **cache);
    EXPECT_TRUE(stats.ok());
    return *stats;
  }

  static void ExpectSameCounts(const CacheStats& a, const CacheStats& b) {
    EXPECT_EQ(a.n_demanded, b.n_demanded);
    EXPECT_EQ(a.n_hits, b.n_hits);
    EXPECT_EQ(a.n_late, b.n_late);
    EXPECT_EQ(a.n_misses, b.n_misses);
    EXPECT_EQ(a.missed_bytes, b.missed_bytes);
    EXPECT_EQ(a.n_evicted, b.n_evicted);
    EXPECT_EQ(a.evicted_age_steps, b.evicted_age_steps);
    EXPECT_EQ(a.n_resident, b.n_resident);
  }

  NullLogger log_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Recorder> recorder_;
};

TEST_P(SimAgreementTest, EngineReplayerAndSimulatorCountAlike) {
  for (const PolicyKind policy : {PolicyKind::kLru, PolicyKind::kLfu, PolicyKind::kLrfu, PolicyKind::kCycle}) {
    for (const int64_t n_batch : {1, 8}) {
      SCOPED_TRACE(fmt::format("{}, {} at once", PolicyName(policy), n_batch));
      RunEngine(n_batch, n_batch == 1 ? 0.5 : 0.75, policy);
      if (HasFatalFailure()) return;
      const WeightStreamStats stats = engine_->stream()->stats();
      EXPECT_GT(stats.cache.n_misses, 0);
      EXPECT_GT(stats.cache.n_hits, 0);
      ExpectSameCounts(stats.cache, Replayed(policy));
      const SimReport simulated = Simulated(policy);
      ExpectSameCounts(stats.cache, simulated.cache);
      EXPECT_EQ(stats.stream.n_events, simulated.stream.n_events);
      EXPECT_EQ(stats.reader.n_reads, simulated.reader.n_reads);
      EXPECT_EQ(stats.reader.bytes_wanted, simulated.reader.bytes_wanted);
    }
  }
}

// From what routers said alone, the simulated cache leads to the experts that the real one led to.
TEST_P(SimAgreementTest, PoliciesChooseAsInTheEngine) {
  for (const std::string text :
       {"cache-prior:0", "cache-prior:0.4", "max-rank:4", "cumulative:0.9", "margin:0.3", "factor:2", "drop:0.4"}) {
    for (const int32_t n_spared_layers : {0, 1}) {
      SCOPED_TRACE(fmt::format("{}, {} spared", text, n_spared_layers));
      const ExpertPolicyOptions expert_policy = {ParseExpertPolicy(text).value(), n_spared_layers};
      RunEngine(1, 0.5, PolicyKind::kCycle, expert_policy);
      if (HasFatalFailure()) return;
      ASSERT_NE(engine_->router(), nullptr);
      const RoutingCounts counts = engine_->router()->chooser().counts();
      EXPECT_EQ(counts.n_agreed < counts.n_picks, text != "cache-prior:0");
      const SimReport simulated = Simulated(PolicyKind::kCycle, expert_policy);
      EXPECT_EQ(counts.n_choices, simulated.routing.n_choices);
      EXPECT_EQ(counts.n_picks, simulated.routing.n_picks);
      EXPECT_EQ(counts.n_agreed, simulated.routing.n_agreed);
      EXPECT_EQ(counts.share_kept, simulated.routing.share_kept);
      EXPECT_EQ(counts.excess_kl, simulated.routing.excess_kl);
      const WeightStreamStats stats = engine_->stream()->stats();
      EXPECT_GT(stats.cache.n_misses, 0);
      ExpectSameCounts(stats.cache, simulated.cache);
      EXPECT_EQ(stats.reader.bytes_wanted, simulated.reader.bytes_wanted);
      // And these are the recorded ones.
      ExpectSameCounts(stats.cache, Simulated(PolicyKind::kCycle).cache);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SimAgreementTest,
                         ::testing::Values("tiny-qwen3moe", "tiny-qwen3moe-quantized", "tiny-olmoe", "tiny-mixtral",
                                           "tiny-qwen2moe", "tiny-smallthinker", "tiny-phimoe"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pantry
