// SPDX-License-Identifier: Apache-2.0
// A Chat is one conversation: messages, the template that renders them, and the answers that the model adds.
//
// Every turn renders the whole conversation; the session computes only what changed (prefix reuse). Text of a user stays text: see
// EncodePrompt(). A turn that fails leaves the conversation as it was.
// Threads: thread-compatible.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cli/answer.h"
#include "cli/args.h"
#include "cli/options.h"
#include "engine/engine.h"

namespace pantry {

class Chat {
 public:
  // All borrowed. `extra_variables`: a JSON object of template variables.
  Chat(const Engine& engine, const ChatTemplate& chat_template, nlohmann::ordered_json extra_variables)
      : engine_(engine), template_(chat_template), extra_(std::move(extra_variables)) {}

  void SetSystem(std::string_view text);  // "": none
  void Clear();                           // forgets everything but the system message
  // The model's answer to `text`. An interrupted answer stays in the conversation as far as it came; where nothing came, the turn is
  // forgotten.
  Result<GenerateResult> Say(std::string_view text, Answerer& answerer, const GenerateOptions& options);
  // Another answer to the last message. kInvalidArgument when there is none.
  Result<GenerateResult> Regenerate(Answerer& answerer, const GenerateOptions& options);

  Status Save(const std::string& path) const;
  Status Load(const std::string& path);
  size_t n_messages() const { return messages_.size(); }

 private:
  Result<GenerateResult> Complete(Answerer& answerer, const GenerateOptions& options);
  const Engine& engine_;
  const ChatTemplate& template_;
  nlohmann::ordered_json extra_;
  std::string system_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();  // without the system message
};

// Variables that every template may use: bos_token, eos_token; and the local time.
RenderOptions RenderOptionsOf(const Tokenizer& tokenizer);
int64_t LocalTimeAsUtcSeconds();

// --chat-template, --chat-template-file, or null: the model's own is to be used.
Result<std::unique_ptr<ChatTemplate>> ChatTemplateOf(const Invocation& invocation);
// The Jinja text in a file; kCorruption when it is empty.
Result<std::string> ReadTemplateFile(const std::string& path);

// A failed Parse() or Render(): a matter of the files (kCorruption), neither of the flags nor of memory.
Status AsTemplateProblem(const Status& status);

}  // namespace pantry
