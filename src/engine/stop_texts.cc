// SPDX-License-Identifier: Apache-2.0
#include "engine/stop_texts.h"

#include <algorithm>
#include <utility>

namespace pantry {
namespace {

// Length of the longest end of `text` that is a proper beginning of `stop`.
size_t OverlapLength(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.ends_with(stop.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

Status StopTexts::Validate(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (text.empty()) return InvalidArgumentError("stop text is empty: it would end every answer at once");
    const auto first = static_cast<unsigned char>(text[0]);
    if ((first & 0xC0) == 0x80) {
      return InvalidArgumentError("stop text begins with byte {:#x}, inside a UTF-8 character", first);
    }
  }
  return OkStatus();
}

std::string StopTexts::Feed(std::string_view text) {
  if (found_) return {};
  held_ += text;
  size_t end = std::string::npos;
  for (const std::string& stop : texts_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    found_ = true;
    held_.resize(end);
    return std::exchange(held_, {});
  }
  size_t n_held = 0;
  for (const std::string& stop : texts_) n_held = std::max(n_held, OverlapLength(held_, stop));
  std::string shown = held_.substr(0, held_.size() - n_held);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopTexts::Finish() { return std::exchange(held_, {}); }

}  // namespace pantry
