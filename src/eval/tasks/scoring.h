// SPDX-License-Identifier: Apache-2.0
// From what was measured of each item to the figures of a task, with their errors. Pure arithmetic; task_run.h measures.
//
// acc: the choice with the largest log-likelihood is the right one. acc_norm: the same after dividing by the choice's length in characters
// (Unicode code points; lm-evaluation-harness's acc_norm, not its acc_bytes). Ties go to the first.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/tasks/task_file.h"

namespace pantry {

// What was measured of an item, and what it comes to.
struct ItemScore {
  size_t item = 0;                      // index in TaskFile::items
  std::string skipped;                  // why it was not measured; "": it was
  std::vector<double> log_likelihoods;  // choice: of each; rolling: of the whole text
  std::vector<int64_t> n_tokens;        // that each of them is of
  std::string text;                     // generation: the answer
  bool is_truncated = false;            // generation: it ends where the context was full
  std::vector<double> values;           // of ItemMetrics(), 0 to 1; none for rolling
};

// A figure with its standard error and an interval that covers the truth 19 times of 20.
struct Metric {
  std::string name;
  double value = 0;
  double standard_error = 0;
  double low = 0;
  double high = 0;
};

// The names of ItemScore::values.
std::span<const std::string_view> ItemMetrics(TaskProtocol protocol);
// The values of an item whose measurements are there. REQUIRES: not skipped.
std::vector<double> JudgeItem(TaskProtocol protocol, const TaskItem& item, const ItemScore& score);
// The figures of all items that were not skipped; none when there are none.
std::vector<Metric> TaskMetrics(const TaskFile& file, std::span<const ItemScore> scores);

// The first index of the largest. REQUIRES: not empty.
size_t BestIndex(std::span<const double> scores);
// Code points; a byte that is part of none counts as one.
int64_t CountCharacters(std::string_view text);

// The mean of 0s and 1s, or of figures between: standard error from their spread (n - 1). The interval of 0s and 1s is Wilson's, which
// holds for shares near 0 and 1, too. REQUIRES: not empty.
Metric MeanMetric(std::string name, std::span<const double> values);

}  // namespace pantry
