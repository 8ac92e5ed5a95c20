// SPDX-License-Identifier: Apache-2.0
// A Tokenizer turns text into the token ids of one model and back, exactly as the model's own tokenizer does.
//
// Built from the tokenizer.* keys of a GGUF: byte-level BPE ("gpt2") with the pre-tokenizer the file names, and SentencePiece-style BPE
// or unigram from scores ("llama", "t5"). Special tokens are found in text only when the caller says that the text may hold them:
// what a user typed never turns into a control token.
// Threads: immutable after FromMetadata(); const methods from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/logger.h"
#include "base/status.h"
#include "base/strong_id.h"
#include "text/tokenizer_vocabulary.h"
#include "weights/gguf/metadata.h"

namespace pantry {

struct EncodeOptions {
  bool add_special = true;     // BOS (and EOS) where the model adds them
  bool parse_special = false;  // read "<|im_end|>" and the like in the text as control tokens
  // False: user-defined tokens that look like markers ("<tool_call>", "[INST]") are text like any other, as in what a user typed into a
  // chat. Without effect when parse_special.
  bool parse_user_defined = true;
};

class Tokenizer {
 public:
  // kNotFound when there is no tokenizer; kCorruption; kUnsupported. An unknown pre-tokenizer is a warning and a stated fallback.
  static Result<std::unique_ptr<Tokenizer>> FromMetadata(const Metadata& metadata, Logger& log);
  virtual ~Tokenizer() = default;

  // Ids of `text`. Bytes that are not valid UTF-8 are encoded too (as bytes, or as U+FFFD where the vocabulary has no bytes). Never fails.
  virtual std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const = 0;
  // The bytes a token stands for; control tokens give their text when `special`, else nothing. Ids out of range give nothing.
  virtual std::string TokenBytes(TokenId token, bool special) const = 0;
  // All tokens together, with the model's rule for a leading space applied.
  std::string Decode(std::span<const TokenId> tokens, bool special) const;

  int32_t n_vocab() const { return n_vocab_; }
  TokenId bos() const { return bos_; }  // kNoToken where there is none
  TokenId eos() const { return eos_; }
  bool adds_bos() const { return adds_bos_; }
  bool adds_eos() const { return adds_eos_; }
  // Any token that ends an answer: eos, eot, and the well-known end-of-turn tokens of the vocabulary.
  bool IsEndOfGeneration(TokenId token) const;
  std::span<const TokenId> end_of_generation() const { return end_of_generation_; }  // ascending
  bool IsControl(TokenId token) const;                                               // control or unknown: not text
  bool IsMarker(TokenId token) const;  // user-defined, and "<...>" or "[...]": a control token in all but name
  std::string_view TokenText(TokenId token) const;                     // as in the vocabulary; "" when out of range
  TokenId FindToken(std::string_view text) const;                      // by vocabulary text; kNoToken
  const std::string& kind() const { return kind_; }                    // "gpt2", "llama", ...
  const std::string& pre_tokenizer() const { return pre_tokenizer_; }  // the one in use: "smollm", ...
  // True when decoding drops the space that encoding put before the first word (SentencePiece).
  bool strips_leading_space() const { return strips_leading_space_; }

 protected:
  // Takes over what all kinds of tokenizers share. Flags that the file leaves open are the kind's business, before or after.
  void Adopt(Vocabulary vocabulary);

  int32_t n_vocab_ = 0;
  TokenId bos_ = kNoToken;
  TokenId eos_ = kNoToken;
  bool adds_bos_ = false;
  bool adds_eos_ = false;
  bool strips_leading_space_ = false;
  std::vector<TokenId> end_of_generation_;
  std::string kind_;
  std::string pre_tokenizer_;
  std::vector<std::string> token_texts_;  // [n_vocab]
  std::vector<int8_t>
      token_kinds_;  // [n_vocab] GGUF token types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  TokenTextIndex text_index_;  // of token_texts_
};

// A StreamDecoder turns tokens into text as they come, and never emits half a UTF-8 character.
//
// Bytes are held back until they complete a character; bytes that can never be part of one come out as U+FFFD.
// Threads: thread-compatible.
class StreamDecoder {
 public:
  // `tokenizer` must outlive the decoder. `special`: show control tokens as text. `continues_text`: the tokens follow other text, so the
  // space before the first word stays; else it goes where the model's rule says so.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool special = false, bool continues_text = false)
      : tokenizer_(tokenizer), special_(special), continues_text_(continues_text), at_start_(!continues_text) {}
  std::string Feed(TokenId token);  // the text that is complete now, possibly none
  std::string Finish();             // what is left; an incomplete character becomes U+FFFD

 private:
  const Tokenizer& tokenizer_;
  bool special_;
  bool continues_text_;
  bool at_start_;
  std::string pending_;  // an incomplete character: at most 3 bytes
};

}  // namespace pantry
