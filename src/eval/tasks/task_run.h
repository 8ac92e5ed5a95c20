// SPDX-License-Identifier: Apache-2.0
// Runs a task on an engine: log-likelihoods of choices and texts, and greedy answers.
//
// What an item shares with the one before, and its choices with each other, is computed once and kept in the session; since results do
// not depend on how tokens are split into runs, scores are the same bits as without. A choice of one token costs no run of its own: its
// score is read from the context's last logits.
// Under a policy of experts or neurons results depend on what is in memory, so each item begins with nothing in memory and an empty session:
// items do not depend on each other, but for the mean range of logits or the usual largest gate, which go on. Choices of one item do depend
// on those before them, and scores on when reads were done.
// Threads: as Session.
// Source: the rules are lm-evaluation-harness's (log-likelihood requests, rolling windows, greedy_until).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "eval/tasks/scoring.h"
#include "eval/tasks/task_requests.h"

namespace pantry {

struct TaskResult {
  std::vector<ItemScore> scores;  // of the items that were reached, in the order in which they were run
  int64_t n_items = 0;            // that were to be run
  int64_t n_skipped = 0;
  int64_t n_truncated = 0;  // answers that end where the context was full
  double seconds = 0;
  bool is_partial() const { return static_cast<int64_t>(scores.size()) < n_items; }
};

struct TaskCallbacks {
  // After each item, with what there is so far; false stops. Asked within long items too, with the same result as before.
  std::function<bool(const TaskResult& so_far)> keep_going;
};

// An item that does not fit in the session's context is skipped, and says so; a text of `rolling` is cut into windows of that length.
// OK with what was measured when it was stopped; kCorruption, naming the item and its line, where the model gives no probabilities (its
// logits are not finite, or a scored token is impossible); errors of Session otherwise.
Result<TaskResult> RunTask(Engine& engine, Session& session, const TaskFile& file, const TaskRequests& requests,
                           const TaskCallbacks& callbacks = {});

// The log-likelihood of each sequence's tokens from n_context on, given all before. Forgets no more of the session than it must.
// `keep_going` as in Session::Feed().
Result<std::vector<double>> ScoreSequences(Engine& engine, Session& session, std::span<const TokenSequence> sequences,
                                           const std::function<bool(int64_t, int64_t)>& keep_going = {});

}  // namespace pantry
