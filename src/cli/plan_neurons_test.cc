// SPDX-License-Identifier: Apache-2.0
#include "cli/plan_neurons.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/units.h"
#include "support/made_up_profile.h"
#include "support/tiny_pack.h"
#include "weights/profile/neuron_profile.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kModel[] = "tiny-bamboo-quantized";

HardwareProfile Machine() {
  HardwareProfile machine;
  machine.dram_read_bytes_per_s = {{1, 10e9}, {2, 18e9}};
  machine.int8_ops_per_s = {{1, 100e9}, {2, 200e9}};
  machine.f32_flops = {{1, 50e9}, {2, 100e9}};
  machine.disk.emplace();
  machine.disk->random = {{4096, 1, 50e6, 0}, {4096, 32, 300e6, 0}, {1 << 20, 1, 1e9, 0}, {1 << 20, 32, 2e9, 0}};
  return machine;
}

class PlanByNeuronTest : public ::testing::Test {
 protected:
  NeuronPlanReport Plan(const NeuronPlanOptions& options) {
    Result<std::optional<NeuronPlanReport>> report = PlanByNeuron(*file_, shape_, options);
    EXPECT_TRUE(report.ok() && report->has_value()) << report.status().ToString();
    return **std::move(report);
  }
  NeuronPlanOptions Options(int64_t budget_bytes) {
    NeuronPlanOptions options;
    options.engine.memory_bytes = budget_bytes;
    options.engine.session.n_ctx = 128;
    options.engine.session.n_batch = 8;
    options.memory = {.available_bytes = kGiB, .resident_bytes = 10 * kMiB};
    options.machine = &machine_;
    options.n_threads = 2;
    return options;
  }
  // Beside the pack: a neuron in ten fires mostly.
  void WriteProfile() const {
    const NeuronProfile profile =
        testing::MadeUpProfile(*file_, 777, [](int64_t neuron) { return neuron % 10 == 0 ? 60000 : 600; });
    std::ofstream(NeuronProfile::PathBeside(pack_.path())) << profile.Serialize();
  }

  const testing::TinyPack pack_{kModel, NeuronPacking::kAlways};
  const std::unique_ptr<GgufFile> file_ = testing::OpenGguf(pack_.path());
  const ModelShape shape_ = ParseModelShape(file_->metadata()).value();
  const HardwareProfile machine_ = Machine();
};

TEST_F(PlanByNeuronTest, WithoutAProfileItIsAGuessAndCalledOne) {
  const NeuronPlanReport plan = Plan(Options(200 * kMiB));
  const std::string text = NeuronPlanText(plan);
  EXPECT_THAT(text, HasSubstr("a guess"));
  EXPECT_THAT(text, HasSubstr("pantry profile MODEL.gguf -f TEXT -o " + pack_.path() + ".profile"));
  const auto json = NeuronPlanJson(plan);
  EXPECT_EQ(json.at("is_guess"), true);
  EXPECT_TRUE(json.at("profile").is_null());
}

TEST_F(PlanByNeuronTest, AProfileSaysWhatFires) {
  WriteProfile();
  const NeuronPlanReport all = Plan(Options(200 * kMiB));
  EXPECT_THAT(NeuronPlanText(all), ::testing::AllOf(HasSubstr("of 777 tokens"), Not(HasSubstr("guess"))));
  ASSERT_EQ(all.plan.batches.size(), 3u);
  const int64_t n_hot_of_layer = (shape_.n_ff + 9) / 10;
  const auto n_hot = static_cast<double>(shape_.n_layers * n_hot_of_layer);
  const double n_firing = (n_hot * 60000 + (static_cast<double>(all.n_neurons) - n_hot) * 600) / 65535;
  EXPECT_NEAR(all.plan.batches[0].n_firing, n_firing, 1e-6 * n_firing);
  EXPECT_EQ(all.plan.batches[0].n_reads, 0);
  EXPECT_EQ(all.held_share(), 1);

  const int64_t neuron_bytes = all.memory.block_bytes / all.n_neurons;
  const int64_t a_tenth = all.memory.total_bytes() - all.memory.cache_bytes + all.n_neurons / 10 * neuron_bytes;
  const NeuronPlanReport some = Plan(Options(a_tenth));
  EXPECT_GT(some.held_share(), 0.1);  // with what is lent
  EXPECT_LT(some.held_share(), 1);
  EXPECT_GT(some.plan.batches[0].hits.high, 6000.0 / 6540);
  EXPECT_GT(some.plan.batches[0].n_reads, 0);
  EXPECT_GT(some.plan.batches[0].run.likely_s, all.plan.batches[0].run.likely_s);
}

TEST_F(PlanByNeuronTest, RegionsAddUpToWhatTheRunTakes) {
  const auto json = NeuronPlanJson(Plan(Options(200 * kMiB)));
  int64_t sum = 0;
  for (const char* region :
       {"process", "attention_and_others", "gates", "scales", "kv", "scratch", "reading", "neurons"}) {
    const int64_t n_bytes = json.at("regions").at(std::string(region) + "_bytes");
    EXPECT_GT(n_bytes, 0) << region;
    sum += n_bytes;
  }
  EXPECT_EQ(sum, json.at("regions").at("total_bytes"));
  EXPECT_LE(sum, 200 * kMiB);
}

TEST_F(PlanByNeuronTest, TheModelItWasMadeOfOffersItsOwnWays) {
  ASSERT_EQ(Plan(Options(200 * kMiB)).plan.ways.size(), 1u);
  std::filesystem::path gguf = pack_.path();
  gguf.replace_extension(".gguf");
  std::filesystem::copy_file(testing::TinyModel(kModel), gguf);
  const NeuronPlanReport roomy = Plan(Options(200 * kMiB));
  ASSERT_EQ(roomy.plan.ways.size(), 3u);
  for (size_t i = 1; i < 3; ++i) EXPECT_GE(roomy.plan.ways[i].token.likely_s, roomy.plan.ways[i - 1].token.likely_s);
  {
    std::fstream quantized(gguf, std::ios::in | std::ios::out | std::ios::binary);  // other weights in the same places
    const auto source = testing::OpenGguf(gguf.string());
    quantized.seekg(static_cast<std::streamoff>(source->tensors().back().offset));
    const auto flipped = static_cast<char>(quantized.get() ^ 1);
    quantized.seekp(static_cast<std::streamoff>(source->tensors().back().offset));
    quantized.put(flipped);
  }
  EXPECT_EQ(Plan(Options(200 * kMiB)).plan.ways.size(), 1u);
  const std::string text = NeuronPlanText(roomy);
  for (const char* way : {"in memory", "by matrix", "by neuron"}) EXPECT_THAT(text, HasSubstr(way));
  std::ofstream(gguf) << "another file";
  EXPECT_EQ(Plan(Options(200 * kMiB)).plan.ways.size(), 1u);
}

TEST_F(PlanByNeuronTest, SaysWhatAWantedSpeedTakes) {
  NeuronPlanOptions options = Options(200 * kMiB);
  options.least_tok_per_s = 1;
  const NeuronPlanReport plan = Plan(options);
  EXPECT_GT(plan.plan.ways.front().least_budget_bytes, 0);
  EXPECT_THAT(NeuronPlanText(plan), HasSubstr("memory for 1 tok/s"));
  NeuronPlanOptions ampler = Options(400 * kMiB);
  ampler.least_tok_per_s = 1;
  EXPECT_EQ(Plan(ampler).plan.ways.front().least_budget_bytes, plan.plan.ways.front().least_budget_bytes);
  ampler.engine.memory_bytes = plan.plan.ways.front().least_budget_bytes;
  EXPECT_GE(1 / Plan(ampler).plan.ways.front().token.likely_s, 0.98);
  options.least_tok_per_s = 1e9;
  EXPECT_THAT(NeuronPlanText(Plan(options)), HasSubstr("no memory is enough"));
}

TEST_F(PlanByNeuronTest, AnUnknownMachineStillHasHits) {
  NeuronPlanOptions options = Options(200 * kMiB);
  options.machine = nullptr;
  const NeuronPlanReport plan = Plan(options);
  EXPECT_THAT(NeuronPlanText(plan), ::testing::AllOf(HasSubstr("neurons that fire"), Not(HasSubstr("tokens/s"))));
  const auto json = NeuronPlanJson(plan);
  EXPECT_FALSE(json.contains("ways"));
  EXPECT_TRUE(json.at("batches")[0].contains("hit_rate"));
}

TEST_F(PlanByNeuronTest, OtherModelsHaveNoSuchPlanAndSmallBudgetsNone) {
  for (const char* name : {"tiny-llama", kModel}) {  // its neurons are too small to be worth a pack
    const auto file = testing::OpenGguf(testing::TinyModel(name));
    const auto report = PlanByNeuron(*file, ParseModelShape(file->metadata()).value(), Options(200 * kMiB));
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    EXPECT_FALSE(report->has_value()) << name;
  }
  EXPECT_EQ(PlanByNeuron(*file_, shape_, Options(kMiB)).status().code(), StatusCode::kOutOfBudget);
}

}  // namespace
}  // namespace pantry
