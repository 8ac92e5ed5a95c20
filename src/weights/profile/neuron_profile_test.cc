// SPDX-License-Identifier: Apache-2.0
#include "weights/profile/neuron_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/rng.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

NeuronProfile MadeUp(int32_t n_neurons, size_t n_layers, int32_t n_experts = 0) {
  Rng rng(7);
  const auto share = [&rng] { return static_cast<float>(rng.NextU64() % 1000) / 1000; };
  NeuronProfile profile;
  profile.model = "a small one";
  profile.weights = rng.NextU64();
  profile.activation = GluActivation::kDrelu;
  profile.n_tokens = 4096;
  profile.sparsity = 0.25f;
  profile.n_neurons = n_neurons;
  profile.n_experts = n_experts;
  profile.layers.resize(n_layers);
  for (NeuronProfile::Layer& layer : profile.layers) {
    std::ranges::generate(layer.active_share, share);
    layer.up_share = share();
    layer.refire_share = share();
    for (size_t i = 1; i < layer.thresholds.size(); ++i) layer.thresholds[i] = layer.thresholds[i - 1] + share();
    for (auto& row : layer.heat) std::ranges::generate(row, [&] { return static_cast<uint8_t>(rng.NextU64()); });
    layer.frequency.resize(profile.neurons_of_layer());
    layer.use.resize(static_cast<size_t>(n_experts));
    std::ranges::generate(layer.use, [&] { return static_cast<uint16_t>(rng.NextU64()); });
    std::ranges::generate(layer.frequency, [&] { return static_cast<uint16_t>(rng.NextU64()); });
  }
  return profile;
}

Result<NeuronProfile> ReadBytes(const std::string& bytes) {
  const std::span<const char> chars(bytes);
  return NeuronProfile::Read(
      *MakeMemoryReader("x.profile", {reinterpret_cast<const uint8_t*>(chars.data()), chars.size()}));
}

class NeuronProfileOf : public ::testing::TestWithParam<int32_t> {};  // experts
INSTANTIATE_TEST_SUITE_P(DenseAndExperts, NeuronProfileOf, ::testing::Values(0, 1, 5));

TEST_P(NeuronProfileOf, ComesOutOfAFileAsItWentIn) {
  const NeuronProfile profile = MadeUp(37, 3, GetParam());
  const Result<NeuronProfile> read = ReadBytes(profile.Serialize());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->model, profile.model);
  EXPECT_EQ(read->weights, profile.weights);
  EXPECT_EQ(read->activation, profile.activation);
  EXPECT_EQ(read->n_tokens, profile.n_tokens);
  EXPECT_EQ(read->sparsity, profile.sparsity);
  EXPECT_EQ(read->n_neurons, profile.n_neurons);
  EXPECT_EQ(read->n_experts, profile.n_experts);
  ASSERT_EQ(read->layers.size(), profile.layers.size());
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const NeuronProfile::Layer &got = read->layers[i], &expected = profile.layers[i];
    EXPECT_EQ(got.active_share, expected.active_share);
    EXPECT_EQ(got.up_share, expected.up_share);
    EXPECT_EQ(got.refire_share, expected.refire_share);
    EXPECT_EQ(got.thresholds, expected.thresholds);
    EXPECT_EQ(got.heat, expected.heat);
    EXPECT_EQ(got.use, expected.use);
    EXPECT_EQ(got.frequency, expected.frequency);
  }
}

TEST(NeuronProfile, TakesTwoBytesANeuron) {
  EXPECT_EQ(MadeUp(1536, 30).Serialize().size() - MadeUp(512, 30).Serialize().size(), 30 * 1024 * 2);
  EXPECT_LT(MadeUp(1536, 30).Serialize().size(), 120'000u);
}

TEST_P(NeuronProfileOf, EveryDamagedOrMissingByteIsNoticed) {
  const std::string bytes = MadeUp(5, 1, GetParam()).Serialize();
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const Result<NeuronProfile> read = ReadBytes(damaged);
    ASSERT_FALSE(read.ok()) << "byte " << at;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("x.profile: "));
  }
  for (const size_t n : {size_t{0}, size_t{7}, size_t{63}, size_t{64}, bytes.size() - 1}) {
    EXPECT_EQ(ReadBytes(bytes.substr(0, n)).status().code(), StatusCode::kCorruption) << n;
  }
  EXPECT_EQ(ReadBytes(bytes + "x").status().code(), StatusCode::kCorruption);
}

TEST(NeuronProfile, SoundChecksumDoesNotExcuseNonsense) {
  NeuronProfile falling = MadeUp(5, 1);
  std::swap(falling.layers[0].thresholds[10], falling.layers[0].thresholds[60]);
  NeuronProfile above_one = MadeUp(5, 1);
  above_one.layers[0].active_share[2] = 1.5f;
  NeuronProfile not_a_number = MadeUp(5, 1);
  not_a_number.layers[0].thresholds[99] = NAN;
  NeuronProfile sparser = MadeUp(5, 1);
  sparser.sparsity = 7;
  for (const NeuronProfile& profile : {falling, above_one, not_a_number, sparser}) {
    EXPECT_EQ(ReadBytes(profile.Serialize()).status().code(), StatusCode::kCorruption);
  }
}

TEST(NeuronProfile, ThresholdsBetweenTwoAreInterpolated) {
  NeuronProfile::Layer layer;
  for (size_t i = 0; i < layer.thresholds.size(); ++i) layer.thresholds[i] = 0.5f * static_cast<float>(i * i);
  EXPECT_EQ(layer.ThresholdFor(0), 0);
  EXPECT_FLOAT_EQ(layer.ThresholdFor(0.3), 450);
  EXPECT_FLOAT_EQ(layer.ThresholdFor(0.305), (450 + 480.5f) / 2);
  EXPECT_FLOAT_EQ(layer.ThresholdFor(0.99), 0.5f * 99 * 99);
}

TEST(NormsHash, TellsModelsApart) {
  const auto hash = [](const std::string& name) {
    const auto file = GgufFile::Open(testing::TestData("models/" + name + ".gguf"));
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    const Result<uint64_t> norms = NormsHash(**file);
    EXPECT_TRUE(norms.ok()) << norms.status().ToString();
    return *norms;
  };
  EXPECT_NE(hash("tiny-llama"), hash("tiny-mistral"));
  EXPECT_NE(hash("tiny-llama"), hash("tiny-qwen2"));
}

}  // namespace
}  // namespace pantry
