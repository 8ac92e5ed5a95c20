// SPDX-License-Identifier: Apache-2.0
// SentencePiece tokenizers: text is pieces with scores, a space is written U+2581, and what no piece covers falls apart into bytes.
//
// Two ways to choose the pieces, as the model was trained: merging neighbours by score ("llama": Llama 2, Mistral, Gemma, Phi-3), or the
// best-scored path over all pieces ("t5": unigram). A normaliser table (precompiled_charsmap) is not applied; a warning says so.
// Only normal and user-defined pieces stand for text: "<s>" or "<0x41>" typed by a user is spelled out.
// Threads: immutable; const methods from any thread.
// Source: Kudo and Richardson 2018; Kudo 2018 (unigram).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe.h"
#include "text/tokenizer.h"
#include "text/tokenizer_special.h"
#include "text/tokenizer_trie.h"

namespace pantry {

// What both share: the space prefix, special tokens, byte fallback, decoding.
class SentencePieceTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::string TokenBytes(TokenId token, bool special) const override;

 protected:
  explicit SentencePieceTokenizer(Vocabulary vocabulary);
  // Tokens of escaped text: no spaces in it but U+2581. `markers`: user-defined pieces that look like markers count.
  virtual void EncodePieces(std::string_view text, bool markers, std::vector<TokenId>& out) const = 0;
  bool IsPiece(TokenId token) const {
    return token_kinds_[token] == kTokenNormal || token_kinds_[token] == kTokenUserDefined;
  }
  // Byte tokens where the vocabulary has them, else the unknown token, else nothing.
  void AppendBytes(std::string_view bytes, std::vector<TokenId>& out) const;

  std::vector<float> scores_;  // [n_vocab]
  TokenId unknown_ = kNoToken;
  bool merges_whitespace_ = false;        // runs of spaces count as one, those at the ends as none
  bool prefixes_every_fragment_ = false;  // else only the first and those after a special token

 private:
  std::string Escape(std::string_view text, bool add_prefix) const;
  SpecialTokens special_tokens_;
  std::array<TokenId, 256> byte_tokens_{};
};

class SentencePieceBpe final : public SentencePieceTokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary, Logger& log);

 private:
  explicit SentencePieceBpe(Vocabulary vocabulary);
  void EncodePieces(std::string_view text, bool markers, std::vector<TokenId>& out) const override;
  void EncodeWord(std::string_view word, bool markers, MergeBuffers& buffers, std::vector<TokenId>& out) const;
  size_t longest_piece_ = 0;
  bool words_are_independent_ =
      false;  // no piece has a U+2581 behind anything else, so no merge crosses the beginning of a word
};

class SentencePieceUnigram final : public SentencePieceTokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Create(Vocabulary vocabulary, const Metadata& metadata, Logger& log);

 private:
  explicit SentencePieceUnigram(Vocabulary vocabulary);
  void EncodePieces(std::string_view text, bool markers, std::vector<TokenId>& out) const override;
  TokenTrie trie_;
  double unknown_score_ = 0;
};

}  // namespace pantry
