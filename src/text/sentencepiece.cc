// SPDX-License-Identifier: Apache-2.0
#include "text/sentencepiece.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "text/unicode.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// Offsets inside a stretch are 32 bits wide, and merging takes some 50 bytes for each of its bytes.
constexpr size_t kMaxStretchBytes = size_t{1} << 22;

// The bytes of the character or the single broken byte that `text` begins with.
uint32_t SymbolBytes(std::string_view text) {
  const Utf8Character character = CutUtf8Character(text);
  return character.state == Utf8State::kValid ? character.n_bytes : 1;
}

bool HasInnerSpace(std::string_view piece) {
  size_t pos = 0;
  while (piece.substr(pos, kSpace.size()) == kSpace) pos += kSpace.size();
  return piece.find(kSpace, pos) != std::string_view::npos;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(Vocabulary vocabulary)
    : scores_(std::move(vocabulary.scores)),
      unknown_(vocabulary.unknown),
      merges_whitespace_(vocabulary.removes_extra_whitespace),
      special_tokens_(vocabulary) {
  byte_tokens_.fill(kNoToken);
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    const int32_t byte = ParseByteToken(vocabulary.texts[i]);
    if (byte >= 0) byte_tokens_[static_cast<size_t>(byte)] = static_cast<TokenId>(i);
  }
  adds_bos_ = vocabulary.adds_bos.value_or(vocabulary.model == "llama");
  adds_eos_ = vocabulary.adds_eos.value_or(vocabulary.model == "t5");
  strips_leading_space_ = vocabulary.adds_space_prefix.value_or(vocabulary.model == "llama");
  Adopt(std::move(vocabulary));
}

std::string SentencePieceTokenizer::Escape(std::string_view text, bool add_prefix) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2 + kSpace.size());
  if (!merges_whitespace_) {
    if (add_prefix) out += kSpace;
    for (const char c : text) {
      if (c == ' ') {
        out += kSpace;
      } else {
        out += c;
      }
    }
    return out;
  }
  bool in_word = false;
  for (const char c : text) {
    if (c == ' ') {
      in_word = false;
      continue;
    }
    if (!in_word && (add_prefix || !out.empty())) out += kSpace;
    in_word = true;
    out += c;
  }
  return out;
}

std::vector<TokenId> SentencePieceTokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> out;
  out.reserve(text.size() / 3 + 2);
  if (options.add_special && adds_bos_) out.push_back(bos_);
  const bool markers = options.parse_special || options.parse_user_defined;
  bool after_special = true;
  for (const SpecialTokens::Fragment& fragment : special_tokens_.Split(text, options)) {
    if (fragment.token != kNoToken) {
      out.push_back(fragment.token);
      after_special = true;
      continue;
    }
    const bool add_prefix = strips_leading_space_ && (after_special || prefixes_every_fragment_);
    after_special = false;
    const std::string escaped = Escape(fragment.text, add_prefix);
    for (std::string_view rest = escaped; !rest.empty();) {
      size_t n = std::min(rest.size(), kMaxStretchBytes);
      while (n < rest.size() && (static_cast<uint8_t>(rest[n]) & 0xC0) == 0x80 && n + 4 > kMaxStretchBytes) --n;
      EncodePieces(rest.substr(0, n), markers, out);
      rest.remove_prefix(n);
    }
  }
  if (options.add_special && adds_eos_) out.push_back(eos_);
  return out;
}

void SentencePieceTokenizer::AppendBytes(std::string_view bytes, std::vector<TokenId>& out) const {
  const bool have_all = std::all_of(bytes.begin(), bytes.end(),
                                    [&](char c) { return byte_tokens_[static_cast<uint8_t>(c)] != kNoToken; });
  if (!have_all) {
    if (unknown_ != kNoToken) out.push_back(unknown_);
    return;
  }
  for (const char c : bytes) out.push_back(byte_tokens_[static_cast<uint8_t>(c)]);
}

std::string SentencePieceTokenizer::TokenBytes(TokenId token, bool special) const {
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
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    if (text.compare(pos, kSpace.size(), kSpace) == 0) {
      out += ' ';
      pos += kSpace.size();
    } else {
      out += text[pos++];
    }
  }
  return out;
}

SentencePieceBpe::SentencePieceBpe(Vocabulary vocabulary) : SentencePieceTokenizer(std::move(vocabulary)) {
  words_are_independent_ = true;
  for (TokenId token = 0; token < n_vocab_; ++token) {
    if (!IsPiece(token)) continue;
    longest_piece_ = std::max(longest_piece_, token_texts_[token].size());
    words_are_independent_ = words_are_independent_ && !HasInnerSpace(token_texts_[token]);
  }
}

Result<std::unique_ptr<Tokenizer>> SentencePieceBpe::Create(Vocabulary vocabulary, Logger& log) {
  if (vocabulary.scores.empty()) {
    return CorruptionError("tokenizer.ggml.scores: missing; a '{}' tokenizer merges by score", vocabulary.model);
  }
  if (!vocabulary.pre.empty() && vocabulary.pre != "default") {
    log.Debug("tokenizer: '{}' tokenizers have no pre-tokenizer; '{}' is not used", vocabulary.model,
              Printable(vocabulary.pre, 100));
  }
  return std::unique_ptr<Tokenizer>(new SentencePieceBpe(std::move(vocabulary)));
}

void SentencePieceBpe::EncodePieces(std::string_view text, bool markers, std::vector<TokenId>& out) const {
  MergeBuffers buffers;
  if (!words_are_independent_) return EncodeWord(text, markers, buffers, out);
  // A word is a run of U+2581 and what follows it up to the next one.
  while (!text.empty()) {
    size_t end = 0;
    while (text.substr(end, kSpace.size()) == kSpace) end += kSpace.size();
    end = std::min(text.find(kSpace, end), text.size());
    EncodeWord(text.substr(0, end), markers, buffers, out);
    text.remove_prefix(end);
  }
}

void SentencePieceBpe::EncodeWord(std::string_view word, bool markers, MergeBuffers& buffers,
                                  std::vector<TokenId>& out) const {
  const auto find = [&](uint32_t begin, uint32_t end) {
    const TokenId token = end - begin <= longest_piece_ ? FindToken(word.substr(begin, end - begin)) : kNoToken;
    return token != kNoToken && IsPiece(token) && (markers || !IsMarker(token)) ? token : kNoToken;
  };
  buffers.symbols.clear();
  for (uint32_t pos = 0; pos < word.size();) {
    const uint32_t end = pos + SymbolBytes(word.substr(pos));
    buffers.AddSymbol(pos, end, find(pos, end));
    pos = end;
  }
  MergePairs(buffers, [&](const MergeSymbol& left, const MergeSymbol& right) -> MergeChoice {
    const TokenId token = find(left.begin, right.end);
    return token == kNoToken ? MergeChoice()
                             : MergeChoice{-static_cast<double>(scores_[static_cast<size_t>(token)]), token};
  });
  for (int32_t i = 0; i >= 0; i = buffers.symbols[static_cast<size_t>(i)].next) {
    const MergeSymbol& symbol = buffers.symbols[static_cast<size_t>(i)];
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    } else {
      AppendBytes(word.substr(symbol.begin, symbol.end - symbol.begin), out);
    }
  }
}

SentencePieceUnigram::SentencePieceUnigram(Vocabulary vocabulary) : SentencePieceTokenizer(std::move(vocabulary)) {
  constexpr double kUnknownPenalty = 10.0;  // SentencePiece's own
  prefixes_every_fragment_ = true;
  double lowest = std::numeric_limits<float>::max();
  for (TokenId token = 0; token < n_vocab_; ++token) {
    if (!IsPiece(token)) continue;
    trie_.Add(token_texts_[token], token);
    if (token_kinds_[token] == kTokenNormal) lowest = std::min<double>(lowest, scores_[static_cast<size_t>(token)]);
  }
  unknown_score_ = lowest - kUnknownPenalty;
}

Result<std::unique_ptr<Tokenizer>> SentencePieceUnigram::Create(Vocabulary vocabulary, const Metadata& metadata,
                                                                Logger& log) {
  if (vocabulary.scores.empty()) {
    return CorruptionError("tokenizer.ggml.scores: missing; a '{}' tokenizer chooses by score", vocabulary.model);
  }
  if (metadata.Has("tokenizer.ggml.precompiled_charsmap")) {
    log.Warning(
        "tokenizer: the normaliser table (precompiled_charsmap) is not applied; unusual characters may be encoded "
        "differently");
  }
  return std::unique_ptr<Tokenizer>(new SentencePieceUnigram(std::move(vocabulary)));
}

// Viterbi: the best score of every prefix, then the path back.
void SentencePieceUnigram::EncodePieces(std::string_view text, bool markers, std::vector<TokenId>& out) const {
  struct Best {
    double score = -std::numeric_limits<double>::infinity();
    uint32_t begin = 0;
    TokenId token = kNoToken;
  };
  std::vector<Best> best(text.size() + 1);
  best[0].score = 0;
  const auto offer = [&](size_t begin, size_t end, TokenId token, double score) {
    if (score > best[end].score) best[end] = {score, static_cast<uint32_t>(begin), token};
  };
  for (size_t pos = 0; pos < text.size();) {
    const uint32_t n_bytes = SymbolBytes(text.substr(pos));
    bool covered = false;
    int32_t node = TokenTrie::kRoot;
    for (size_t end = pos; end < text.size();) {
      node = trie_.Child(node, static_cast<uint8_t>(text[end++]));
      if (node == TokenTrie::kNoNode) break;
      const TokenId token = trie_.TokenAt(node);
      if (token == kNoToken || (!markers && IsMarker(token))) continue;
      covered = covered || end == pos + n_bytes;
      const double score =
          token_kinds_[token] == kTokenUserDefined ? 0.0 : static_cast<double>(scores_[static_cast<size_t>(token)]);
      offer(pos, end, token, best[pos].score + score);
    }
    if (!covered) offer(pos, pos + n_bytes, kNoToken, best[pos].score + unknown_score_);
    pos += n_bytes;
  }

  // Neighbouring characters that no piece covers are one unknown stretch.
  std::vector<std::pair<TokenId, std::string_view>> pieces;
  for (size_t end = text.size(); end > 0; end = best[end].begin) {
    const std::string_view piece = text.substr(best[end].begin, end - best[end].begin);
    if (best[end].token == kNoToken && !pieces.empty() && pieces.back().first == kNoToken) {
      pieces.back().second = text.substr(best[end].begin, piece.size() + pieces.back().second.size());
    } else {
      pieces.emplace_back(best[end].token, piece);
    }
  }
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
    if (piece->first != kNoToken) {
      out.push_back(piece->first);
    } else {
      AppendBytes(piece->second, out);
    }
  }
}

}  // namespace pantry
