// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include <algorithm>
#include <utility>

#include "text/jinja/error.h"
#include "text/jinja/program.h"
#include "text/jinja/unicode.h"
#include "text/messages.h"

namespace pantry {

struct ChatTemplate::Program {
  std::unique_ptr<jinja::Program> jinja;
};

ChatTemplate::ChatTemplate(std::string source, std::unique_ptr<Program> program)
    : source_(std::move(source)), program_(std::move(program)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source) {
  auto program = std::make_unique<Program>();
  PANTRY_ASSIGN_OR_RETURN(program->jinja, jinja::Program::Parse(source));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::string(source), std::move(program)));
}

namespace {

Result<jinja::Value> ReadMessages(std::string_view json, jinja::Heap& heap) {
  PANTRY_ASSIGN_OR_RETURN(jinja::Value conversation, ReadConversation(json, heap));
  const jinja::Value* messages = Find(heap, conversation.dict(), "messages");
  if (messages == nullptr) return InvalidArgumentError("conversation: no \"messages\": an array of messages is wanted");
  if (!messages->is_list_or_tuple()) {
    return InvalidArgumentError("conversation: \"messages\": an array of messages is wanted, found {}",
                                TypeName(*messages));
  }
  return conversation;
}

}  // namespace

Result<RenderedPrompt> ChatTemplate::Render(std::string_view conversation_json, const RenderOptions& options) const {
  for (const auto& [name, value] : options.variables) {
    if (!jinja::IsValidUtf8(value)) return InvalidArgumentError("template variable {}: not valid UTF-8", name);
  }
  Status conversation_error;
  const auto bind = [&](jinja::Evaluator& evaluator) {
    jinja::Heap& heap = evaluator.heap();
    // As transformers does, whether the conversation has them or not.
    evaluator.SetVariable("tools", jinja::Value::None());
    evaluator.SetVariable("documents", jinja::Value::None());
    evaluator.SetVariable("add_generation_prompt", jinja::Value::Bool(false));
    for (const auto& [name, value] : options.variables) evaluator.SetVariable(name, heap.String(value));
    Result<jinja::Value> conversation = ReadMessages(conversation_json, heap);
    if (!conversation.ok()) {
      conversation_error = conversation.status();
      jinja::Fail("{}", conversation_error.message());
    }
    for (const auto& [key, value] : conversation->dict().entries)
      evaluator.SetVariable(std::string(key.bytes()), value);
  };
  Result<jinja::MarkedText> text = program_->jinja->Render(bind, options.now_unix_seconds);
  if (!conversation_error.ok()) return conversation_error;
  if (!text.ok()) return text.status();
  RenderedPrompt prompt;
  size_t begin = 0;
  for (const auto& run : text->runs()) {
    prompt.parts.push_back({std::string(text->bytes().substr(begin, run.end - begin)), run.is_input});
    begin = run.end;
  }
  return prompt;
}

std::string RenderedPrompt::Text() const {
  std::string text;
  for (const PromptPart& part : parts) text += part.text;
  return text;
}

}  // namespace pantry
