// SPDX-License-Identifier: Apache-2.0
#include "engine/memory_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/logger.h"
#include "base/units.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

constexpr FreeMemory kFree = {kGiB, 10 * kMiB};

struct Opened {
  explicit Opened(const std::string& name)
      : file(GgufFile::Open(testing::TestData("models/" + name + ".gguf")).value()),
        shape(ParseModelShape(file->metadata()).value()),
        needs(NeedsOf(*file, Isa::kScalar).value()) {}
  Result<MemoryPlan> Plan(StreamMode stream, int64_t memory_bytes) const {
    EngineOptions options;
    options.stream = stream;
    options.memory_bytes = memory_bytes;
    options.session.n_ctx = 256;
    return PlanRun(needs, shape, options, kFree);
  }

  std::unique_ptr<GgufFile> file;
  ModelShape shape;
  ModelNeeds needs;
};

// With an output matrix of their own, without experts and with.
class UntiedBudgetTest : public ::testing::TestWithParam<const char*> {};

TEST_P(UntiedBudgetTest, AStreamedRunLeavesTheEmbeddingInTheFileAndAResidentOneDoesNot) {
  const Opened model(GetParam());
  const TensorInfo& embedding = *model.file->FindTensor("token_embd.weight");
  EXPECT_GE(model.needs.rows_bytes, static_cast<int64_t>(embedding.n_bytes) / 2);
  EXPECT_EQ(model.needs.blocks.rows_in_file()->offset, embedding.offset);
  const auto resident = model.Plan(StreamMode::kAuto, 0), streamed = model.Plan(StreamMode::kOn, 200 * kMiB);
  ASSERT_TRUE(resident.ok() && streamed.ok());
  EXPECT_FALSE(resident->is_streamed);
  EXPECT_EQ(resident->dense_bytes, model.needs.dense_bytes);
  EXPECT_EQ(resident->dense_bytes + resident->cache_bytes, *PackedWeightBytes(*model.file, Isa::kScalar));
  EXPECT_TRUE(streamed->is_streamed);
  EXPECT_EQ(streamed->dense_bytes, model.needs.dense_bytes - model.needs.rows_bytes);

  NullLogger log;
  ThreadPool pool(1);
  WeightPlacer placer;
  const auto loaded = Model::Load(*model.file, Isa::kScalar, pool, log, {}, &placer);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ((*loaded)->weight_bytes(), streamed->dense_bytes);
}

TEST_P(UntiedBudgetTest, TheLeastBudgetHasNoRoomForTheEmbedding) {
  const Opened model(GetParam());
  const auto plan = model.Plan(StreamMode::kOn, 200 * kMiB);
  ASSERT_TRUE(plan.ok());
  const int64_t less = plan->cache_bytes - WeightStream::LeastCacheBytes(model.needs.blocks);
  const int64_t mapped = plan->total_bytes() * kBytesPerPageTableByte / (kBytesPerPageTableByte + 1) - less;
  const int64_t least = mapped + PageTableBytes(mapped);
  EXPECT_TRUE(model.Plan(StreamMode::kOn, least).ok());
  EXPECT_EQ(model.Plan(StreamMode::kOn, least - 1).status().code(), StatusCode::kOutOfBudget);
}

TEST_P(UntiedBudgetTest, WithoutStreamingAllOfItMustFit) {
  const Opened model(GetParam());
  const auto whole = model.Plan(StreamMode::kOff, 200 * kMiB);
  ASSERT_TRUE(whole.ok());
  EXPECT_TRUE(model.Plan(StreamMode::kOff, whole->total_bytes()).ok());
  EXPECT_EQ(model.Plan(StreamMode::kOff, whole->total_bytes() - 1).status().code(), StatusCode::kOutOfBudget);
}

INSTANTIATE_TEST_SUITE_P(Models, UntiedBudgetTest,
                         ::testing::Values("tiny-llama3", "tiny-llama-quantized", "tiny-olmoe", "tiny-phimoe"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(MemoryBudget, AnEmbeddingThatIsTheOutputMatrixStaysInMemory) {
  const Opened model("tiny-llama");
  EXPECT_EQ(model.needs.rows_bytes, 0);
  EXPECT_FALSE(model.needs.blocks.rows_in_file().has_value());
  EXPECT_EQ(model.Plan(StreamMode::kOn, 200 * kMiB)->dense_bytes, model.needs.dense_bytes);
}

}  // namespace
}  // namespace pantry
