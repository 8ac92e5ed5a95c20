// SPDX-License-Identifier: Apache-2.0
// A Repl is the chat on a terminal: lines go to the model, lines that begin with a slash are commands.
//
// Ctrl-C stops an answer; at an empty prompt the second one leaves. Ctrl-D leaves.
// Threads: the main thread only.
#pragma once

#include <string>
#include <string_view>

#include "cli/chat.h"
#include "cli/line_editor.h"
#include "cli/verbs.h"

namespace pantry {

class Repl {
 public:
  // All borrowed. `chat` null: the model has no template, and every line is continued as raw text.
  Repl(VerbContext& context, Engine& engine, Session& session, Answerer& answerer, Chat* chat);

  // Runs until the user leaves. `first_prompt`, unless empty, is sent at once.
  Status Run(const std::string& first_prompt);

 private:
  enum class Next : uint8_t { kGoOn, kLeave };
  LineEvent ReadMessage(std::string& message);
  LineEvent ReadQuoted(std::string& message);
  LineEvent ReadToBlankLine(std::string& message);
  Status Send(const std::string& text);
  // Shows what went wrong, and what to do when the context is full.
  void Report(const Result<GenerateResult>& result);
  std::string_view WhyNoChat() const;
  Status Regenerate();
  Next Command(const std::string& line);
  Status DoCommand(const std::string& name, const std::string& argument);
  Status Set(const std::string& argument);
  Status AttachFile(const std::string& path);
  void Show();
  void Stats();
  Result<std::string> ChatPath(const std::string& name) const;
  Result<GenerateOptions> NextOptions();

  VerbContext& context_;
  Engine& engine_;
  Session& session_;
  Answerer& answerer_;
  Chat* chat_;
  LineEditor editor_;
  CliOptions options_;       // as /set changed them
  uint64_t first_seed_ = 0;  // of the first answer; each further one adds 1
  int64_t n_asked_ = 0;
  std::string attachment_;  // goes before the next message
  bool multiline_ = false;
};

}  // namespace pantry
