// SPDX-License-Identifier: Apache-2.0
// Engines on tiny models, resident or streamed, and what they compute.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "engine/engine.h"
#include "engine/scripted_engine.h"
#include "engine/weight_stream.h"
#include "io/faulty_queue.h"
#include "support/test_paths.h"

namespace pantry::testing {

inline std::string TinyModel(const std::string& name) { return TestData("models/" + name + ".gguf"); }

inline std::vector<std::string> TinyModels() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(TestData("models"))) {
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::unique_ptr<GgufFile> OpenGguf(const std::string& path) {
  auto file = GgufFile::Open(path);
  PANTRY_CHECK(file.ok());
  return std::move(file).value();
}

// What varies between two streamed runs.
struct StreamSetup {
  double cache_share = 1;  // of all blocks; the floor at least
  PolicyKind policy = PolicyKind::kLru;
  int64_t lendable_bytes = 0;  // more, while the session's memory is idle
  DiskAccess access = DiskAccess::kAuto;
  ExpertPolicyOptions expert_policy = {};
  double neuron_prior_strength = 0;
  int n_threads = 2;
  std::unique_ptr<BlockReader> reader = nullptr;
  std::unique_ptr<BlockReader> row_reader = nullptr;
  std::unique_ptr<BlockReader> neuron_reader = nullptr;  // of experts
  const Clock* clock = nullptr;                          // null: a SteadyClock
  int64_t matrix_block_bytes = 2 * kKiB;                 // small enough that matrices of tiny models are cut
};

// Streamed as `setup` says, or resident without. Null: this system has no such reader. `sparse`: only what fires is computed, where a
// resident model can.
inline std::unique_ptr<Engine> OpenTinyEngine(const std::string& path, StreamSetup* setup, Logger& log,
                                              bool sparse = true) {
  static const SteadyClock steady_clock;
  EngineParts parts;
  parts.pool = std::make_unique<ThreadPool>(setup != nullptr ? setup->n_threads : 1);
  parts.file = OpenGguf(path);
  const bool by_neuron = parts.file->pack() != nullptr && parts.file->pack()->has_neurons();
  auto placer = setup == nullptr ? nullptr
                : by_neuron      ? std::make_unique<WeightPlacer>(WeightPlacer::ByNeuron())
                                 : std::make_unique<WeightPlacer>(setup->matrix_block_bytes);
  auto model = Model::Load(*parts.file, BestIsa(), *parts.pool, log, {}, placer.get(), sparse);
  PANTRY_CHECK(model.ok());
  parts.model = std::move(model).value();
  if (setup != nullptr) {
    WeightStreamOptions options;
    const auto all = static_cast<double>(WeightStream::AllBlocksBytes(*placer));
    options.cache_bytes =
        std::max(WeightStream::LeastCacheBytes(*placer), static_cast<int64_t>(setup->cache_share * all));
    options.lendable_bytes = setup->lendable_bytes;
    options.policy = PolicyOptions{.kind = setup->policy};
    options.reader.access = setup->access;
    const Clock& clock = setup->clock != nullptr ? *setup->clock : steady_clock;
    auto stream = WeightStream::Open(*parts.file, std::move(placer), options, clock, log, std::move(setup->reader),
                                     std::move(setup->row_reader), std::move(setup->neuron_reader));
    if (!stream.ok()) return nullptr;
    parts.stream = std::move(stream).value();
    if (setup->expert_policy.policy.kind != ExpertPolicyKind::kExact) {
      auto router = ExpertRouter::Create(setup->expert_policy, parts.model->shape(), *parts.stream);
      PANTRY_CHECK(router.ok());
      parts.router = std::move(router).value();
    }
    if (setup->neuron_prior_strength > 0) {
      parts.neuron_prior = std::make_unique<NeuronPrior>(setup->neuron_prior_strength, parts.model->shape().n_layers);
    }
  }
  const auto n_vocab = static_cast<size_t>(parts.model->shape().n_vocab);
  parts.tokenizer = std::make_unique<WordTokenizer>(std::vector<std::string>(n_vocab, "word"));
  return Engine::FromParts(std::move(parts), log);
}

inline std::vector<TokenId> RandomTokens(const Engine& engine, size_t n_tokens) {
  Rng rng(5);
  std::vector<TokenId> tokens;
  for (size_t i = 0; i < n_tokens; ++i) {
    tokens.push_back(static_cast<TokenId>(rng.NextU64() % static_cast<uint64_t>(engine.shape().n_vocab)));
  }
  return tokens;
}

// Logits of n_tokens random tokens, computed in batches of n_batch.
inline Status AllLogits(Engine& engine, size_t n_tokens, int32_t n_batch, std::vector<float>& all) {
  SessionOptions options;
  options.n_ctx = 224;
  options.n_batch = n_batch;
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options));
  all.clear();
  return session->FeedAll(RandomTokens(engine, n_tokens), [&](int64_t, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
}

// A run of n_tokens random tokens, in batches of 40, that is stopped in the second streamed layer of its second batch, leaves its first batch
// done, and goes on to the last of the `expected` logits. REQUIRES: two layers or more are streamed.
inline void StopsBetweenTwoLayersAndGoesOnAfterwards(Engine& engine, int64_t n_ctx, size_t n_tokens,
                                                     const std::vector<float>& expected) {
  auto session = engine.NewSession({.n_ctx = n_ctx, .n_batch = 40});
  ASSERT_TRUE(session.ok());
  const std::vector<TokenId> tokens = RandomTokens(engine, n_tokens);
  const int64_t n_layers = engine.stream()->placer().n_layers();
  int64_t n_calls = 0;
  // The first batch passes all its layers and is done; the second stops in its second layer.
  const Status status = (*session)->Feed(tokens, [&](int64_t, int64_t) { return ++n_calls < n_layers + 1 + 2; });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ((*session)->tokens().size(), 40u);
  ASSERT_TRUE((*session)->Feed(std::span(tokens).subspan(40)).ok());
  const std::span<const float> logits = (*session)->logits();
  ASSERT_GE(expected.size(), logits.size());
  EXPECT_EQ(
      std::memcmp(logits.data(), expected.data() + expected.size() - logits.size(), logits.size() * sizeof(float)), 0);
}

// A reader of the file's own whose disk is as bad as `faults` say. More retries than this disk ever fails in a row, unless less are asked for.
inline std::unique_ptr<BlockReader> FaultyBlockReader(const GgufFile& file, const DiskFaults& faults,
                                                      int max_retries = 100) {
  static const SteadyClock clock;
  const std::vector<const Reader*> files = file.Readers();
  auto queue = OpenPreadQueue(files, 8);
  PANTRY_CHECK(queue.ok());
  BlockReaderOptions options;
  options.max_retries = max_retries;
  return std::make_unique<BlockReader>(files, std::make_unique<FaultyQueue>(std::move(queue).value(), faults), options,
                                       clock);
}

}  // namespace pantry::testing
