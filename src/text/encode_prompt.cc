// SPDX-License-Identifier: Apache-2.0
// EncodePrompt: control tokens, and user-defined ones that look like them, are looked for in the template's own text only; all that stands between two of them is encoded as one
// string, so that merges across the border of template and input are the same as in the whole text.
#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat_template.h"

namespace pantry {
namespace {

// The control and marker tokens of a vocabulary by their first byte, longest first.
class ControlTokens {
 public:
  explicit ControlTokens(const Tokenizer& tokenizer) {
    for (TokenId token = 0; token < tokenizer.n_vocab(); ++token) {
      const std::string_view text = tokenizer.TokenText(token);
      if (!text.empty() && (tokenizer.IsControl(token) || tokenizer.IsMarker(token)))
        by_first_byte_[static_cast<unsigned char>(text[0])].emplace_back(text, token);
    }
    for (auto& tokens : by_first_byte_) {
      std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) {
        return std::pair(b.first.size(), a.second) < std::pair(a.first.size(), b.second);
      });
    }
  }

  // The longest token that `text` begins with; kNoToken when there is none.
  std::pair<std::string_view, TokenId> Match(std::string_view text) const {
    for (const auto& token : by_first_byte_[static_cast<unsigned char>(text[0])]) {
      if (text.starts_with(token.first)) return token;
    }
    return {{}, kNoToken};
  }

 private:
  std::array<std::vector<std::pair<std::string_view, TokenId>>, 256> by_first_byte_;
};

class PromptEncoder {
 public:
  explicit PromptEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer), control_tokens_(tokenizer) {}

  std::vector<TokenId> Run(const RenderedPrompt& prompt) {
    for (const PromptPart& part : prompt.parts) {
      if (part.is_input) {
        stretch_ += part.text;
      } else {
        AddTemplateText(part.text);
      }
    }
    FlushStretch();
    if (tokenizer_.adds_bos() && tokenizer_.bos() != kNoToken &&
        (tokens_.empty() || tokens_.front() != tokenizer_.bos())) {
      tokens_.insert(tokens_.begin(), tokenizer_.bos());
    }
    return std::move(tokens_);
  }

 private:
  void AddTemplateText(std::string_view text) {
    size_t plain = 0;
    for (size_t pos = 0; pos < text.size();) {
      const auto [token_text, token] = control_tokens_.Match(text.substr(pos));
      if (token == kNoToken) {
        ++pos;
        continue;
      }
      stretch_ += text.substr(plain, pos - plain);
      FlushStretch();
      tokens_.push_back(token);
      skips_space_ = SkipsSpaceAfter(token);
      plain = pos += token_text.size();
    }
    stretch_ += text.substr(plain);
  }

  // Some models' tokenizers drop white space behind control tokens; the tokenizer itself knows.
  bool SkipsSpaceAfter(TokenId token) {
    const auto [it, is_new] = skips_space_after_.try_emplace(token, false);
    if (is_new) {
      const std::vector<TokenId> probe = tokenizer_.Encode(std::string(tokenizer_.TokenText(token)) + "\n",
                                                           {.add_special = false, .parse_special = true});
      it->second = probe.size() == 1 && probe[0] == token;
    }
    return it->second;
  }

  void FlushStretch() {
    std::string_view text = stretch_;
    if (skips_space_) text.remove_prefix(std::min(text.find_first_not_of(" \t\n\v\f\r"), text.size()));
    if (!text.empty()) {
      const std::vector<TokenId> tokens =
          tokenizer_.Encode(text, {.add_special = false, .parse_special = false, .parse_user_defined = false});
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    }
    stretch_.clear();
    skips_space_ = false;
  }

  const Tokenizer& tokenizer_;
  ControlTokens control_tokens_;
  std::map<TokenId, bool> skips_space_after_;
  std::vector<TokenId> tokens_;
  std::string stretch_;  // since the last control token
  bool skips_space_ = false;
};

}  // namespace

std::vector<TokenId> EncodePrompt(const Tokenizer& tokenizer, const RenderedPrompt& prompt) {
  return PromptEncoder(tokenizer).Run(prompt);
}

}  // namespace pantry
