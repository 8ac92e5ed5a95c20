// SPDX-License-Identifier: Apache-2.0
// A LineEditor reads lines from the terminal with editing keys and a history kept between runs (libedit).
//
// Prompt and echo go to standard error: standard output carries answers only. Threads: the main thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace pantry {

enum class LineEvent : uint8_t { kLine, kEnd, kInterrupt };  // a line; Ctrl-D; Ctrl-C

class LineEditor {
 public:
  explicit LineEditor(const std::string& history_file);  // "": the history is not kept
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // Reads one line, without its newline.
  LineEvent Read(const std::string& prompt, std::string& line);
  void AddToHistory(const std::string& line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pantry
