// SPDX-License-Identifier: Apache-2.0
// What a model is to be asked for a task: token sequences, in an order in which neighbours share what they begin with.
//
// Made for a whole file before anything is computed, so that it is known how long a context is needed. A sequence is computed but for its
// last token, of which only the probability is wanted.
// Threads: values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/tasks/task_file.h"
#include "text/tokenizer.h"

namespace pantry {

struct TokenSequence {
  std::vector<TokenId> tokens;
  size_t n_context = 0;  // tokens[n_context..] are scored; at least 1, so that each has a token before it
};

struct TaskRequest {
  size_t item = 0;                       // index in TaskFile::items
  std::string impossible;                // why it cannot be asked; "": it can
  std::vector<TokenSequence> sequences;  // choice: one each; else one
  int64_t n_positions = 0;               // of a context in which it can be computed whole
};

struct TaskRequests {
  std::vector<TaskRequest> requests;  // in the order in which they are to be run
  int64_t most_positions = 0;         // that any of them needs
};

// The most tokens of a generated answer: lm-evaluation-harness's default.
inline constexpr int64_t kMostAnswerTokens = 256;

// Choices: the context and the whole (context, a space, the choice) are encoded each by itself, and what the whole has beyond as many tokens
// as the context is scored. Spaces at the end of a context belong to what is scored. Where nothing comes before the first token, BOS does,
// or the end-of-text token.
TaskRequests MakeRequests(const Tokenizer& tokenizer, const TaskFile& file);

// Items that begin with the same long text, one after another; otherwise in the order of the file, so that what is measured of a part
// of the items is like the whole. The order of the requests' items, for MakeRequests() and tests.
void GroupByPrefix(std::vector<TaskRequest>& requests);

// How many tokens a and b begin with alike.
size_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b);

}  // namespace pantry
