// SPDX-License-Identifier: Apache-2.0
#include "cli/chat.h"

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <utility>

#include "cli/output.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

// The usual ChatML form, for models that were trained on it but do not bring a template.
constexpr std::string_view kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

Json Message(std::string_view role, std::string_view content) { return {{"role", role}, {"content", content}}; }

// Text from a terminal or a file may hold bytes that are not UTF-8; JSON cannot.
std::string Dump(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

bool NothingCame(const Result<GenerateResult>& result) {
  return !result.ok() || (result->stop_reason == StopReason::kCancelled && result->text.empty());
}

bool IsMessage(const Json& json) {
  return json.is_object() && json.contains("role") && json["role"].is_string() && json.contains("content") &&
         json["content"].is_string();
}

}  // namespace

void Chat::SetSystem(std::string_view text) { system_ = text; }
void Chat::Clear() { messages_.clear(); }

Result<GenerateResult> Chat::Say(std::string_view text, Answerer& answerer, const GenerateOptions& options) {
  messages_.push_back(Message("user", text));
  Result<GenerateResult> result = Complete(answerer, options);
  if (NothingCame(result)) messages_.erase(messages_.size() - 1);
  return result;
}

Result<GenerateResult> Chat::Regenerate(Answerer& answerer, const GenerateOptions& options) {
  if (messages_.empty()) return InvalidArgumentError("there is no answer yet to write again");
  Json last;
  if (messages_.back()["role"] == "assistant") {
    last = std::move(messages_.back());
    messages_.erase(messages_.size() - 1);
  }
  Result<GenerateResult> result = Complete(answerer, options);
  if (NothingCame(result) && !last.is_null()) messages_.push_back(std::move(last));
  return result;
}

Result<GenerateResult> Chat::Complete(Answerer& answerer, const GenerateOptions& options) {
  Json conversation = {{"messages", Json::array()}, {"tools", nullptr}, {"add_generation_prompt", true}};
  if (!system_.empty()) conversation["messages"].push_back(Message("system", system_));
  for (const Json& message : messages_) conversation["messages"].push_back(message);
  conversation.update(extra_);
  const Result<RenderedPrompt> rendered =
      template_.Render(Dump(conversation, -1), RenderOptionsOf(engine_.tokenizer()));
  if (!rendered.ok()) return AsTemplateProblem(rendered.status());
  GenerateOptions generate = options;
  generate.continues_text = false;
  Result<GenerateResult> result = answerer.Answer(EncodePrompt(engine_.tokenizer(), *rendered), generate);
  if (!NothingCame(result)) messages_.push_back(Message("assistant", result->text));
  return result;
}

Status Chat::Save(const std::string& path) const {
  Json out = {{"messages", Json::array()}};
  if (!system_.empty()) out["messages"].push_back(Message("system", system_));
  for (const Json& message : messages_) out["messages"].push_back(message);
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, error);  // opening the file tells if that failed
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return PosixError(fmt::format("cannot write '{}'", path), errno);
  const std::string text = Dump(out, 1) + "\n";
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int write_error = errno;
  const bool closed = std::fclose(file) == 0;
  return written && closed ? OkStatus()
                           : PosixError(fmt::format("cannot write '{}'", path), written ? errno : write_error);
}

Status Chat::Load(const std::string& path) {
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path));
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array()) {
    return CorruptionError("'{}' is not a conversation: expected a JSON object with messages", path);
  }
  Json messages = Json::array();
  std::string system;
  for (const Json& message : json["messages"]) {
    if (!IsMessage(message)) return CorruptionError("'{}': message {} lacks role or content", path, messages.size());
    if (message["role"] == "system" && messages.empty()) {
      system = message["content"];
    } else {
      messages.push_back(message);
    }
  }
  messages_ = std::move(messages);
  system_ = std::move(system);
  return OkStatus();
}

RenderOptions RenderOptionsOf(const Tokenizer& tokenizer) {
  RenderOptions render;
  if (tokenizer.bos() != kNoToken) render.variables["bos_token"] = tokenizer.TokenText(tokenizer.bos());
  if (tokenizer.eos() != kNoToken) render.variables["eos_token"] = tokenizer.TokenText(tokenizer.eos());
  render.now_unix_seconds = LocalTimeAsUtcSeconds();
  return render;
}

int64_t LocalTimeAsUtcSeconds() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return static_cast<int64_t>(timegm(&local));  // a template wants the date on the user's wall
}

Result<std::string> ReadTemplateFile(const std::string& path) {
  PANTRY_ASSIGN_OR_RETURN(std::string source, ReadWholeFile(path));
  if (source.empty()) return CorruptionError("'{}' is empty; give a file with a Jinja template", path);
  return source;
}

Status AsTemplateProblem(const Status& status) {
  const bool is_of_files = status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kOutOfBudget;
  return Status(is_of_files ? StatusCode::kCorruption : status.code(),
                fmt::format("chat template: {}", status.message()));
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplateOf(const Invocation& invocation) {
  const bool has_text = invocation.Given("--chat-template");
  const bool has_file = invocation.Given("--chat-template-file");
  if (has_text && has_file) {
    return InvalidArgumentError("--chat-template and --chat-template-file exclude each other");
  }
  if (!has_text && !has_file) return std::unique_ptr<ChatTemplate>();
  std::string source = invocation.options.chat_template;
  if (has_file) {
    PANTRY_ASSIGN_OR_RETURN(source, ReadTemplateFile(invocation.options.chat_template_file));
  } else if (source.empty()) {
    return InvalidArgumentError("--chat-template: expected Jinja text or 'chatml', found nothing");
  } else if (source == "chatml") {
    source = kChatMl;
  } else if (source.find('{') == std::string::npos) {
    return InvalidArgumentError("--chat-template: '{}' is neither Jinja nor a built-in template (chatml)", source);
  }
  Result<std::unique_ptr<ChatTemplate>> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return AsTemplateProblem(parsed.status());
  return parsed;
}

}  // namespace pantry
