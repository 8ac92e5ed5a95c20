// SPDX-License-Identifier: Apache-2.0
// A ChatTemplate renders a conversation into the prompt its model was trained on, by running the model's own Jinja template.
//
// The result remembers which parts came from the template and which from the conversation: Encode() reads control tokens in the former
// only, so text typed by a user (or returned by a tool) can never end a turn or start one. The "role" of a message counts as template text
// when it is one of the well-known words (system, user, assistant, tool, developer, model, function, ipython), because templates build
// control tokens from it: '<|' + message.role + '|>'. Any other role is input.
// Errors name template line and column. A refusal by the template itself (raise_exception) is kInvalidArgument with its message alone.
// Threads: immutable after Parse(); const methods from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/strong_id.h"
#include "text/tokenizer.h"

namespace pantry {

// A piece of a rendered prompt.
struct PromptPart {
  std::string text;
  bool is_input = false;  // typed by a user, a tool or the model; never read for control tokens
};

struct RenderedPrompt {
  std::vector<PromptPart> parts;  // neighbours differ in is_input
  std::string Text() const;
};

struct RenderOptions {
  std::map<std::string, std::string> variables;  // bos_token, eos_token, ...; template text, not input
  int64_t now_unix_seconds = 0;                  // what strftime_now() formats, in UTC
};

class ChatTemplate {
 public:
  // kInvalidArgument with "line L, column C" for what does not parse; kUnsupported for Jinja outside the subset.
  static Result<std::unique_ptr<ChatTemplate>> Parse(std::string_view source);
  ~ChatTemplate();

  // `conversation_json`: {"messages": [...], "tools": [...]|null, "add_generation_prompt": bool, and any further variables}.
  Result<RenderedPrompt> Render(std::string_view conversation_json, const RenderOptions& options) const;
  const std::string& source() const { return source_; }

 private:
  struct Program;
  ChatTemplate(std::string source, std::unique_ptr<Program> program);
  std::string source_;
  std::unique_ptr<Program> program_;
};

// Tokens of a rendered prompt. BOS is added where the model adds one and the template did not write it itself.
std::vector<TokenId> EncodePrompt(const Tokenizer& tokenizer, const RenderedPrompt& prompt);

}  // namespace pantry
