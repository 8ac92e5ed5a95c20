// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <string_view>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace pantry {

std::string StreamDecoder::Feed(TokenId token) {
  std::string bytes = tokenizer_.TokenBytes(token, special_);
  if (bytes.empty()) return {};
  if (at_start_ && tokenizer_.strips_leading_space() && bytes.front() == ' ') bytes.erase(0, 1);
  at_start_ = false;
  pending_ += bytes;

  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t n_valid = ValidUtf8Prefix(rest);
    out += rest.substr(0, n_valid);
    rest.remove_prefix(n_valid);
    if (rest.empty()) break;
    const Utf8Character broken = CutUtf8Character(rest);
    if (broken.state == Utf8State::kIncomplete) break;
    out += kReplacementCharacter;
    rest.remove_prefix(broken.n_bytes);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return out;
}

std::string StreamDecoder::Finish() {
  const bool incomplete = !pending_.empty();
  pending_.clear();
  at_start_ = !continues_text_;
  return incomplete ? std::string(kReplacementCharacter) : std::string();
}

}  // namespace pantry
