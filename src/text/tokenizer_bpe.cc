// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_bpe.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

// Offsets inside a word are 32 bits wide, and merge buffers take some 50 bytes for each of its bytes.
constexpr size_t kMaxWordBytes = size_t{1} << 22;

void AppendByteLevel(std::string_view bytes, std::string& out) {
  for (const char c : bytes) AppendUtf8(ByteLevelCodePoint(static_cast<uint8_t>(c)), out);
}

}  // namespace

BpeTokenizer::BpeTokenizer(Vocabulary vocabulary, std::unique_ptr<PreTokenizer> rules)
    : pre_tokenizer_rules_(std::move(rules)), special_tokens_(vocabulary), unknown_(vocabulary.unknown) {
  adds_bos_ = vocabulary.adds_bos.value_or(pre_tokenizer_rules_->adds_bos());
  adds_eos_ = vocabulary.adds_eos.value_or(false);
  pre_tokenizer_ = pre_tokenizer_rules_->name();
  Adopt(std::move(vocabulary));
  for (const std::string& text : token_texts_) longest_token_ = std::max(longest_token_, text.size());
}

Result<std::unique_ptr<Tokenizer>> BpeTokenizer::Create(Vocabulary vocabulary, const MetadataArray& merges,
                                                        Logger& log) {
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<PreTokenizer> rules, PreTokenizer::Create(vocabulary.pre, log));
  std::unique_ptr<BpeTokenizer> tokenizer(new BpeTokenizer(std::move(vocabulary), std::move(rules)));
  std::string character;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    character.clear();
    AppendUtf8(ByteLevelCodePoint(static_cast<uint8_t>(byte)), character);
    tokenizer->byte_symbols_[byte] = tokenizer->SymbolOf(character);
  }
  PANTRY_RETURN_IF_ERROR(tokenizer->AddMerges(merges.strings));
  const auto n_missing = std::count_if(tokenizer->byte_symbols_.begin(), tokenizer->byte_symbols_.end(),
                                       [&](int32_t symbol) { return symbol >= tokenizer->n_vocab_; });
  if (n_missing > 0) {
    // Common: trained vocabularies lack bytes that hardly ever occur in UTF-8.
    log.Debug("tokenizer: {} of the 256 byte tokens are missing; text that needs them {}", n_missing,
              tokenizer->unknown_ == kNoToken ? "is left out" : "becomes the unknown token");
  }
  tokenizer->extra_symbols_.clear();
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

// The id of the token `text`, or of a symbol of that text. Control tokens and markers are not made of text.
int32_t BpeTokenizer::SymbolOf(std::string_view text) {
  const TokenId token = FindToken(text);
  if (token != kNoToken && (token_kinds_[token] == kTokenNormal || token_kinds_[token] == kTokenUserDefined) &&
      !IsMarker(token))
    return token;
  const auto next = static_cast<int32_t>(static_cast<size_t>(n_vocab_) + extra_symbols_.size());
  return extra_symbols_.emplace(text, next).first->second;
}

Status BpeTokenizer::AddMerges(const std::vector<std::string>& merges) {
  constexpr std::string_view kKey = "tokenizer.ggml.merges";
  constexpr size_t kMaxMerges = size_t{1} << 23;
  constexpr size_t kMaxMergeBytes = size_t{1} << 16;
  if (merges.size() > kMaxMerges)
    return CorruptionError("{}: {} merges; at most {} make sense", kKey, merges.size(), kMaxMerges);
  merges_.Reserve(merges.size());
  std::string both;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size() || merge.size() > kMaxMergeBytes) {
      return CorruptionError("{}: merge {} is '{}'; expected two symbols with a space between them", kKey, rank,
                             Printable(merge, 100));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    both.assign(left).append(right);
    const int32_t left_symbol = SymbolOf(left);
    const int32_t right_symbol = SymbolOf(right);
    merges_.Add(left_symbol, right_symbol, static_cast<int32_t>(rank), SymbolOf(both));
  }
  return OkStatus();
}

void BpeTokenizer::AppendSymbol(int32_t symbol, std::string_view bytes, std::vector<TokenId>& out) const {
  if (symbol < n_vocab_) {
    out.push_back(symbol);
    return;
  }
  for (const char c : bytes) {
    const int32_t byte_symbol = byte_symbols_[static_cast<uint8_t>(c)];
    if (byte_symbol < n_vocab_) {
      out.push_back(byte_symbol);
    } else if (unknown_ != kNoToken) {
      out.push_back(unknown_);
    }
  }
}

void BpeTokenizer::EncodeWord(std::string_view word, MergeBuffers& buffers, std::string& scratch,
                              std::vector<TokenId>& out) const {
  if (pre_tokenizer_rules_->ignores_merges() && word.size() <= longest_token_) {
    scratch.clear();
    AppendByteLevel(word, scratch);
    const TokenId whole = FindToken(scratch);
    // A marker is no word: where it may stand in the text, it was cut out before.
    const bool is_text = whole != kNoToken && (token_kinds_[whole] == kTokenNormal ||
                                               (token_kinds_[whole] == kTokenUserDefined && !IsMarker(whole)));
    if (is_text) {
      out.push_back(whole);
      return;
    }
  }
  buffers.symbols.clear();
  for (uint32_t i = 0; i < word.size(); ++i) buffers.AddSymbol(i, i + 1, byte_symbols_[static_cast<uint8_t>(word[i])]);
  MergePairs(buffers,
             [this](const MergeSymbol& left, const MergeSymbol& right) { return merges_.Find(left.id, right.id); });
  for (int32_t i = 0; i >= 0; i = buffers.symbols[static_cast<size_t>(i)].next) {
    const MergeSymbol& symbol = buffers.symbols[static_cast<size_t>(i)];
    AppendSymbol(symbol.id, word.substr(symbol.begin, symbol.end - symbol.begin), out);
  }
}

void BpeTokenizer::EncodeText(std::string_view text, std::vector<TokenId>& out) const {
  std::vector<size_t> ends;
  pre_tokenizer_rules_->Split(text, ends);
  MergeBuffers buffers;
  std::string scratch;
  size_t begin = 0;
  for (const size_t end : ends) {
    while (begin < end) {
      const size_t n = std::min(end - begin, kMaxWordBytes);
      EncodeWord(text.substr(begin, n), buffers, scratch, out);
      begin += n;
    }
  }
}

std::vector<TokenId> BpeTokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> out;
  out.reserve(text.size() / 4 + 2);
  if (options.add_special && adds_bos_) out.push_back(bos_);
  for (const SpecialTokens::Fragment& fragment : special_tokens_.Split(text, options)) {
    if (fragment.token != kNoToken) {
      out.push_back(fragment.token);
    } else {
      EncodeText(fragment.text, out);
    }
  }
  if (options.add_special && adds_eos_) out.push_back(eos_);
  return out;
}

std::string BpeTokenizer::TokenBytes(TokenId token, bool special) const {
  if (token < 0 || token >= n_vocab_) return {};
  const std::string& text = token_texts_[token];
  switch (token_kinds_[token]) {
    case kTokenControl:
    case kTokenUnknown: return special ? text : std::string();
    case kTokenUserDefined: return text;
    case kTokenByte: {
      const int32_t byte = ParseByteToken(text);
      return byte < 0 ? std::string() : std::string(1, static_cast<char>(byte));
    }
    case kTokenNormal: break;
    default: return {};
  }
  std::string bytes;
  for (std::string_view rest = text; !rest.empty();) {
    const Utf8Character character = CutUtf8Character(rest);
    if (character.state != Utf8State::kValid) return text;
    const int32_t byte = ByteLevelByte(DecodeUtf8(rest.substr(0, character.n_bytes)));
    if (byte < 0) return text;  // plain text that the training tool added as a token
    bytes.push_back(static_cast<char>(byte));
    rest.remove_prefix(character.n_bytes);
  }
  return bytes;
}

}  // namespace pantry
