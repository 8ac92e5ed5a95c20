// SPDX-License-Identifier: Apache-2.0
// A tokenizer and a model for tests: words as tokens, and logits that follow a script or depend on the whole KV cache.
//
// The model writes each token into the KV cache and computes logits from what the cache holds, so a session that feeds the wrong
// positions, or keeps the wrong ones, gives different logits.
// Threads: as Tokenizer and Model.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace pantry::testing {

// Token i is words[i]; Encode() gives one token per byte that is a word. "<eos>", "<bos>" and "<ctl>" are control tokens, and a
// vocabulary with "<bos>" has it put before every text; one with "<strip>" strips the first space of what it decodes.
class WordTokenizer final : public Tokenizer {
 public:
  explicit WordTokenizer(std::vector<std::string> words) {
    kind_ = "words";
    n_vocab_ = static_cast<int32_t>(words.size());
    token_texts_ = std::move(words);
    token_kinds_.assign(token_texts_.size(), 1);
    for (TokenId token = 0; token < n_vocab_; ++token) {
      const std::string& word = token_texts_[static_cast<size_t>(token)];
      if (word == "<eos>" || word == "<bos>" || word == "<ctl>") token_kinds_[static_cast<size_t>(token)] = 3;
      if (word == "<bos>") bos_ = token;
      if (word == "<strip>") strips_leading_space_ = true;
      if (word == "<eos>") end_of_generation_.push_back(eos_ = token);
    }
    adds_bos_ = bos_ != kNoToken;
  }
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<TokenId> tokens;
    if (options.add_special && adds_bos_) tokens.push_back(bos_);
    for (const char byte : text) {
      for (TokenId token = 0; token < n_vocab_; ++token) {
        if (token_texts_[static_cast<size_t>(token)] == std::string(1, byte)) tokens.push_back(token);
      }
    }
    return tokens;
  }
  std::string TokenBytes(TokenId token, bool special) const override {
    if (token < 0 || token >= n_vocab_) return {};
    const bool is_control = token_kinds_[static_cast<size_t>(token)] == 3;
    return is_control && !special ? std::string() : token_texts_[static_cast<size_t>(token)];
  }
};

class ScriptModel final : public Model {
 public:
  // After position p the next token is script[p] where there is one, else a function of all tokens up to p.
  ScriptModel(int32_t n_vocab, int32_t n_ctx_train, std::map<int64_t, TokenId> script = {})
      : script_(std::move(script)) {
    shape_.architecture = "script";
    shape_.n_layers = 2;
    shape_.n_kv_heads = 1;
    shape_.head_dim = 32;
    shape_.n_vocab = n_vocab;
    shape_.n_ctx_train = n_ctx_train;
    weight_bytes_ = 1000;
  }

  class Scratch final : public Workspace {
   public:
    explicit Scratch(int64_t max_tokens) : max_tokens_(max_tokens) {}
    int64_t max_tokens() const override { return max_tokens_; }
    void Trim(int64_t) override {}

   private:
    int64_t max_tokens_;
  };
  Result<std::unique_ptr<Workspace>> MakeWorkspace(int64_t max_tokens) const override {
    return std::unique_ptr<Workspace>(std::make_unique<Scratch>(max_tokens));
  }
  int64_t WorkspaceBytes(int64_t max_tokens) const override { return max_tokens * 64; }

  Status Forward(const ForwardRun& run, ThreadPool&, Workspace& workspace) const override {
    const auto n = static_cast<int64_t>(run.tokens.size());
    PANTRY_CHECK(n > 0 && n <= workspace.max_tokens());
    PANTRY_CHECK(run.logits.size() == run.logit_rows.size() * static_cast<size_t>(shape_.n_vocab));
    run_sizes_.push_back(n);
    if (fail_at_run_ == static_cast<int64_t>(run_sizes_.size())) return InternalError("scripted failure");
    for (int64_t i = 0; i < n; ++i) {
      const auto [position, kv] = PlaceOf(run, i);
      for (const KvLayerView& layer : kv) {
        PANTRY_CHECK(position < layer.n_positions);
        std::copy_n(reinterpret_cast<const uint8_t*>(&run.tokens[static_cast<size_t>(i)]), sizeof(TokenId),
                    TokenAt(layer, position));
      }
    }
    for (size_t row = 0; row < run.logit_rows.size(); ++row) {
      const auto [position, kv] = PlaceOf(run, run.logit_rows[row]);
      const TokenId next = NextToken(kv.back(), position);
      for (int32_t v = 0; v < shape_.n_vocab; ++v) {
        run.logits[row * static_cast<size_t>(shape_.n_vocab) + static_cast<size_t>(v)] =
            v == next ? 10.0f : 0.01f * static_cast<float>(v);
      }
    }
    return OkStatus();
  }

  void FailAtRun(int64_t run) { fail_at_run_ = run; }  // 1 is the first
  const std::vector<int64_t>& run_sizes() const { return run_sizes_; }

 private:
  // A row's position, and its timeline's cache.
  static std::pair<int64_t, std::span<const KvLayerView>> PlaceOf(const ForwardRun& run, int64_t row) {
    for (const RunPart& part : run.parts) {
      if (row < part.first_row + part.n_rows) return {part.first_position + row - part.first_row, part.kv};
    }
    PANTRY_CHECK(false);
    return {};
  }
  // Where a position's token is kept: the bytes of one position in head 0's keys.
  static uint8_t* TokenAt(const KvLayerView& layer, int64_t position) {
    const int64_t lane = position % kKvPack;
    return layer.KPack(0, position - lane) + lane * KvRowBytes(layer.k_type, layer.head_dim);
  }
  TokenId NextToken(const KvLayerView& layer, int64_t position) const {
    if (const auto scripted = script_.find(position); scripted != script_.end()) return scripted->second;
    uint64_t hash = 1469598103934665603u;
    for (int64_t p = 0; p <= position; ++p) {
      TokenId token = 0;
      std::copy_n(TokenAt(layer, p), sizeof(TokenId), reinterpret_cast<uint8_t*>(&token));
      hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211u;
    }
    return static_cast<TokenId>((hash >> 20) % static_cast<uint64_t>(shape_.n_vocab));
  }

  std::map<int64_t, TokenId> script_;
  int64_t fail_at_run_ = 0;
  mutable std::vector<int64_t> run_sizes_;  // tokens of each Forward(), in order
};

// A clock that moves by one millisecond whenever it is asked.
class TickingClock final : public Clock {
 public:
  int64_t NowUs() const override { return now_us_ += 1000; }

 private:
  mutable int64_t now_us_ = 0;
};

struct ScriptedEngine {
  std::unique_ptr<Engine> engine;
  ScriptModel* model = nullptr;  // of the engine
};

inline ScriptedEngine MakeScriptedEngine(std::vector<std::string> words, std::map<int64_t, TokenId> script, Logger& log,
                                         int32_t n_ctx_train = 256, const Clock* clock = nullptr,
                                         int32_t n_model_vocab = 0) {
  auto model = std::make_unique<ScriptModel>(n_model_vocab > 0 ? n_model_vocab : static_cast<int32_t>(words.size()),
                                             n_ctx_train, std::move(script));
  ScriptedEngine scripted;
  scripted.model = model.get();
  EngineParts parts;
  parts.pool = std::make_unique<ThreadPool>(1);
  parts.tokenizer = std::make_unique<WordTokenizer>(std::move(words));
  parts.model = std::move(model);
  parts.clock = clock;
  scripted.engine = Engine::FromParts(std::move(parts), log);
  return scripted;
}

}  // namespace pantry::testing
