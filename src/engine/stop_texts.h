// SPDX-License-Identifier: Apache-2.0
// StopTexts watches an answer for texts that end it, and holds back what may be the beginning of one.
//
// A stop text may be spread over many tokens; what Feed() has given out is never taken back, and what is held back is at most the longest
// stop text less one byte. With several stop texts the one that begins first ends the answer (the one listed first among equals).
// Threads: thread-compatible.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace pantry {

class StopTexts {
 public:
  // REQUIRES: Validate(texts) is OK.
  explicit StopTexts(std::vector<std::string> texts) : texts_(std::move(texts)) {}
  // kInvalidArgument for an empty text, and for one that begins inside a UTF-8 character.
  static Status Validate(const std::vector<std::string>& texts);

  // Takes more of the answer; returns what can be shown now. After a stop text was found: nothing.
  std::string Feed(std::string_view text);
  // The answer ended otherwise: what was held back.
  std::string Finish();
  bool found() const { return found_; }

 private:
  std::vector<std::string> texts_;
  std::string held_;  // not yet given out; the proper beginning of a stop text
  bool found_ = false;
};

}  // namespace pantry
