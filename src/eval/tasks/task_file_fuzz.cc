// SPDX-License-Identifier: Apache-2.0
// Whatever a task file holds, reading it ends with a message that names the file, or with items that can be asked and judged.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "eval/tasks/answer_match.h"
#include "eval/tasks/task_file.h"

namespace {

using namespace pantry;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void CheckItem(const TaskItem& item, TaskProtocol protocol) {
  if (protocol == TaskProtocol::kChoice) {
    const size_t n_choices = item.choices.size();
    Require(n_choices > 0 && item.answer >= 0 && static_cast<size_t>(item.answer) < n_choices);
    Require(item.contexts.size() == 1 || item.contexts.size() == n_choices);
    for (const std::string& choice : item.choices) Require(!choice.empty());
  } else if (protocol == TaskProtocol::kRolling) {
    Require(item.n_words > 0 && item.n_bytes > 0 && !item.text.empty());
  } else {  // the text is as good as any answer that a model gives
    Require(!item.answers.empty());
    for (const double value : JudgeAnswer(protocol, item.text, item.answers)) Require(value >= 0 && value <= 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const char* prefix : {"", "Q: 1+1\nA: 2\n\n"}) {
    TaskFileOptions options;
    options.prefix = prefix;
    const Result<TaskFile> file = ParseTaskFile(text, "fuzz.jsonl", options);
    if (!file.ok()) {
      Require(file.status().message().starts_with("fuzz.jsonl:"));
      continue;
    }
    for (const TaskItem& item : file->items) CheckItem(item, file->protocol);
  }
  return 0;
}
