// SPDX-License-Identifier: Apache-2.0
// A TaskFile is a list of questions to a model with the answers that are right: JSON lines, read whole and checked item by item.
//
//   choice     {"id", "context", "choices": [...], "answer": index}, or "contexts", one a choice, in place of "context" (WinoGrande)
//   triviaqa   {"id", "prompt", "answer", "aliases": [...]}
//   gsm8k      {"id", "prompt", "answer", "solution"};  gsm8k_cot: the same items, asked after a file of worked examples
//   rolling    {"id", "text", "words", "bytes"}
//
// Which of them a file is follows from the fields of its first item; further fields are allowed and ignored, empty lines too.
// Threads: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace pantry {

// How items are asked and judged.
enum class TaskProtocol : uint8_t { kChoice, kTriviaQa, kGsm8k, kGsm8kCot, kRolling };
std::string_view TaskProtocolName(TaskProtocol protocol);  // "choice", "triviaqa", "gsm8k", "gsm8k_cot", "rolling"
Result<TaskProtocol> ParseTaskProtocol(std::string_view name);
inline bool IsGeneration(TaskProtocol protocol) {
  return protocol == TaskProtocol::kTriviaQa || protocol == TaskProtocol::kGsm8k || protocol == TaskProtocol::kGsm8kCot;
}

struct TaskItem {
  std::string id;
  int64_t line = 0;  // in the file, from 1

  // choice
  std::vector<std::string> contexts;  // one, or one a choice
  std::vector<std::string> choices;
  int32_t answer = 0;  // index

  std::string text;  // the prompt to go on from, or the text to predict

  // generation
  std::vector<std::string> answers;  // each of them is right

  // rolling: what the perplexity is counted by
  int64_t n_words = 0;
  int64_t n_bytes = 0;

  const std::string& context_of(size_t choice) const { return contexts[contexts.size() == 1 ? 0 : choice]; }
};

struct TaskFile {
  std::string name;  // of the file, without folder and ending
  std::string path;
  TaskProtocol protocol = TaskProtocol::kChoice;
  std::vector<TaskItem> items;
};

struct TaskFileOptions {
  std::optional<TaskProtocol> protocol;  // unset: what the fields say
  std::string prefix;                    // of gsm8k_cot; with one, that is what items of gsm8k are
  int64_t limit = -1;                    // items, from the beginning; -1: all
};

// kCorruption "PATH:LINE: what is wrong"; kInvalidArgument for options that cannot be followed.
Result<TaskFile> ParseTaskFile(std::string_view text, const std::string& path, const TaskFileOptions& options);

}  // namespace pantry
