// SPDX-License-Identifier: Apache-2.0
// `pantry template`: renders a conversation with a chat template and prints the prompt, byte for byte.
#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/chat.h"
#include "cli/model_path.h"
#include "cli/verbs.h"
#include "text/chat_template.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {
namespace {

// 'YYYY-MM-DD HH:MM:SS' as seconds; the template formats them in UTC, so it shows just this.
Result<int64_t> ParseTime(const std::string& text) {
  std::tm time = {};
  const char* end = strptime(text.c_str(), "%Y-%m-%d %H:%M:%S", &time);
  if (end == nullptr || *end != '\0')
    return InvalidArgumentError("--now: expected 'YYYY-MM-DD HH:MM:SS', found '{}'", text);
  return static_cast<int64_t>(timegm(&time));
}

Status AddVariables(const std::vector<std::string>& assignments, RenderOptions& render) {
  for (const std::string& assignment : assignments) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0)
      return InvalidArgumentError("--var: expected NAME=STRING, found '{}'", assignment);
    render.variables[assignment.substr(0, equals)] = assignment.substr(equals + 1);
  }
  return OkStatus();
}

// The template's source; its model's special tokens go to `render`.
Result<std::string> SourceOf(VerbContext& context, RenderOptions& render) {
  const CliOptions& options = context.options();
  const bool has_model_word = !context.invocation.words.empty();
  const ValueSource of_file = context.invocation.SourceOf("--template-file");
  if (of_file == ValueSource::kFlag || (of_file == ValueSource::kEnvironment && !has_model_word)) {
    if (context.invocation.SourceOf("--model") == ValueSource::kFlag) {
      return InvalidArgumentError("--model and --template-file exclude each other");
    }
    return ReadTemplateFile(options.template_file);
  }
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  const Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromMetadata(file->metadata(), context.console);
  if (tokenizer.ok()) render.variables = RenderOptionsOf(**tokenizer).variables;
  if (!file->metadata().Has("tokenizer.chat_template")) {
    return NotFoundError("'{}' has no chat template (key tokenizer.chat_template). Give one with --template-file",
                         path);
  }
  PANTRY_ASSIGN_OR_RETURN(const std::string_view source, file->metadata().GetString("tokenizer.chat_template"));
  return std::string(source);
}

// A bare list of messages is a conversation that awaits its answer.
std::string AsConversation(std::string text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || text[first] != '[') return text;
  return "{\"messages\": " + std::move(text) + ", \"add_generation_prompt\": true}";
}

// Whether `text` is a conversation; messages name `file` and the place.
Status CheckConversation(std::string_view text, std::string_view file) {
  using Json = nlohmann::json;
  try {
    bool has_messages = false;
    // Nothing is kept of it but which keys it has.
    const Json json = Json::parse(text, [&](int depth, Json::parse_event_t event, const Json& parsed) {
      const bool is_key = event == Json::parse_event_t::key && depth == 1;
      has_messages = has_messages || (is_key && parsed == "messages");
      return depth == 0 || is_key;
    });
    if (json.is_array()) return OkStatus();
    if (!json.is_object()) return CorruptionError("{}: expected a JSON object with \"messages\", or their list", file);
    return has_messages ? OkStatus() : CorruptionError("{}: no \"messages\"", file);
  } catch (const Json::parse_error& error) {
    const std::string_view before = text.substr(0, std::min(error.byte > 0 ? error.byte - 1 : 0, text.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
    const auto column = 1 + std::count_if(before.begin() + static_cast<ptrdiff_t>(line_start), before.end(),
                                          [](char c) { return (c & 0xC0) != 0x80; });
    if (before.size() == text.size()) return CorruptionError("{}: the JSON ends too early", file);
    return CorruptionError("{}: not valid JSON at line {}, column {}", file, line, column);
  } catch (const Json::exception&) {
    return CorruptionError("{}: a number in the JSON is too large", file);
  }
}

}  // namespace

Status TemplateVerb(VerbContext& context) {
  const CliOptions& options = context.options();
  RenderOptions render;
  PANTRY_ASSIGN_OR_RETURN(const std::string source, SourceOf(context, render));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  PANTRY_RETURN_IF_ERROR(AddVariables(options.var, render));
  render.now_unix_seconds = LocalTimeAsUtcSeconds();
  if (!options.now.empty()) {
    PANTRY_ASSIGN_OR_RETURN(render.now_unix_seconds, ParseTime(options.now));
  }
  if (options.messages.empty()) return InvalidArgumentError("no conversation given. Try: --messages FILE.json");
  PANTRY_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(options.messages));
  const std::string file = options.messages == "-" ? "standard input" : fmt::format("'{}'", options.messages);
  const Result<std::unique_ptr<ChatTemplate>> chat_template = ChatTemplate::Parse(source);
  if (!chat_template.ok()) return AsTemplateProblem(chat_template.status());
  PANTRY_RETURN_IF_ERROR(CheckConversation(text, file));
  const Result<RenderedPrompt> rendered = (*chat_template)->Render(AsConversation(std::move(text)), render);
  if (!rendered.ok() && rendered.status().message().starts_with("conversation: ")) {
    return CorruptionError("{}: {}", file, rendered.status().message());
  }
  if (!rendered.ok()) return AsTemplateProblem(rendered.status());
  return context.output.Write(rendered->Text());
}

}  // namespace pantry
