// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_vocabulary.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cmath>
#include <functional>
#include <utility>

#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

// Far above any real vocabulary (Gemma: 256k tokens, 2 MB; longest token some hundred bytes), low enough that tables stay below 1 GiB.
constexpr size_t kMaxTokens = size_t{1} << 22;
constexpr size_t kMaxTokenBytes = size_t{1} << 16;
constexpr size_t kMaxVocabularyBytes = size_t{1} << 24;

constexpr size_t kMaxShownChars = 100;  // of the file's own strings in a message

// Tokens that end a turn or an answer in some model family. A vocabulary that has one means it.
constexpr std::array<std::string_view, 25> kEndTexts = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
};
// Fill-in-the-middle markers. They end an answer only where they separate files (llama.cpp counts those in).
constexpr std::array<std::string_view, 10> kFillSeparatorTexts = {
    "<fim-pad>",  "<fim_pad>", "<PAD>",      "[PAD]",       "<|fim_repo|>",
    "<fim-repo>", "<REPO>",    "<reponame>", "<|fim_pad|>", "<|file_sep|>",
};
constexpr std::array<std::string_view, 18> kFillTexts = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>",  "<SUF>", "▁<SUF>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>",   "<MID>", "▁<MID>",
};

template <size_t n>
bool Contains(const std::array<std::string_view, n>& texts, std::string_view text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

bool LooksLikeMarker(std::string_view text) {
  if (text.size() < 3) return false;
  return (text.front() == '<' && text.back() == '>') || (text.front() == '[' && text.back() == ']');
}

Status ReadTexts(const Metadata& metadata, Logger& log, Vocabulary& vocabulary) {
  constexpr std::string_view kKey = "tokenizer.ggml.tokens";
  PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, GetStringArray(metadata, kKey));
  const std::vector<std::string>& texts = array->strings;
  if (texts.empty()) return CorruptionError("{}: no tokens; a vocabulary has at least one", kKey);
  if (texts.size() > kMaxTokens)
    return CorruptionError("{}: {} tokens; at most {} make sense", kKey, texts.size(), kMaxTokens);
  size_t n_bytes = 0;
  size_t n_empty = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() > kMaxTokenBytes) {
      return CorruptionError("{}: token {} has {} bytes; at most {} make sense", kKey, i, texts[i].size(),
                             kMaxTokenBytes);
    }
    n_bytes += texts[i].size();
    n_empty += texts[i].empty();
  }
  if (n_bytes > kMaxVocabularyBytes) {
    return CorruptionError("{}: {} bytes of text; at most {} make sense", kKey, n_bytes, kMaxVocabularyBytes);
  }
  if (n_empty > 0) log.Warning("tokenizer: {} of {} tokens are empty; they decode to nothing", n_empty, texts.size());
  vocabulary.texts = texts;
  PANTRY_ASSIGN_OR_RETURN(vocabulary.index, TokenTextIndex::Build(vocabulary.texts));
  return OkStatus();
}

Status ReadKinds(const Metadata& metadata, Logger& log, Vocabulary& vocabulary) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const size_t n_tokens = vocabulary.texts.size();
  vocabulary.kinds.assign(n_tokens, kTokenNormal);
  if (!metadata.Has(kKey)) {
    log.Warning("tokenizer: no {}; all tokens count as normal text, except well-known markers", kKey);
    return OkStatus();
  }
  PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, metadata.GetArray(kKey));
  if (array->integers.size() != n_tokens) {
    return CorruptionError("{}: expected {} integers, one a token; found {} of type {}", kKey, n_tokens, array->size(),
                           MetadataTypeName(array->element_type));
  }
  for (size_t i = 0; i < n_tokens; ++i) {
    const int64_t kind = array->integers[i];
    if (kind < kTokenUndefined || kind > kTokenByte) {
      return CorruptionError("{}: token {} has type {}; expected 0 to {}", kKey, i, kind, static_cast<int>(kTokenByte));
    }
    vocabulary.kinds[i] = static_cast<int8_t>(kind);
  }
  return OkStatus();
}

Status ReadScores(const Metadata& metadata, Vocabulary& vocabulary) {
  constexpr std::string_view kKey = "tokenizer.ggml.scores";
  if (!metadata.Has(kKey)) return OkStatus();
  PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, metadata.GetArray(kKey));
  const size_t n_tokens = vocabulary.texts.size();
  if (array->floats.size() != n_tokens && array->integers.size() != n_tokens) {
    return CorruptionError("{}: expected {} numbers, one a token; found {} of type {}", kKey, n_tokens, array->size(),
                           MetadataTypeName(array->element_type));
  }
  vocabulary.scores.resize(n_tokens);
  for (size_t i = 0; i < n_tokens; ++i) {
    const double score = array->floats.empty() ? static_cast<double>(array->integers[i]) : array->floats[i];
    if (!(std::fabs(score) <= 1e30))
      return CorruptionError("{}: token {} has the score {}; expected a finite number", kKey, i, score);
    vocabulary.scores[i] = static_cast<float>(score);
  }
  return OkStatus();
}

// The id under tokenizer.ggml.<name>; `fallback` where the key is absent and the id exists.
Result<TokenId> ReadId(const Metadata& metadata, std::string_view name, size_t n_tokens, TokenId fallback = kNoToken) {
  const std::string key = fmt::format("tokenizer.ggml.{}", name);
  if (!metadata.Has(key)) return fallback < static_cast<int64_t>(n_tokens) ? fallback : kNoToken;
  PANTRY_ASSIGN_OR_RETURN(const int64_t id, metadata.GetInt(key));
  if (id < 0 || id >= static_cast<int64_t>(n_tokens)) {
    return CorruptionError("{}: token {} does not exist; the vocabulary has {} tokens", key, id, n_tokens);
  }
  return static_cast<TokenId>(id);
}

void MakeControl(Vocabulary& vocabulary, TokenId token, Logger& log) {
  int8_t& kind = vocabulary.kinds[token];
  if (kind == kTokenControl) return;
  log.Warning("tokenizer: token {} '{}' has type {} but is a control marker; treated as control", token,
              Printable(vocabulary.texts[token], kMaxShownChars), kind);
  kind = kTokenControl;
}

// Ids of the metadata, and markers that the vocabulary shows by their text.
Status ReadSpecialTokens(const Metadata& metadata, Logger& log, Vocabulary& vocabulary) {
  const size_t n_tokens = vocabulary.texts.size();
  const bool scored = vocabulary.model != "gpt2";
  const bool llama = vocabulary.model == "llama";
  PANTRY_ASSIGN_OR_RETURN(vocabulary.bos, ReadId(metadata, "bos_token_id", n_tokens, llama ? 1 : kNoToken));
  PANTRY_ASSIGN_OR_RETURN(vocabulary.eos, ReadId(metadata, "eos_token_id", n_tokens,
                                                 llama    ? 2
                                                 : scored ? 1
                                                          : kNoToken));
  PANTRY_ASSIGN_OR_RETURN(vocabulary.unknown, ReadId(metadata, "unknown_token_id", n_tokens,
                                                     llama    ? 0
                                                     : scored ? 2
                                                              : kNoToken));

  // Files of models without an unknown token name some control token here; text must not turn into one.
  if (vocabulary.unknown != kNoToken && vocabulary.kinds[static_cast<size_t>(vocabulary.unknown)] != kTokenUnknown)
    vocabulary.unknown = kNoToken;

  std::vector<TokenId>& ends = vocabulary.end_of_generation;
  for (const std::string_view name :
       {"eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"}) {
    PANTRY_ASSIGN_OR_RETURN(const TokenId id, ReadId(metadata, name, n_tokens));
    if (id != kNoToken) ends.push_back(id);
  }
  if (vocabulary.eos != kNoToken) ends.push_back(vocabulary.eos);
  // A sentence mark of the metadata that is typed as text: markers only, since old files name plain commas here.
  for (const TokenId id : {vocabulary.bos, vocabulary.eos}) {
    if (id != kNoToken && vocabulary.kinds[id] != kTokenUnknown && LooksLikeMarker(vocabulary.texts[id]))
      MakeControl(vocabulary, id, log);
  }
  const auto find = [&vocabulary](std::string_view text) { return vocabulary.index.Find(vocabulary.texts, text); };
  const auto mark = [&](std::string_view text, bool ends_generation) {
    const TokenId id = find(text);
    if (id == kNoToken) return;
    if (text == "</s>" && vocabulary.kinds[id] != kTokenControl) return;  // an HTML tag in Gemma's vocabulary
    MakeControl(vocabulary, id, log);
    if (ends_generation) ends.push_back(id);
  };
  for (const std::string_view text : kEndTexts) mark(text, true);
  for (const std::string_view text : kFillSeparatorTexts) mark(text, true);
  for (const std::string_view text : kFillTexts) mark(text, false);

  // Harmony-style formats end messages with <|end|> and answers with others.
  const bool harmony = find("<|return|>") != kNoToken && find("<|call|>") != kNoToken;
  const bool solar = find("<|flush|>") != kNoToken && (find("<|call|>") != kNoToken || find("<|calls|>") != kNoToken);
  if (harmony || solar) std::erase(ends, find("<|end|>"));
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return OkStatus();
}

Status ReadFlags(const Metadata& metadata, Vocabulary& vocabulary) {
  const auto read = [&metadata](std::string_view key, std::optional<bool>& flag) -> Status {
    if (!metadata.Has(key)) return OkStatus();
    PANTRY_ASSIGN_OR_RETURN(flag, metadata.GetBool(key));
    return OkStatus();
  };
  PANTRY_RETURN_IF_ERROR(read("tokenizer.ggml.add_bos_token", vocabulary.adds_bos));
  PANTRY_RETURN_IF_ERROR(read("tokenizer.ggml.add_eos_token", vocabulary.adds_eos));
  PANTRY_RETURN_IF_ERROR(read("tokenizer.ggml.add_space_prefix", vocabulary.adds_space_prefix));
  PANTRY_ASSIGN_OR_RETURN(vocabulary.removes_extra_whitespace,
                          metadata.GetBoolOr("tokenizer.ggml.remove_extra_whitespaces", false));
  // Per-token strip flags are not in GGUF. Phi-3 needs them, and its name is all there is to know it by.
  PANTRY_ASSIGN_OR_RETURN(const std::string_view name, metadata.GetStringOr("general.name", ""));
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  vocabulary.skips_space_after_special =
      lower.find("phi-3") != std::string::npos || lower.find("phi3") != std::string::npos;
  return OkStatus();
}

uint64_t HashText(std::string_view text) {
  const uint64_t hash = std::hash<std::string_view>()(text);
  return hash ^ (hash >> 32);
}

}  // namespace

Result<TokenTextIndex> TokenTextIndex::Build(std::span<const std::string> texts) {
  TokenTextIndex index;
  index.slots_.resize(std::bit_ceil(std::max<size_t>(16, 2 * texts.size())));
  const size_t mask = index.slots_.size() - 1;
  for (size_t token = 0; token < texts.size(); ++token) {
    if (texts[token].empty()) continue;
    const uint64_t hash = HashText(texts[token]);
    size_t i = hash & mask;
    for (; index.slots_[i].token != kNoToken; i = (i + 1) & mask) {
      const Slot& slot = index.slots_[i];
      if (slot.hash == static_cast<uint32_t>(hash) && texts[slot.token] == texts[token]) {
        return CorruptionError("tokenizer.ggml.tokens: tokens {} and {} are both '{}'", slot.token, token,
                               Printable(texts[token], kMaxShownChars));
      }
    }
    index.slots_[i] = {static_cast<TokenId>(token), static_cast<uint32_t>(hash)};
  }
  return index;
}

TokenId TokenTextIndex::Find(std::span<const std::string> texts, std::string_view text) const {
  if (slots_.empty()) return kNoToken;
  const size_t mask = slots_.size() - 1;
  const uint64_t hash = HashText(text);
  for (size_t i = hash & mask; slots_[i].token != kNoToken; i = (i + 1) & mask) {
    if (slots_[i].hash == static_cast<uint32_t>(hash) && texts[slots_[i].token] == text) return slots_[i].token;
  }
  return kNoToken;
}

Result<const MetadataArray*> GetStringArray(const Metadata& metadata, std::string_view key) {
  if (!metadata.Has(key)) return CorruptionError("{}: missing; the file says that it has a tokenizer", key);
  PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, metadata.GetArray(key));
  if (array->size() > 0 && array->element_type != MetadataType::kString) {
    return CorruptionError("{}: expected an array of strings, found one of {}", key,
                           MetadataTypeName(array->element_type));
  }
  return array;
}

int32_t ParseByteToken(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const int32_t high = digit(text[3]);
  const int32_t low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Result<Vocabulary> ReadVocabulary(const Metadata& metadata, Logger& log) {
  constexpr std::string_view kModel = "tokenizer.ggml.model";
  if (!metadata.Has(kModel)) return NotFoundError("{}: missing; the file has no tokenizer", kModel);
  Vocabulary vocabulary;
  PANTRY_ASSIGN_OR_RETURN(vocabulary.model, metadata.GetString(kModel));
  if (vocabulary.model == "none" || vocabulary.model == "no_vocab") {
    return NotFoundError("{}: '{}'; the file has no tokenizer", kModel, vocabulary.model);
  }
  PANTRY_ASSIGN_OR_RETURN(vocabulary.pre, metadata.GetStringOr("tokenizer.ggml.pre", ""));
  PANTRY_RETURN_IF_ERROR(ReadTexts(metadata, log, vocabulary));
  PANTRY_RETURN_IF_ERROR(ReadKinds(metadata, log, vocabulary));
  PANTRY_RETURN_IF_ERROR(ReadScores(metadata, vocabulary));
  PANTRY_RETURN_IF_ERROR(ReadSpecialTokens(metadata, log, vocabulary));
  PANTRY_RETURN_IF_ERROR(ReadFlags(metadata, vocabulary));
  return vocabulary;
}

}  // namespace pantry
