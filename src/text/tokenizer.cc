// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "text/sentencepiece.h"
#include "text/tokenizer_bpe.h"
#include "text/tokenizer_special.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromMetadata(const Metadata& metadata, Logger& log) {
  PANTRY_ASSIGN_OR_RETURN(Vocabulary vocabulary, ReadVocabulary(metadata, log));
  for (const auto& [flag, name, id] :
       {std::tuple{&vocabulary.adds_bos, "bos", vocabulary.bos}, {&vocabulary.adds_eos, "eos", vocabulary.eos}}) {
    if (id != kNoToken) continue;
    if (flag->value_or(false))
      log.Warning("tokenizer: add_{}_token is set, but the file names no {} token; none is added", name, name);
    *flag = false;
  }
  if (vocabulary.model == "gpt2") {
    PANTRY_ASSIGN_OR_RETURN(const MetadataArray* merges, GetStringArray(metadata, "tokenizer.ggml.merges"));
    return BpeTokenizer::Create(std::move(vocabulary), *merges, log);
  }
  if (vocabulary.model == "llama") return SentencePieceBpe::Create(std::move(vocabulary), log);
  if (vocabulary.model == "t5") return SentencePieceUnigram::Create(std::move(vocabulary), metadata, log);
  return UnsupportedError(
      "tokenizer.ggml.model: '{}' is not supported; Pantry reads gpt2 (byte-level BPE), llama (SentencePiece) and t5 "
      "(unigram)",
      Printable(vocabulary.model, 100));
}

void Tokenizer::Adopt(Vocabulary vocabulary) {
  kind_ = std::move(vocabulary.model);
  bos_ = vocabulary.bos;
  eos_ = vocabulary.eos;
  n_vocab_ = static_cast<int32_t>(vocabulary.texts.size());
  end_of_generation_ = std::move(vocabulary.end_of_generation);
  token_texts_ = std::move(vocabulary.texts);
  token_kinds_ = std::move(vocabulary.kinds);
  text_index_ = std::move(vocabulary.index);
}

std::string Tokenizer::Decode(std::span<const TokenId> tokens, bool special) const {
  std::string out;
  bool at_start = strips_leading_space_;
  for (const TokenId token : tokens) {
    const std::string bytes = TokenBytes(token, special);
    if (bytes.empty()) continue;
    out.append(bytes, at_start && bytes.front() == ' ' ? 1 : 0, std::string::npos);
    at_start = false;
  }
  return out;
}

bool Tokenizer::IsEndOfGeneration(TokenId token) const {
  return std::binary_search(end_of_generation_.begin(), end_of_generation_.end(), token);
}

bool Tokenizer::IsControl(TokenId token) const {
  if (token < 0 || static_cast<size_t>(token) >= token_kinds_.size()) return false;
  return token_kinds_[static_cast<size_t>(token)] == kTokenControl ||
         token_kinds_[static_cast<size_t>(token)] == kTokenUnknown;
}

bool Tokenizer::IsMarker(TokenId token) const {
  if (token < 0 || static_cast<size_t>(token) >= token_kinds_.size()) return false;
  return token_kinds_[static_cast<size_t>(token)] == kTokenUserDefined && LooksLikeMarker(TokenText(token));
}

std::string_view Tokenizer::TokenText(TokenId token) const {
  if (token < 0 || static_cast<size_t>(token) >= token_texts_.size()) return {};
  return token_texts_[static_cast<size_t>(token)];
}

TokenId Tokenizer::FindToken(std::string_view text) const {
  if (text.empty()) return kNoToken;
  if (!text_index_.empty()) return text_index_.Find(token_texts_, text);
  const auto found = std::find(token_texts_.begin(), token_texts_.end(), text);
  return found == token_texts_.end() ? kNoToken : static_cast<TokenId>(found - token_texts_.begin());
}

}  // namespace pantry
