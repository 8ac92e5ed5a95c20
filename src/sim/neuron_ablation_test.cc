// SPDX-License-Identifier: Apache-2.0
#include "sim/neuron_ablation.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "sim/sim_test_models.h"

namespace pantry {
namespace {

// Whatever the disk and the neurons are like, each mechanism pays.
TEST(NeuronAblation, EachStepIsFasterThanTheOneBefore) {
  DeviceProfile device = testing::SmallDevice();
  device.flash_share = 1;
  device.read_cpu_us = 0;
  device.place_bytes_per_s = 0;
  device.dram_bytes_per_s = 30e9;
  device.second = SecondExecutor{"unit", 28e9, 1e13};
  NeuronOptions options;
  options.n_tokens = 3;
  options.n_skipped = 1;
  options.n_warm = 4;
  const auto steps = NeuronAblation(device, options);
  ASSERT_TRUE(steps.ok()) << steps.status().ToString();
  ASSERT_EQ(steps->size(), 5u);
  for (size_t i = 1; i < steps->size(); ++i) {
    EXPECT_GT((*steps)[i].report.tok_per_s(), (*steps)[i - 1].report.tok_per_s()) << (*steps)[i].name;
  }
  EXPECT_GT((*steps)[2].report.cache.HitRate(), 0.3);
  EXPECT_EQ((*steps)[0].published_tok_per_s, 0) << "nobody published anything of this device";
  EXPECT_EQ((*steps)[1].report.cache.n_hits, 0) << "what is not kept cannot be hit";
}

TEST(NeuronAblation, OnThePublishedPhoneTheOrderIsThePublishedOne) {
  const std::ifstream file(std::string(PANTRY_SOURCE_DIR) + "/src/sim/devices/oneplus12.json");
  std::stringstream text;
  text << file.rdbuf();
  const auto device = DeviceProfileFromJson(text.str(), "oneplus12");
  ASSERT_TRUE(device.ok()) << device.status().ToString();
  NeuronOptions options;
  options.n_tokens = 4;
  options.n_skipped = 2;
  options.n_warm = 8;
  const auto steps = NeuronAblation(*device, options);
  ASSERT_TRUE(steps.ok()) << steps.status().ToString();
  for (size_t i = 1; i < steps->size(); ++i) {
    EXPECT_GT((*steps)[i].report.tok_per_s(), (*steps)[i - 1].report.tok_per_s()) << (*steps)[i].name;
    EXPECT_GT((*steps)[i].published_tok_per_s, (*steps)[i - 1].published_tok_per_s);
  }
}

TEST(NeuronAblation, WithoutASecondExecutorThereIsNone) {
  EXPECT_EQ(NeuronAblation(testing::SmallDevice(), {}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
