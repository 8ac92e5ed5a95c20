// SPDX-License-Identifier: Apache-2.0
// SpecialTokens cuts a text at the tokens that stand in it as themselves, before any merging.
//
// User-defined tokens are always found, unless the caller excludes those that look like markers; control tokens only where the caller
// says that the text may hold them. The leftmost match wins, the longest among those, as in the models' own tokenizers.
// Threads: immutable; const methods from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong_id.h"
#include "text/tokenizer.h"
#include "text/tokenizer_trie.h"
#include "text/tokenizer_vocabulary.h"

namespace pantry {

// "<tool_call>", "[INST]": what a template writes to structure a prompt, whatever type the file gives it.
bool LooksLikeMarker(std::string_view text);

class SpecialTokens {
 public:
  // A special token, or text between them (`token` is kNoToken then).
  struct Fragment {
    TokenId token = kNoToken;
    std::string_view text;
  };

  explicit SpecialTokens(const Vocabulary& vocabulary);
  std::vector<Fragment> Split(std::string_view text, const EncodeOptions& options) const;

 private:
  TokenTrie plain_;         // user-defined, without what looks like a marker
  TokenTrie user_defined_;  // all user-defined
  TokenTrie all_;
  bool skips_space_after_ = false;
  std::vector<bool> keeps_space_;  // [n_vocab] exceptions to that; empty otherwise
};

}  // namespace pantry
