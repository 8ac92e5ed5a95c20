// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_special.h"

namespace pantry {

bool LooksLikeMarker(std::string_view text) {
  if (text.size() <= 2) return false;
  return (text.front() == '<' && text.back() == '>') || (text.front() == '[' && text.back() == ']');
}

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) : skips_space_after_(vocabulary.skips_space_after_special) {
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    const TokenId token = static_cast<TokenId>(i);
    const std::string& text = vocabulary.texts[i];
    const int8_t kind = vocabulary.kinds[i];
    if (kind == kTokenUserDefined) user_defined_.Add(text, token);
    if (kind == kTokenUserDefined && !LooksLikeMarker(text)) plain_.Add(text, token);
    if (kind == kTokenUserDefined || kind == kTokenControl || kind == kTokenUnknown) all_.Add(text, token);
  }
  if (!skips_space_after_) return;
  keeps_space_.resize(vocabulary.texts.size());
  for (const std::string_view text : {"<unk>", "<s>", "<|endoftext|>"}) {
    const TokenId token = vocabulary.index.Find(vocabulary.texts, text);
    if (token != kNoToken) keeps_space_[static_cast<size_t>(token)] = true;
  }
}

std::vector<SpecialTokens::Fragment> SpecialTokens::Split(std::string_view text, const EncodeOptions& options) const {
  std::vector<Fragment> fragments;
  const TokenTrie& trie = options.parse_special ? all_ : options.parse_user_defined ? user_defined_ : plain_;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size() && !trie.empty();) {
    const TokenTrie::Match match =
        trie.MayBeginWith(static_cast<uint8_t>(text[pos])) ? trie.Longest(text.substr(pos)) : TokenTrie::Match();
    if (match.token == kNoToken) {
      ++pos;
      continue;
    }
    if (pos > begin) fragments.push_back({kNoToken, text.substr(begin, pos - begin)});
    fragments.push_back({match.token, text.substr(pos, match.n_bytes)});
    pos += match.n_bytes;
    if (skips_space_after_ && !keeps_space_[static_cast<size_t>(match.token)]) {
      while (pos < text.size() && std::string_view(" \t\n\v\f\r").find(text[pos]) != std::string_view::npos) ++pos;
    }
    begin = pos;
  }
  if (begin < text.size()) fragments.push_back({kNoToken, text.substr(begin)});
  return fragments;
}

}  // namespace pantry
