// SPDX-License-Identifier: Apache-2.0
// What the tests of this folder share: tiny models with their goldens (scripts/make_tiny_models.py), and a KV cache to run them on.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/logger.h"
#include "models/model.h"
#include "support/test_paths.h"

namespace pantry::testing {

// Every tiny model with transformers' logits.
struct GoldenModel {
  const char* model;
  const char* golden;
  bool is_quantized = false;
};
inline constexpr GoldenModel kGoldenModels[] = {
    {"tiny-llama", "tiny-llama"},
    {"tiny-llama3", "tiny-llama3"},
    {"tiny-llama-linear", "tiny-llama-linear"},
    {"tiny-llama-yarn", "tiny-llama-yarn"},
    {"tiny-mistral", "tiny-mistral"},
    {"tiny-qwen2", "tiny-qwen2"},
    {"tiny-qwen2-yarn", "tiny-qwen2-yarn"},
    {"tiny-qwen3", "tiny-qwen3"},
    {"tiny-qwen3moe", "tiny-qwen3moe"},
    {"tiny-qwen3moe-quantized", "tiny-qwen3moe-quantized", true},
    {"tiny-olmoe", "tiny-olmoe"},
    {"tiny-mixtral", "tiny-mixtral"},
    {"tiny-smallthinker", "tiny-smallthinker"},
    {"tiny-smallthinker-sliding", "tiny-smallthinker-sliding"},
    {"tiny-qwen2moe", "tiny-qwen2moe"},
    {"tiny-deepseek2", "tiny-deepseek2"},
    {"tiny-deepseek2-yarn", "tiny-deepseek2-yarn"},
    {"tiny-gpt-oss", "tiny-gpt-oss"},
    {"tiny-phimoe", "tiny-phimoe"},
    {"tiny-phi3", "tiny-phi3"},
    {"tiny-phi3-longrope", "tiny-phi3-longrope"},
    {"tiny-phi3-longrope", "tiny-phi3-longrope-short"},
    {"tiny-gemma2", "tiny-gemma2"},
    {"tiny-gemma3", "tiny-gemma3"},
    {"tiny-llama-quantized", "tiny-llama-quantized", true},
    {"tiny-bamboo-quantized", "tiny-bamboo-quantized", true},
    {"tiny-turbosparse-quantized", "tiny-turbosparse-quantized", true},
};

struct Golden {
  std::vector<TokenId> tokens;
  std::vector<int32_t> rows;
  std::vector<float> logits;  // [rows, n_vocab]
  int32_t n_vocab = 0;
  int32_t kv_positions = 0;
};

inline Golden ReadGolden(const std::string& name) {
  const std::string bytes = ReadFile(TestData("models/" + name + ".golden"));
  int32_t header[4] = {};
  PANTRY_CHECK(bytes.size() >= sizeof header);
  std::memcpy(header, bytes.data(), sizeof header);
  Golden golden;
  golden.tokens.resize(static_cast<size_t>(header[0]));
  golden.rows.resize(static_cast<size_t>(header[1]));
  golden.n_vocab = header[2];
  golden.kv_positions = header[3];
  golden.logits.resize(golden.rows.size() * static_cast<size_t>(golden.n_vocab));
  const char* at = bytes.data() + sizeof header;
  PANTRY_CHECK(bytes.size() == sizeof header + 4 * (golden.tokens.size() + golden.rows.size() + golden.logits.size()));
  std::memcpy(golden.tokens.data(), at, 4 * golden.tokens.size());
  std::memcpy(golden.rows.data(), at + 4 * golden.tokens.size(), 4 * golden.rows.size());
  std::memcpy(golden.logits.data(), at + 4 * (golden.tokens.size() + golden.rows.size()), 4 * golden.logits.size());
  return golden;
}

inline Result<std::unique_ptr<Model>> LoadTiny(const std::string& name, Isa isa, ThreadPool& pool,
                                               bool by_neuron = true, bool has_predictors = false) {
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(TestData("models/" + name + ".gguf")));
  NullLogger log;
  return Model::Load(*file, isa, pool, log, {}, nullptr, by_neuron, false, has_predictors);
}

// Owns a KV cache.
class KvMemory {
 public:
  KvMemory(const ModelShape& shape, KvType type, int64_t n_positions) {
    const int64_t layer_bytes = shape.n_kv_heads * KvHeadBytes(type, shape.head_dim, n_positions);
    memory_.resize(static_cast<size_t>(2 * shape.n_layers * layer_bytes));
    for (int32_t layer = 0; layer < shape.n_layers; ++layer) {
      uint8_t* k = memory_.data() + 2 * layer * layer_bytes;
      views_.push_back({type, type, k, k + layer_bytes, n_positions, shape.n_kv_heads, shape.head_dim});
    }
  }
  std::span<const KvLayerView> views() const { return views_; }

 private:
  std::vector<uint8_t> memory_;
  std::vector<KvLayerView> views_;
};

// Logits of all rows of `tokens`, computed in runs of the given lengths.
inline std::vector<float> AllLogits(const Model& model, ThreadPool& pool, KvType type, int64_t kv_positions,
                                    const std::vector<TokenId>& tokens, const std::vector<size_t>& run_lengths,
                                    ExpertSource* experts = nullptr, PredictorRun* prediction = nullptr) {
  KvMemory kv(model.shape(), type, kv_positions);
  auto workspace = model.MakeWorkspace(static_cast<int64_t>(tokens.size()));
  EXPECT_TRUE(workspace.ok()) << workspace.status().ToString();
  std::vector<float> logits(tokens.size() * static_cast<size_t>(model.shape().n_vocab));
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  size_t done = 0;
  for (size_t length : run_lengths) {
    ForwardRun run;
    run.tokens = std::span(tokens).subspan(done, length);
    const RunPart part = {
        .n_rows = static_cast<int64_t>(length), .first_position = static_cast<int64_t>(done), .kv = kv.views()};
    run.parts = {&part, 1};
    run.experts = experts;
    run.prediction = prediction;
    run.logit_rows = std::span(rows).first(length);
    run.logits = std::span(logits).subspan(done * static_cast<size_t>(model.shape().n_vocab),
                                           length * static_cast<size_t>(model.shape().n_vocab));
    const Status status = model.Forward(run, pool, **workspace);
    EXPECT_TRUE(status.ok()) << status.ToString();
    done += length;
  }
  EXPECT_EQ(done, tokens.size());
  return logits;
}

}  // namespace pantry::testing
