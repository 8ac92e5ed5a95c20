// SPDX-License-Identifier: Apache-2.0
#include "sim/neuron_ablation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "sim/neuron_sensitivity.h"
#include "sim/sim_test_models.h"

namespace pantry {
namespace {

using ::testing::Each;
using ::testing::Eq;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Lt;

constexpr size_t kSteps = 5;  // and two checks

DeviceProfile Phone() {
  const std::ifstream file(std::string(PANTRY_SOURCE_DIR) + "/src/sim/devices/oneplus12.json");
  std::stringstream text;
  text << file.rdbuf();
  return DeviceProfileFromJson(text.str(), "oneplus12").value();
}

// Little to compute; the cache is not yet full.
NeuronOptions FewTokens() {
  NeuronOptions options;
  options.n_tokens = 2;
  options.n_skipped = 1;
  options.n_warm = 2;
  return options;
}

// Whatever the disk and the neurons are like, each mechanism pays.
TEST(NeuronAblation, EachStepIsFasterThanTheOneBefore) {
  DeviceProfile device = testing::SmallDevice();
  device.flash_share = 1;
  device.read_cpu_us = 0;
  device.place_bytes_per_s = 0;
  device.dram_bytes_per_s = 30e9;
  device.second = SecondExecutor{"unit", 28e9, 1e13};
  NeuronOptions options = FewTokens();
  options.n_warm = 4;
  const auto steps = NeuronAblation(device, options);
  ASSERT_TRUE(steps.ok()) << steps.status().ToString();
  ASSERT_EQ(steps->size(), kSteps + 2);
  for (size_t i = 1; i < steps->size(); ++i) {
    EXPECT_GT((*steps)[i].report.tok_per_s(), (*steps)[i - 1].report.tok_per_s()) << (*steps)[i].name;
  }
  EXPECT_GT((*steps)[2].found, (*steps)[1].found + 0.2);
  EXPECT_EQ((*steps)[0].published_tok_per_s, 0) << "nobody published anything of this device";
  for (const size_t i : {0, 1}) {
    EXPECT_EQ((*steps)[i].report.cache.n_hits, 0) << "what is not kept cannot be hit";
    EXPECT_NEAR((*steps)[i].found, 0.5, 0.01);
  }
  for (const size_t i : {5, 6}) EXPECT_EQ((*steps)[i].report.reader.bytes_read, 0) << "nothing is on flash";
}

// The table of src/sim/README.md.
TEST(NeuronAblation, OnThePublishedPhoneSpeedsAreThoseOfTheReadme) {
  const auto steps = NeuronAblation(Phone(), {});
  ASSERT_TRUE(steps.ok()) << steps.status().ToString();
  constexpr double kSpeeds[] = {0.40, 0.84, 5.12, 10.05, 11.91, 19.0, 20.2};
  ASSERT_EQ(steps->size(), std::size(kSpeeds));
  for (size_t i = 0; i < std::size(kSpeeds); ++i) {
    const AblationStep& step = (*steps)[i];
    EXPECT_NEAR(step.report.tok_per_s() / kSpeeds[i], 1, 0.02) << step.name;
    EXPECT_GT(step.published_tok_per_s, 0) << step.name;
    EXPECT_EQ(step.is_derived, i == 5) << step.name;
  }
  for (const size_t i : {2, 3, 4}) EXPECT_NEAR((*steps)[i].found, 0.95, 0.005) << "`stays` is fitted to that";
}

// Each mechanism works where it should, in the right direction, and nowhere else.
TEST(NeuronAblation, ConstantsChangeTheStepsThatTheyBelongTo) {
  const DeviceProfile phone = Phone();
  const auto steps = NeuronAblation(phone, FewTokens());
  ASSERT_TRUE(steps.ok()) << steps.status().ToString();
  const auto change = [&](std::string_view constant, double factor) {
    return VaryConstant(constant, factor, phone, FewTokens(), *steps).value().change;
  };
  const auto of = [](const std::vector<double>& all, size_t begin, size_t end) {
    return std::vector<double>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                               all.begin() + static_cast<std::ptrdiff_t>(end));
  };
  EXPECT_THAT(change("overread", 1.3), Each(Lt(0)));
  EXPECT_THAT(change("fires", 0.7), Each(Gt(0))) << "what does not fire is neither read nor computed";
  const auto one_read = change("flash, one read", 1.3);
  EXPECT_THAT(of(one_read, 0, 3), Each(Gt(0.1)));
  EXPECT_THAT(of(one_read, 5, 7), Each(Eq(0)));
  const auto several = change("flash, several", 1.3);
  EXPECT_THAT(of(several, 0, 3), Each(Eq(0))) << "one read at a time";
  EXPECT_THAT(of(several, 3, 5), Each(Gt(0.05)));
  const auto memory_of_all = change("memory of all", 1.3);
  EXPECT_THAT(of(memory_of_all, 5, 6), Each(Eq(0))) << "cores alone do not reach it";
  EXPECT_THAT(of(memory_of_all, 6, 7), Each(Gt(0)));
}

// What `skew` is solved for.
TEST(NeuronAblation, FortyThreePercentOfTheNeuronsAreEightyPercentOfTheActivity) {
  const NeuronOptions options;
  const std::vector<double> likelihoods = NamingLikelihoods(14336, options);
  const auto sum = [&](double share) {
    const auto end = likelihoods.begin() + std::lround(share * 14336);
    return std::accumulate(likelihoods.begin(), end, 0.0);
  };
  EXPECT_NEAR(sum(1) / 14336, options.named, 1e-6);
  EXPECT_NEAR(sum(0.43) / sum(1), 0.80, 0.001);
  EXPECT_TRUE(std::is_sorted(likelihoods.rbegin(), likelihoods.rend()));
  EXPECT_EQ(likelihoods.front(), 1) << "the curve is cut";
}

TEST(NeuronAblation, AConstantThatNobodyKnowsIsRefused) {
  const auto refused = [](std::string_view constant, double factor) {
    return VaryConstant(constant, factor, testing::SmallDevice(), {}, {}).status();
  };
  EXPECT_THAT(refused("luck", 1.3).message(), HasSubstr("no constant 'luck'"));
  EXPECT_THAT(refused("hot", 0).message(), HasSubstr("factor"));
  EXPECT_EQ(refused("hot", -1).code(), StatusCode::kInvalidArgument);
}

TEST(NeuronAblation, WrongOptionsAreRefused) {
  const auto message = [](auto change) {
    NeuronOptions options;
    change(options);
    return std::string(options.Validate().message());
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_THAT(message([](auto& o) { o.named = 1; }), HasSubstr("shares"));
  EXPECT_THAT(message([](auto& o) { o.fires = 0; }), HasSubstr("shares"));
  EXPECT_THAT(message([](auto& o) { o.hot = 0.5; }), HasSubstr("fit in memory"));
  EXPECT_THAT(message([](auto& o) { o.dense = 0; }), HasSubstr("shares"));
  EXPECT_THAT(message([](auto& o) { o.stays = 1; }), HasSubstr("shares"));
  EXPECT_THAT(message([](auto& o) { o.overread = 0.9; }), HasSubstr("0.9 bytes"));
  EXPECT_THAT(message([](auto& o) { o.skew = -1; }), HasSubstr("skew is -1"));
  EXPECT_THAT(message([](auto& o) { o.first_position = -1; }), HasSubstr("position -1"));
  EXPECT_THAT(message([](auto& o) { o.n_computing = 0; }), HasSubstr("0 cores compute"));
  EXPECT_THAT(message([](auto& o) { o.n_skipped = o.n_tokens; }), HasSubstr("no token"));
}

TEST(NeuronAblation, WithoutASecondExecutorThereIsNone) {
  EXPECT_EQ(NeuronAblation(testing::SmallDevice(), {}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
