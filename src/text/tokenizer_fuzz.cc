// SPDX-License-Identifier: Apache-2.0
// Any text through small vocabularies of every kind, and any text through vocabularies that are spoilt at random.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/logger.h"
#include "text/tokenizer.h"
#include "text/tokenizer_testing.h"

namespace {

using namespace pantry;
using pantry::testing::TinyVocabulary;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void EncodeAndDecode(const Tokenizer& tokenizer, std::string_view text, bool reversible) {
  const std::vector<TokenId> ids = tokenizer.Encode(text, {.add_special = false, .parse_special = false});
  StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) {
    Require(id >= 0 && id < tokenizer.n_vocab());
    const std::string piece = decoder.Feed(id);
    Require(ValidUtf8Prefix(piece) == piece.size());
    streamed += piece;
  }
  streamed += decoder.Finish();
  const std::string decoded = tokenizer.Decode(ids, false);
  if (ValidUtf8Prefix(decoded) == decoded.size()) Require(streamed == decoded);
  if (reversible) Require(decoded == text);
  for (const TokenId id : tokenizer.Encode(text, {.add_special = true, .parse_special = true}))
    Require(id >= 0 && id < tokenizer.n_vocab());
}

// Takes the vocabulary apart as the first bytes say.
void Spoil(TinyVocabulary& vocabulary, std::string_view& data) {
  const auto next = [&data]() -> uint8_t {
    if (data.empty()) return 0;
    const uint8_t byte = static_cast<uint8_t>(data.front());
    data.remove_prefix(1);
    return byte;
  };
  const auto text = [&] {
    const std::string out(data.substr(0, next() % 12));
    data.remove_prefix(std::min(out.size(), data.size()));
    return out;
  };
  for (int n_changes = next() % 8; n_changes > 0; --n_changes) {
    const size_t at = (static_cast<size_t>(next()) << 8 | next()) % (vocabulary.tokens.size() + 1);
    switch (next() % 9) {
      case 0: vocabulary.Add(text(), next() % 8, next() - 128.0); break;
      case 1:
        if (at < vocabulary.tokens.size()) vocabulary.tokens[at] = text();
        break;
      case 2:
        if (at < vocabulary.kinds.size())
          vocabulary.kinds[at] =
              static_cast<int8_t>(next());  // NOLINT(bugprone-signed-char-misuse): GGUF token types are signed
        break;
      case 3: vocabulary.merges.push_back(text() + " " + text()); break;
      case 4: vocabulary.merges.push_back(text()); break;
      case 5: vocabulary.tokens.resize(at); break;
      case 6: vocabulary.ids.emplace_back(next() % 2 ? "eot_token_id" : "unknown_token_id", at); break;
      case 7:
        if (at < vocabulary.scores.size()) vocabulary.scores[at] = next() - 100.0;
        break;
      default:
        vocabulary.flags.emplace_back(next() % 2 ? "add_bos_token" : "remove_extra_whitespaces", next() % 2);
        break;
    }
  }
}

struct Fixed {
  std::unique_ptr<Tokenizer> tokenizer;
  bool reversible;  // any bytes come back
};

std::vector<Fixed> MakeFixed() {
  std::vector<Fixed> made;
  NullLogger log;
  const auto add = [&](const TinyVocabulary& vocabulary, bool reversible) {
    Result<std::unique_ptr<Tokenizer>> result = Tokenizer::FromMetadata(vocabulary.Build(), log);
    Require(result.ok());
    made.push_back({std::move(result).value(), reversible});
  };
  for (const char* pre : {"default", "gpt-2", "smollm", "falcon", "llama-bpe", "qwen2", "qwen35", "seed-coder",
                          "bailingmoe", "tekken", "gpt-4o", "kimi-k2", "deepseek-llm", "deepseek-coder", "deepseek-v3",
                          "bloom", "viking", "superbpe", "exaone-moe"}) {
    TinyVocabulary vocabulary = testing::TinyBytes();
    vocabulary.pre = pre;
    add(vocabulary, true);
  }
  for (const char* model : {"llama", "t5"}) {
    for (const bool with_bytes : {true, false}) add(testing::TinyPieces(model, with_bytes), false);
  }
  return made;
}

}  // namespace

// First byte: which fixed vocabulary, or 0xF0 and above: a spoilt one.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<Fixed> fixed = MakeFixed();
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] < 0xF0) {
    const Fixed& one = fixed[data[0] % fixed.size()];
    EncodeAndDecode(*one.tokenizer, rest, one.reversible);
    return 0;
  }
  TinyVocabulary vocabulary =
      data[0] < 0xF8 ? testing::TinyBytes() : testing::TinyPieces(data[0] < 0xFC ? "llama" : "t5", data[0] % 2 == 0);
  Spoil(vocabulary, rest);
  NullLogger log;
  const Result<std::unique_ptr<Tokenizer>> result = Tokenizer::FromMetadata(vocabulary.Build(), log);
  if (result.ok()) EncodeAndDecode(**result, rest, false);
  return 0;
}
