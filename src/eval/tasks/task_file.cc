// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/task_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace pantry {
namespace {

using Json = nlohmann::json;
using enum TaskProtocol;

constexpr std::array<std::pair<TaskProtocol, std::string_view>, 5> kNames = {
    {{kChoice, "choice"}, {kTriviaQa, "triviaqa"}, {kGsm8k, "gsm8k"}, {kGsm8kCot, "gsm8k_cot"}, {kRolling, "rolling"}}};

Result<std::string> TextField(const Json& json, std::string_view name) {
  const auto field = json.find(name);
  if (field == json.end()) return CorruptionError("\"{}\" is missing", name);
  if (!field->is_string()) return CorruptionError("\"{}\" is not a text", name);
  return field->get<std::string>();
}

Result<std::vector<std::string>> ListField(const Json& json, std::string_view name) {
  const auto field = json.find(name);
  if (field == json.end()) return CorruptionError("\"{}\" is missing", name);
  if (!field->is_array() || field->empty()) return CorruptionError("\"{}\" is not a list of texts", name);
  std::vector<std::string> texts;
  for (const Json& entry : *field) {
    if (!entry.is_string()) return CorruptionError("\"{}\" holds something that is not a text", name);
    texts.push_back(entry.get<std::string>());
  }
  return texts;
}

// What is there in place of what was expected. Lists and objects are only named: they may be nested deeper than the stack is, and writing
// one out is recursive.
std::string Found(const Json& json) {
  constexpr size_t kMost = 40;
  return json.is_structured() ? fmt::format("an {}", json.type_name()) : json.dump(-1, ' ', true).substr(0, kMost);
}

Result<int64_t> CountField(const Json& json, std::string_view name, int64_t least, int64_t most) {
  const auto field = json.find(name);
  if (field == json.end()) return CorruptionError("\"{}\" is missing", name);
  const bool is_in_range = field->is_number_integer() &&
                           (!field->is_number_unsigned() || field->get<uint64_t>() <= static_cast<uint64_t>(most)) &&
                           field->get<int64_t>() >= least;
  if (!is_in_range || field->get<int64_t>() > most) {
    return CorruptionError("\"{}\": expected a whole number from {} to {}, found {}", name, least, most, Found(*field));
  }
  return field->get<int64_t>();
}

Status ReadChoice(const Json& json, TaskItem& item) {
  PANTRY_ASSIGN_OR_RETURN(item.choices, ListField(json, "choices"));
  for (size_t i = 0; i < item.choices.size(); ++i) {
    if (item.choices[i].empty()) return CorruptionError("choice {} is empty", i);
  }
  const auto n_choices = static_cast<int64_t>(item.choices.size());
  PANTRY_ASSIGN_OR_RETURN(const int64_t answer, CountField(json, "answer", 0, n_choices - 1));
  item.answer = static_cast<int32_t>(answer);
  if (!json.contains("contexts")) {
    PANTRY_ASSIGN_OR_RETURN(std::string context, TextField(json, "context"));
    item.contexts.push_back(std::move(context));
    return OkStatus();
  }
  PANTRY_ASSIGN_OR_RETURN(item.contexts, ListField(json, "contexts"));
  if (item.contexts.size() == item.choices.size()) return OkStatus();
  return CorruptionError("{} contexts and {} choices: expected as many", item.contexts.size(), n_choices);
}

Status ReadTriviaQa(const Json& json, TaskItem& item) {
  PANTRY_ASSIGN_OR_RETURN(item.text, TextField(json, "prompt"));
  if (json.contains("aliases")) {
    PANTRY_ASSIGN_OR_RETURN(item.answers, ListField(json, "aliases"));
    return OkStatus();
  }
  PANTRY_ASSIGN_OR_RETURN(std::string answer, TextField(json, "answer"));
  item.answers.push_back(std::move(answer));
  return OkStatus();
}

Status ReadGsm8k(const Json& json, const std::string* prefix, TaskItem& item) {
  PANTRY_ASSIGN_OR_RETURN(item.text, TextField(json, "prompt"));
  PANTRY_ASSIGN_OR_RETURN(std::string answer, TextField(json, "answer"));
  item.answers.push_back(std::move(answer));
  if (prefix == nullptr) return OkStatus();
  constexpr std::string_view kBefore = "Question: ";
  constexpr std::string_view kAfter = "\nAnswer:";
  std::string_view question = item.text;
  if (question.size() < kBefore.size() + kAfter.size() || !question.starts_with(kBefore) ||
      !question.ends_with(kAfter)) {
    return CorruptionError("\"prompt\": gsm8k_cot expects 'Question: ...\\nAnswer:'");
  }
  question.remove_prefix(kBefore.size());
  question.remove_suffix(kAfter.size());
  item.text = fmt::format("{}Q: {}\nA:", *prefix, question);
  return OkStatus();
}

Status ReadRolling(const Json& json, TaskItem& item) {
  constexpr int64_t kMost = int64_t{1} << 40;
  PANTRY_ASSIGN_OR_RETURN(item.text, TextField(json, "text"));
  if (item.text.empty()) return CorruptionError("\"text\" is empty");
  PANTRY_ASSIGN_OR_RETURN(item.n_words, CountField(json, "words", 1, kMost));
  PANTRY_ASSIGN_OR_RETURN(item.n_bytes, CountField(json, "bytes", 1, kMost));
  return OkStatus();
}

Status ReadItem(const Json& json, TaskProtocol protocol, const TaskFileOptions& options, TaskItem& item) {
  PANTRY_ASSIGN_OR_RETURN(item.id, TextField(json, "id"));
  switch (protocol) {
    case kChoice: return ReadChoice(json, item);
    case kTriviaQa: return ReadTriviaQa(json, item);
    case kGsm8k: return ReadGsm8k(json, nullptr, item);
    case kGsm8kCot: return ReadGsm8k(json, &options.prefix, item);
    case kRolling: return ReadRolling(json, item);
  }
  return InternalError("unknown protocol");
}

Result<TaskProtocol> ProtocolOf(const Json& json, const TaskFileOptions& options) {
  if (options.protocol) return *options.protocol;
  if (json.contains("choices")) return kChoice;
  if (json.contains("text")) return kRolling;
  if (json.contains("prompt") && json.contains("aliases")) return kTriviaQa;
  if (json.contains("prompt") && json.contains("solution")) return options.prefix.empty() ? kGsm8k : kGsm8kCot;
  if (json.contains("prompt")) {
    return CorruptionError("a prompt without \"aliases\" or \"solution\": say how it is judged, e.g. --task triviaqa");
  }
  return CorruptionError("expected \"choices\", \"prompt\" or \"text\" among its fields");
}

std::string NameOf(std::string_view path) {
  if (const size_t slash = path.rfind('/'); slash != std::string_view::npos) path.remove_prefix(slash + 1);
  if (path.ends_with(".jsonl")) path.remove_suffix(6);
  return std::string(path);
}

}  // namespace

std::string_view TaskProtocolName(TaskProtocol protocol) { return kNames.at(static_cast<size_t>(protocol)).second; }

Result<TaskProtocol> ParseTaskProtocol(std::string_view name) {
  for (const auto& [protocol, known] : kNames) {
    if (name == known) return protocol;
  }
  return InvalidArgumentError("--task '{}': expected choice, triviaqa, gsm8k, gsm8k_cot or rolling", name);
}

Result<TaskFile> ParseTaskFile(std::string_view text, const std::string& path, const TaskFileOptions& options) {
  if (options.limit == 0 || options.limit < -1) {
    return InvalidArgumentError("--limit {}: expected -1 (all) or at least 1", options.limit);
  }
  if (options.protocol == kGsm8kCot && options.prefix.empty()) {
    return InvalidArgumentError("--task gsm8k_cot: give its examples with --prefix-file FILE");
  }
  TaskFile file;
  file.name = NameOf(path);
  file.path = path;
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t length = std::min(text.find('\n'), text.size());
    const std::string_view row = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (static_cast<int64_t>(file.items.size()) == options.limit) break;
    const std::string where = fmt::format("{}:{}", path, line);
    const Json json = Json::parse(row, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return CorruptionError("{}: expected a JSON object on one line", where);
    if (file.items.empty()) {
      Result<TaskProtocol> protocol = ProtocolOf(json, options);
      if (!protocol.ok()) return protocol.status().WithContext(where);
      file.protocol = *protocol;
    }
    TaskItem item;
    item.line = line;
    PANTRY_RETURN_IF_ERROR(ReadItem(json, file.protocol, options, item).WithContext(where));
    file.items.push_back(std::move(item));
  }
  if (file.items.empty()) return CorruptionError("{}: there are no items in it", path);
  return file;
}

}  // namespace pantry
