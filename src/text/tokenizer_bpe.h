// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE: text is cut into words, every byte of a word is a symbol, and ranked merges join symbols into tokens.
//
// Any bytes can be encoded and come back unchanged, as long as the vocabulary has the 256 byte symbols. Merges are looked up by pairs of
// symbol ids; strings that occur in merges only and are no tokens get ids above the vocabulary and fall apart into bytes at the end.
// Threads: immutable; const methods from any thread.
// Source: Radford et al. 2019 (GPT-2).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_special.h"

namespace pantry {

class BpeTokenizer final : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary, const MetadataArray& merges, Logger& log);

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::string TokenBytes(TokenId token, bool special) const override;

 private:
  BpeTokenizer(Vocabulary vocabulary, std::unique_ptr<PreTokenizer> pre_tokenizer);
  Status AddMerges(const std::vector<std::string>& merges);
  int32_t SymbolOf(std::string_view text);
  void EncodeText(std::string_view text, std::vector<TokenId>& out) const;
  void EncodeWord(std::string_view word, MergeBuffers& buffers, std::string& scratch, std::vector<TokenId>& out) const;
  void AppendSymbol(int32_t symbol, std::string_view bytes, std::vector<TokenId>& out) const;

  std::unique_ptr<PreTokenizer> pre_tokenizer_rules_;
  SpecialTokens special_tokens_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_symbols_{};
  std::unordered_map<std::string, int32_t>
      extra_symbols_;  // symbols that are no tokens, from n_vocab_ up; empty after loading
  TokenId unknown_ = kNoToken;
  size_t longest_token_ = 0;  // bytes of text
};

}  // namespace pantry
