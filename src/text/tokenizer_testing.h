// SPDX-License-Identifier: Apache-2.0
// Tokenizers for tests and fuzzers: metadata built by hand, files of vectors read.
#pragma once

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"
#include "text/unicode.h"
#include "weights/gguf/metadata.h"

namespace pantry::testing {

inline MetadataValue Value(std::string text) { return {MetadataType::kString, std::move(text)}; }
inline MetadataValue Value(bool flag) { return {MetadataType::kBool, flag}; }
inline MetadataValue Value(uint64_t number) { return {MetadataType::kU32, number}; }
inline MetadataValue Value(std::vector<std::string> strings) {
  auto array = std::make_unique<MetadataArray>();
  array->element_type = MetadataType::kString;
  array->strings = std::move(strings);
  return {MetadataType::kArray, std::move(array)};
}
inline MetadataValue Value(std::vector<int64_t> integers) {
  auto array = std::make_unique<MetadataArray>();
  array->element_type = MetadataType::kI32;
  array->integers = std::move(integers);
  return {MetadataType::kArray, std::move(array)};
}
inline MetadataValue Value(std::vector<double> floats) {
  auto array = std::make_unique<MetadataArray>();
  array->element_type = MetadataType::kF32;
  array->floats = std::move(floats);
  return {MetadataType::kArray, std::move(array)};
}

// The tokenizer.* keys of a small model; every field may be spoilt before Build().
struct TinyVocabulary {
  std::string model = "gpt2";
  std::string pre = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<int64_t> kinds;
  std::vector<double> scores;
  std::vector<std::string> merges;
  std::vector<std::pair<std::string, uint64_t>> ids;  // "bos_token_id", 5
  std::vector<std::pair<std::string, bool>> flags;

  TokenId Add(std::string text, int64_t kind = kTokenNormal, double score = 0) {
    tokens.push_back(std::move(text));
    kinds.push_back(kind);
    scores.push_back(score);
    return static_cast<TokenId>(tokens.size() - 1);
  }
  void AddMerge(const std::string& left, const std::string& right) {
    merges.push_back(left + " " + right);
    Add(left + right);
  }

  Metadata Build() const {
    Metadata metadata;
    metadata.Add("tokenizer.ggml.model", Value(model));
    if (!pre.empty()) metadata.Add("tokenizer.ggml.pre", Value(pre));
    metadata.Add("tokenizer.ggml.tokens", Value(tokens));
    metadata.Add("tokenizer.ggml.token_type", Value(kinds));
    if (model != "gpt2") metadata.Add("tokenizer.ggml.scores", Value(scores));
    if (model == "gpt2") metadata.Add("tokenizer.ggml.merges", Value(merges));
    for (const auto& [key, id] : ids) metadata.Add("tokenizer.ggml." + key, Value(id));
    for (const auto& [key, flag] : flags) metadata.Add("tokenizer.ggml." + key, Value(flag));
    return metadata;
  }
};

// 256 bytes, a few merges ("hello", " hello", "aa", "aaaa"), <s> </s> <|im_end|> as control and <tool> as user-defined tokens.
inline TinyVocabulary TinyBytes() {
  TinyVocabulary vocabulary;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    std::string text;
    AppendUtf8(ByteLevelCodePoint(static_cast<uint8_t>(byte)), text);
    vocabulary.Add(text);
  }
  for (const auto& [left, right] : {std::pair{"a", "a"},
                                    {"aa", "aa"},
                                    {"h", "e"},
                                    {"l", "l"},
                                    {"he", "ll"},
                                    {"hell", "o"},
                                    {"\u0120", "hello"},
                                    {"\u0120", "\u0120"},
                                    {"1", "2"},
                                    {"\u00c3", "\u00a9"}}) {
    vocabulary.AddMerge(left, right);
  }
  vocabulary.ids.emplace_back("bos_token_id", static_cast<uint64_t>(vocabulary.Add("<s>", kTokenControl)));
  vocabulary.ids.emplace_back("eos_token_id", static_cast<uint64_t>(vocabulary.Add("</s>", kTokenControl)));
  vocabulary.Add("<|im_end|>", kTokenControl);
  vocabulary.Add("<tool>", kTokenUserDefined);
  vocabulary.Add("<tool>s", kTokenUserDefined);
  return vocabulary;
}

// SentencePiece with or without byte tokens. `model`: "llama" or "t5".
inline TinyVocabulary TinyPieces(std::string model, bool with_bytes) {
  TinyVocabulary vocabulary;
  vocabulary.model = std::move(model);
  vocabulary.pre.clear();
  vocabulary.Add("<unk>", kTokenUnknown);
  vocabulary.Add("<s>", kTokenControl);
  vocabulary.Add("</s>", kTokenControl);
  for (uint32_t byte = 0; byte < 256 && with_bytes; ++byte) vocabulary.Add(fmt::format("<0x{:02X}>", byte), kTokenByte);
  double score = -1;
  for (const char* piece :
       {"\u2581", "\u2581\u2581", "\u2581h", "he", "\u2581he", "ll", "\u2581hell", "\u2581hello", "lo",
        "a",      "aa",           "aaaa",    "h",  "e",        "l",  "o",          "s",           "<",
        ">",      "<s",           "é",       "世"}) {
    vocabulary.Add(piece, kTokenNormal, score--);
  }
  vocabulary.Add("<tool>", kTokenUserDefined);
  vocabulary.ids = {{"bos_token_id", 1}, {"eos_token_id", 2}, {"unknown_token_id", 0}};
  vocabulary.flags = {{"add_space_prefix", true}};
  return vocabulary;
}

// The texts of a .inp file. A separator at the very end is followed by no text.
inline std::vector<std::string> SplitTexts(std::string_view file) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  while (true) {
    const size_t end = file.find(kSeparator);
    texts.emplace_back(file.substr(0, end));
    if (end == std::string_view::npos) break;
    file.remove_prefix(end + kSeparator.size());
    if (file.empty()) break;
  }
  return texts;
}

// The lines of a .out file, as numbers.
inline std::vector<std::vector<TokenId>> SplitIds(const std::string& file) {
  std::vector<std::vector<TokenId>> lines;
  std::istringstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    std::istringstream numbers(line);
    lines.emplace_back();
    for (TokenId id; numbers >> id;) lines.back().push_back(id);
  }
  return lines;
}

}  // namespace pantry::testing
