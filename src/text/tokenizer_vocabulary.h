// SPDX-License-Identifier: Apache-2.0
// A Vocabulary is what the tokenizer.* keys of a GGUF say, checked: token texts and kinds, special ids, what ends an answer, flags.
//
// The file is hostile until proven otherwise: wrong types and lengths, ids out of range, duplicate or endless tokens are a Status that
// names the key. What is merely odd (a marker that is not typed as control, empty tokens) is mended and said once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/logger.h"
#include "base/status.h"
#include "base/strong_id.h"
#include "weights/gguf/metadata.h"

namespace pantry {

enum TokenKind : int8_t {
  kTokenUndefined = 0,
  kTokenNormal = 1,
  kTokenUnknown = 2,
  kTokenControl = 3,
  kTokenUserDefined = 4,
  kTokenUnused = 5,
  kTokenByte = 6,
};

// Finds ids by text: a hash table of ids over texts that somebody else owns.
class TokenTextIndex {
 public:
  // kCorruption when two tokens have the same text. Empty texts are left out.
  static Result<TokenTextIndex> Build(std::span<const std::string> texts);
  // REQUIRES: the texts it was built from. kNoToken where there is none.
  TokenId Find(std::span<const std::string> texts, std::string_view text) const;
  bool empty() const { return slots_.empty(); }

 private:
  struct Slot {
    TokenId token = kNoToken;
    uint32_t hash = 0;  // spares most string comparisons
  };
  std::vector<Slot> slots_;  // a power of two, at most half full
};

struct Vocabulary {
  std::string model;  // tokenizer.ggml.model
  std::string pre;    // tokenizer.ggml.pre, "" where absent
  std::vector<std::string> texts;
  std::vector<int8_t> kinds;  // [texts] TokenKind
  std::vector<float> scores;  // [texts], or empty
  TokenTextIndex index;
  TokenId bos = kNoToken;
  TokenId eos = kNoToken;
  TokenId unknown = kNoToken;              // stands for text that no other token covers
  std::vector<TokenId> end_of_generation;  // ascending
  std::optional<bool> adds_bos;            // as the file says, if it does
  std::optional<bool> adds_eos;
  std::optional<bool> adds_space_prefix;
  bool removes_extra_whitespace = false;
  bool skips_space_after_special = false;  // Phi-3
};

// kNotFound when there is no tokenizer at all; kCorruption names the key.
Result<Vocabulary> ReadVocabulary(const Metadata& metadata, Logger& log);

// A required array of strings under `key`.
Result<const MetadataArray*> GetStringArray(const Metadata& metadata, std::string_view key);

// The byte of a "<0x0A>" token; -1 for any other text.
int32_t ParseByteToken(std::string_view text);

}  // namespace pantry
