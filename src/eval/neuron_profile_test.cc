// SPDX-License-Identifier: Apache-2.0
#include "eval/neuron_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "engine/scripted_engine.h"
#include "eval/neuron_recorder.h"
#include "eval/neuron_report.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::pantry::testing::ReadFile;
using ::pantry::testing::TemporaryFile;
using ::pantry::testing::TestData;
using ::testing::HasSubstr;

// Gates and ups as they came, token by token.
class EveryGate final : public NeuronObserver {
 public:
  void Gated(int32_t layer, int64_t n_tokens, int64_t n_neurons, const float* gate, const float* up,
             int64_t stride) override {
    layers.resize(std::max(layers.size(), static_cast<size_t>(layer) + 1));
    for (int64_t t = 0; t < n_tokens; ++t) {
      layers[static_cast<size_t>(layer)].push_back(
          {{gate + t * stride, gate + t * stride + n_neurons}, {up + t * stride, up + t * stride + n_neurons}});
    }
  }
  struct Token {
    std::vector<float> gate, up;
  };
  std::vector<std::vector<Token>> layers;
};

// The figures of one layer, a text of whole batches, counted in the plainest way.
void ExpectSlowCount(const std::vector<EveryGate::Token>& tokens, const FiringGates& firing,
                     const NeuronProfile::Layer& profile) {
  const size_t n_neurons = tokens.front().gate.size();
  const auto fires = [&](size_t token, size_t neuron) { return firing.Contain(tokens[token].gate[neuron]); };
  double n_fired = 0, n_up = 0, n_before = 0, n_again = 0;
  for (size_t i = 0; i < n_neurons; ++i) {
    double n = 0;
    for (size_t t = 0; t < tokens.size(); ++t) {
      if (!fires(t, i)) continue;
      ++n;
      if (tokens[t].up[i] > 0) ++n_up;
      if (t + 1 == tokens.size()) continue;
      ++n_before;
      if (fires(t + 1, i)) ++n_again;
    }
    n_fired += n;
    EXPECT_NEAR(profile.frequency[i] / 65535.0, n / static_cast<double>(tokens.size()), 1e-5) << "neuron " << i;
  }
  EXPECT_NEAR(profile.up_share, n_up / n_fired, 1e-6);
  EXPECT_NEAR(profile.refire_share, n_again / n_before, 1e-6);
  for (size_t b = 0; b < NeuronProfile::kBatches.size(); ++b) {
    const auto length = static_cast<size_t>(NeuronProfile::kBatches[b]);
    double n_active = 0;
    for (size_t begin = 0; begin + length <= tokens.size(); begin += length) {
      for (size_t i = 0; i < n_neurons; ++i) {
        bool is_active = false;
        for (size_t t = begin; t < begin + length; ++t) is_active |= fires(t, i);
        n_active += is_active ? 1 : 0;
      }
    }
    const size_t n_whole = tokens.size() / length;
    const auto n_batches = static_cast<double>(n_whole);
    EXPECT_NEAR(profile.active_share[b], n_active / n_batches / static_cast<double>(n_neurons), 1e-6) << length;
  }
}

ModelShape ShapeOf(int32_t n_ff, GluActivation activation) {
  ModelShape shape;
  shape.n_layers = 1;
  shape.n_ff = n_ff;
  shape.activation = activation;
  return shape;
}

TEST(NeuronRecorder, CountsWhatASlowCountCounts) {
  constexpr int32_t kNeurons = 50;
  constexpr int64_t kTokens = 96, kStride = 120;
  Rng rng(3);
  std::vector<float> both(kTokens * kStride);
  std::vector<float> bias(kNeurons);
  const auto number = [&rng] { return static_cast<float>(rng.NextU64() % 2001) / 1000 - 1; };
  std::ranges::generate(bias, number);
  std::ranges::generate(both, number);
  for (size_t i = 0; i < both.size(); ++i) both[i] += bias[i % kStride % kNeurons];
  for (const FiringGates& firing : {FiringGates::Positive(), FiringGates::OfSilu(0.1f), FiringGates::OfSilu(0.4f)}) {
    NeuronRecorder recorder(ShapeOf(kNeurons, GluActivation::kSilu), {&firing, 1});
    recorder.BeginText();
    int64_t done = 0;
    for (const int64_t n : {7, 1, 40, 48}) {  // as runs come, and not in batches
      recorder.Gated(0, n, kNeurons, both.data() + done * kStride, both.data() + done * kStride + 60, kStride);
      done += n;
    }
    EveryGate slow;
    slow.Gated(0, kTokens, kNeurons, both.data(), both.data() + 60, kStride);
    ExpectSlowCount(slow.layers[0], firing, recorder.Layer(0));
  }
}

TEST(NeuronRecorder, PastEndsWithTheText) {
  const FiringGates firing = FiringGates::Positive();
  NeuronRecorder recorder(ShapeOf(1, GluActivation::kRelu), {&firing, 1});
  const float fires = 1, rests = -1;
  for (const float* gate : {&fires, &rests, &fires}) {
    recorder.BeginText();
    recorder.Gated(0, 1, 1, gate, &fires, 1);
  }
  EXPECT_EQ(recorder.Layer(0).refire_share, 0);  // it never had a token before
  EXPECT_EQ(recorder.Layer(0).active_share[1], 0);
  EXPECT_NEAR(recorder.Layer(0).active_share[0], 2.0 / 3, 1e-6);
}

TEST(NeuronRecorder, HeatIsSortedByFrequencyOfSingleTokens) {
  constexpr int32_t kNeurons = 640;
  const FiringGates firing = FiringGates::Positive();
  NeuronRecorder recorder(ShapeOf(kNeurons, GluActivation::kRelu), {&firing, 1});
  Rng rng(4);
  std::vector<float> gate(kNeurons);
  recorder.BeginText();
  for (int t = 0; t < 320; ++t) {
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = rng.NextU64() % kNeurons < i ? 1.0f : -1.0f;
    recorder.Gated(0, 1, kNeurons, gate.data(), gate.data(), kNeurons);
  }
  const NeuronProfile::Layer layer = recorder.Layer(0);
  EXPECT_TRUE(std::ranges::is_sorted(layer.heat[0], std::greater()));
  EXPECT_GT(layer.heat[0].front(), 245);
  EXPECT_LT(layer.heat[0].back(), 10);
  EXPECT_GT(layer.heat[5].back(), layer.heat[0].back());
}

TEST(NeuronRecorder, ThresholdsCutTheActivationsInShares) {
  constexpr int32_t kNeurons = 20000;
  Rng rng(5);
  std::vector<float> gate(kNeurons), sizes;
  for (const GluActivation activation : {GluActivation::kSilu, GluActivation::kRelu, GluActivation::kRelu2}) {
    for (float& x : gate) {
      const double uniform = static_cast<double>((rng.NextU64() >> 11) + 1) * 0x1p-53;
      x = static_cast<float>(0.7 * std::sqrt(-2 * std::log(uniform)) *
                             std::cos(static_cast<double>(rng.NextU64() % 6283) / 1000));
    }
    const FiringGates firing = FiringGates::Positive();
    NeuronRecorder recorder(ShapeOf(kNeurons, activation), {&firing, 1});
    recorder.BeginText();
    recorder.Gated(0, 1, kNeurons, gate.data(), gate.data(), kNeurons);
    const NeuronProfile::Layer layer = recorder.Layer(0);
    EXPECT_TRUE(std::ranges::is_sorted(layer.thresholds));
    for (const double share : {0.05, 0.3, 0.5, 0.7, 0.955, 0.99}) {
      const float threshold = layer.ThresholdFor(share);
      const auto n_below =
          std::ranges::count_if(gate, [&](float x) { return ActivationSize(activation, x) < threshold; });
      const double below = static_cast<double>(n_below) / kNeurons;
      const bool is_zero = activation != GluActivation::kSilu && share < 0.505;  // as half of them are
      EXPECT_NEAR(is_zero ? share : below, share, 0.004) << static_cast<int>(activation) << " " << threshold;
      EXPECT_LT(is_zero ? threshold : 0, 0.02f);
    }
  }
}

// A tiny model in Q4_0; with other than its own activation where the key is made unreadable: llama's default is SiLU.
std::string Bamboo(bool with_silu) {
  std::string bytes = ReadFile(TestData("models/tiny-bamboo-quantized.gguf"));
  const size_t at = bytes.find("llama.feed_forward_activation");
  EXPECT_NE(at, std::string::npos);
  if (with_silu) bytes[at] = 'x';
  return bytes;
}

std::string Text() {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += fmt::format("The cook put {} jars of plums, and then {} more, on the shelf. ", i, i * i);
  return text;
}

Result<std::unique_ptr<Engine>> OpenBytes(const std::string& bytes, EngineOptions options, Logger& log) {
  const auto* const data = reinterpret_cast<const uint8_t*>(bytes.data());
  std::vector<std::unique_ptr<Reader>> shards;
  shards.push_back(MakeMemoryReader("tiny.gguf", {data, bytes.size()}));
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(std::move(shards)));
  options.n_threads = 2;
  return Engine::Open(std::move(file), options, log, {});
}

// Of the models without a tokenizer.
std::unique_ptr<Engine> OpenTiny(const std::string& name, Logger& log) {
  EngineParts parts;
  auto file = GgufFile::Open(TestData("models/" + name + ".gguf"));
  parts.pool = std::make_unique<ThreadPool>(1);
  auto model = Model::Load(**file, BestIsa(), *parts.pool, log, {});
  EXPECT_TRUE(model.ok()) << model.status().ToString();
  parts.file = *std::move(file);
  parts.model = *std::move(model);
  parts.tokenizer = std::make_unique<testing::WordTokenizer>(std::vector<std::string>{"a", "b"});
  return Engine::FromParts(std::move(parts), log);
}

NeuronProfileOptions Options(int64_t max_tokens, double sparsity = 0.5) {
  NeuronProfileOptions options;
  options.n_ctx = 64;
  options.max_tokens = max_tokens;
  options.sparsity = sparsity;
  return options;
}

TEST(ProfileNeurons, CountsWhatTheModelComputes) {
  NullLogger log;
  for (const bool with_silu : {false, true}) {
    const std::string bytes = Bamboo(with_silu);
    const auto engine = OpenBytes(bytes, {}, log);
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    const Result<NeuronProfile> profile = ProfileNeurons(**engine, Text(), Options(64));
    ASSERT_TRUE(profile.ok()) << profile.status().ToString();
    EXPECT_EQ(profile->n_tokens, 64);
    EXPECT_EQ(profile->layers.size(), static_cast<size_t>((*engine)->shape().n_layers));

    // The same tokens one by one, where a model of this kind computes only what fires unless somebody listens.
    std::vector<TokenId> tokens = (*engine)->tokenizer().Encode(Text(), EncodeOptions{});
    tokens.resize(64);
    EveryGate gates;
    (*engine)->ObserveNeurons(&gates);
    const auto session = (*engine)->NewSession({.n_ctx = 64});
    ASSERT_TRUE(session.ok());
    for (const TokenId token : tokens) ASSERT_TRUE((*session)->Feed({&token, 1}).ok());
    (*engine)->ObserveNeurons(nullptr);
    ASSERT_EQ(gates.layers.size(), profile->layers.size());
    for (size_t i = 0; i < gates.layers.size(); ++i) {
      const NeuronProfile::Layer& layer = profile->layers[i];
      const FiringGates firing = with_silu ? FiringGates::OfSilu(layer.ThresholdFor(0.5)) : FiringGates::Positive();
      ExpectSlowCount(gates.layers[i], firing, layer);
      EXPECT_NEAR(layer.active_share[0], with_silu ? 0.5 : layer.active_share[0], 0.005) << "layer " << i;
    }
  }
}

TEST(ProfileNeurons, WindowsAreSpreadOverTheText) {
  NullLogger log;
  const std::string bytes = Bamboo(false);
  const auto engine = OpenBytes(bytes, {}, log);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  const std::string second(4000, 'z');
  const auto few = ProfileNeurons(**engine, Text() + second, Options(128));
  const auto front = ProfileNeurons(**engine, Text(), Options(128));
  ASSERT_TRUE(few.ok() && front.ok());
  EXPECT_EQ(few->n_tokens, 128);
  EXPECT_NE(few->layers[0].frequency, front->layers[0].frequency);
}

TEST(ProfileNeurons, SaysWhatItCannotDo) {
  NullLogger log;
  const std::string bytes = Bamboo(false);
  const auto engine = OpenBytes(bytes, {}, log);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_THAT(ProfileNeurons(**engine, "too short", Options(64)).status().ToString(), HasSubstr("needs 32 at least"));
  EXPECT_THAT(ProfileNeurons(**engine, Text(), Options(5)).status().ToString(), HasSubstr("--n-tokens 5"));
  EXPECT_THAT(ProfileNeurons(**engine, Text(), Options(64, 1.5)).status().ToString(), HasSubstr("--sparsity 1.5"));
  EXPECT_EQ(ProfileNeurons(**engine, Text(), Options(64), [](int64_t, int64_t) { return false; }).status().code(),
            StatusCode::kCancelled);
  EXPECT_THAT(ProfileNeurons(*OpenTiny("tiny-gemma2", log), std::string(64, 'a'), Options(64)).status().ToString(),
              HasSubstr("architecture 'gemma2'"));
  EXPECT_THAT(ProfileNeurons(*OpenTiny("tiny-mixtral", log), std::string(64, 'a'), Options(64)).status().ToString(),
              HasSubstr("the model's experts all do something"));
}

TEST(NeuronReport, NamesEveryLayerAndEscapesTheModel) {
  NullLogger log;
  const std::string bytes = Bamboo(true);
  const auto engine = OpenBytes(bytes, {}, log);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  Result<NeuronProfile> profile = ProfileNeurons(**engine, Text(), Options(64));
  ASSERT_TRUE(profile.ok()) << profile.status().ToString();
  profile->model = "<b>";
  const std::string html = ProfileHtml(*profile, "a&b.txt", "1");
  EXPECT_THAT(html, HasSubstr("&lt;b&gt;"));
  EXPECT_THAT(html, HasSubstr("a&amp;b.txt"));
  for (size_t i = 0; i < profile->layers.size(); ++i) EXPECT_THAT(html, HasSubstr(fmt::format(">layer {}<", i)));
  EXPECT_THAT(html, ::testing::Not(HasSubstr("<script")));
  EXPECT_THAT(ProfileTable(*profile), HasSubstr("\n  all"));
}

// Logits of all tokens of a text, fed in runs of the given lengths.
std::vector<float> Logits(Engine& engine, std::span<const TokenId> tokens, int32_t n_batch) {
  auto session = engine.NewSession({.n_ctx = 128, .n_batch = n_batch, .all_logits = true});
  EXPECT_TRUE(session.ok()) << session.status().ToString();
  std::vector<float> all;
  EXPECT_TRUE(
      (*session)
          ->FeedAll(tokens, [&](int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); })
          .ok());
  return all;
}

class Sparsity : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto engine = OpenBytes(bytes_, {}, log_);
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    const Result<NeuronProfile> profile = ProfileNeurons(**engine, Text(), Options(512));
    ASSERT_TRUE(profile.ok()) << profile.status().ToString();
    profile_ = std::make_unique<TemporaryFile>(profile->Serialize(), ".profile");
    tokens_ = (*engine)->tokenizer().Encode(Text(), EncodeOptions{});
    tokens_.resize(100);
    exact_ = Logits(**engine, tokens_, 512);
  }
  Result<std::unique_ptr<Engine>> Open(double sparsity, bool by_neuron = true) {
    EngineOptions options;
    options.sparsity = {.sparsity = sparsity, .profile = profile_->path()};
    options.sparse = by_neuron;
    return OpenBytes(bytes_, options, log_);
  }

  RecordingLogger log_;
  const std::string bytes_ = Bamboo(true);
  std::unique_ptr<TemporaryFile> profile_;
  std::vector<TokenId> tokens_;
  std::vector<float> exact_;
};

TEST_F(Sparsity, NoneIsTheModelItself) {
  const auto engine = Open(0);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_EQ((*engine)->resting(), nullptr);
  EXPECT_EQ(Logits(**engine, tokens_, 512), exact_);
}

TEST_F(Sparsity, BitsAreTheSameByNeuronAndDenselyAndInAnyRuns) {
  for (const double sparsity : {0.001, 0.3, 0.5, 0.9}) {
    const auto by_neuron = Open(sparsity), densely = Open(sparsity, false);
    ASSERT_TRUE(by_neuron.ok() && densely.ok()) << by_neuron.status().ToString();
    const std::vector<float> expected = Logits(**densely, tokens_, 1);
    EXPECT_EQ(expected == exact_, sparsity < 0.01) << sparsity;  // the smallest ones are quantised to zero anyway
    EXPECT_EQ(Logits(**densely, tokens_, 512), expected) << sparsity;
    for (const int32_t n_batch : {1, 2, 33, 512}) {
      EXPECT_EQ(Logits(**by_neuron, tokens_, n_batch), expected) << sparsity << " in runs of " << n_batch;
    }
    EXPECT_EQ((*by_neuron)->resting()->n_resting(), 4 * (*densely)->resting()->n_resting() / 2);
  }
}

TEST_F(Sparsity, AsManyRestAsWereWanted) {
  for (const double sparsity : {0.3, 0.5, 0.7}) {
    const auto engine = Open(sparsity);
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    (void)Logits(**engine, tokens_, 1);
    RestingNeurons& resting = *(*engine)->resting();
    EXPECT_EQ(resting.n_neurons(),
              static_cast<int64_t>(tokens_.size()) * (*engine)->shape().n_layers * (*engine)->shape().n_ff);
    EXPECT_NEAR(static_cast<double>(resting.n_resting()) / static_cast<double>(resting.n_neurons()), sparsity, 0.05);
  }
}

TEST_F(Sparsity, ProfilesThatAreMissingOrOfAnotherModelAreRefused) {
  EngineOptions options;
  options.sparsity = {.sparsity = 0.5, .profile = ""};
  EXPECT_THAT(OpenBytes(bytes_, options, log_).status().ToString(),
              HasSubstr("no file 'tiny.gguf.profile'. Make one: pantry profile tiny.gguf -f TEXT"));
  options.sparsity.profile = profile_->path();
  const std::string other = ReadFile(TestData("models/tiny-llama.gguf"));
  EXPECT_THAT(OpenBytes(other, options, log_).status().ToString(), HasSubstr("a profile of another model"));
  options.sparsity.sparsity = 1;
  EXPECT_EQ(OpenBytes(bytes_, options, log_).status().code(), StatusCode::kInvalidArgument);
  const TemporaryFile broken("PANTRYNP is not enough", ".profile");
  options.sparsity = {.sparsity = 0.5, .profile = broken.path()};
  EXPECT_EQ(OpenBytes(bytes_, options, log_).status().code(), StatusCode::kCorruption);
}

TEST_F(Sparsity, NetworksThatRestByThemselvesSaySo) {
  EngineOptions options;
  options.sparsity = {.sparsity = 0.5, .profile = profile_->path()};
  const std::string relu = Bamboo(false);
  const auto engine = OpenBytes(relu, options, log_);
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_EQ((*engine)->resting(), nullptr);
  ASSERT_FALSE(log_.lines.empty());
  EXPECT_THAT(log_.lines.back().second, HasSubstr("--sparsity: no effect here"));
}

}  // namespace
}  // namespace pantry
