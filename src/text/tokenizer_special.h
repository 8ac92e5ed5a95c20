// SPDX-License-Identifier: Apache-2.0
// SpecialTokens cuts a text at the tokens that stand in it as themselves, before any merging.
//
// User-defined tokens are always found; control tokens only where the caller says that the text may hold them. The leftmost match wins,
// the longest among those, as in the models' own tokenizers.
// Threads: immutable; const methods from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong_id.h"
#include "text/tokenizer_trie.h"
#include "text/tokenizer_vocabulary.h"

namespace pantry {

class SpecialTokens {
 public:
  // A special token, or text between them (`token` is kNoToken then).
  struct Fragment {
    TokenId token = kNoToken;
    std::string_view text;
  };

  explicit SpecialTokens(const Vocabulary& vocabulary);
  std::vector<Fragment> Split(std::string_view text, bool parse_special) const;

 private:
  TokenTrie user_defined_;
  TokenTrie all_;
  bool skips_space_after_ = false;
  std::vector<bool> keeps_space_;  // [n_vocab] exceptions to that; empty otherwise
};

}  // namespace pantry
