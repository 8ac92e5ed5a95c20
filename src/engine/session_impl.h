// SPDX-License-Identifier: Apache-2.0
// What a Session is made of, what the sessions of an engine share, and the runs that they feed to its model. For session*.cc only.
//
// Sessions of an engine run one at a time, so they work in one scratch; keys and values are each session's own. A run takes tokens of one
// session, or one token of each of several: then weights are read once for all, and each gets the bits that it would get alone.
// Threads: as Session.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "policy/planner/context_plan.h"

namespace pantry {

// Shared by the open sessions of an engine, gone with the last of them.
struct SessionScratch {
  std::unique_ptr<Workspace> workspace;   // for the longest run of any
  int64_t n_committed_rows = 0;           // that it holds memory for
  std::vector<int32_t> row_numbers = {};  // 0, 1, 2, ...: the rows of a run
  std::vector<RunPart> parts = {};        // of the run at hand
  std::vector<float> logits = {};         // [sessions, n_vocab], empty until FeedTogether()
  // Of all sessions; those that are closed count themselves out, on whatever thread that is.
  std::atomic<int64_t> kv_bytes = 0;            // address space
  std::atomic<int64_t> committed_kv_bytes = 0;  // of it, that keys and values were ever written to
};

struct Session::Impl {
  Impl(Engine& its_engine, std::shared_ptr<SessionScratch> shared, ContextPlan its_plan, KvCache cache);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Engine& engine;
  const std::shared_ptr<SessionScratch> scratch;
  const ContextPlan plan;
  KvCache kv;
  int64_t n_batch = 0;
  int64_t kv_bytes_per_position = 0;
  std::vector<TokenId> tokens = {};  // capacity n_ctx
  std::vector<float> logits = {};    // [n_vocab], of the last token
  bool has_logits = false;
  std::vector<float> all_logits = {};  // [n_all_rows, n_vocab], empty until FeedAll()
  int64_t n_committed_positions = 0;   // that keys and values were ever written to
  bool is_in_run = false;

  Status CheckFits(std::span<const TokenId> more) const;
  // Keys and values of so many positions are about to be written.
  void WillHold(int64_t n_positions);
  // What of the memory that was planned for sessions they do not use, with runs of `n_rows`, is the stream's meanwhile.
  void LendIdleMemory(int64_t n_rows);

  // A run that fits; each session once, all of one engine. Nothing changes when it fails, but that they have no logits.
  struct Run {
    std::span<Session* const> sessions;
    std::span<const TokenId> tokens;      // of the only session, or one of each
    std::span<const int32_t> logit_rows;  // as ForwardRun's
    std::span<float> logits;
    const std::function<bool()>* keep_going = nullptr;  // asked at each layer of a streamed run; null: nobody is
  };
  static Status Compute(const Run& run);
};

// Rows of FeedAll()'s runs.
int64_t AllLogitsRows(const ModelShape& shape, int64_t n_batch);

}  // namespace pantry
