// SPDX-License-Identifier: Apache-2.0
// Standard output: the answer and nothing else. And the reading of whole files, for prompts.
//
// A failed write is remembered and every later one fails alike; a reader that went away (a closed pipe) is told apart, since it
// has what it wanted and nobody need hear of it.
// Threads: thread-compatible.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace pantry {

class Output {
 public:
  Status Write(std::string_view text);  // unbuffered: an answer is seen as it comes
  Status EndLine();                     // a newline, unless nothing was written since the last one
  bool reader_gone() const { return reader_gone_; }
  bool is_terminal() const;

 private:
  Status status_;
  bool reader_gone_ = false;
  bool at_line_start_ = true;
};

// The whole of a file, or of standard input for "-". kNotFound, kIoError, kCancelled (Ctrl-C while waiting for input).
Result<std::string> ReadWholeFile(const std::string& path);
Result<std::string> ReadStandardInput();

}  // namespace pantry
