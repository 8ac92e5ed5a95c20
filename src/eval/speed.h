// SPDX-License-Identifier: Apache-2.0
// How fast an engine reads a prompt and writes an answer: tests, their repetitions, and what each of them takes from the machine.
//
// A test feeds n_prompt tokens after n_depth others, or generates n_gen after them, or does one after the other. The context is filled to
// the depth once, untimed; every repetition cuts the session back to it and does exactly the same work. Generation feeds one token after
// another and draws the next from the model's own probabilities (temperature 1 and the default filters, end-of-generation tokens banned, a
// fixed seed): drawing is part of the time. Random token ids, llama-bench's way, cost nothing to draw and are not text.
// Several sequences are generated together, a token of each at a time: answers to one prompt, which is computed once and copied. Either all are
// of one length, or one ends after another (best of N), so that fewer and fewer go on.
// The prompt is text too; see speed_text.h. Logits are computed at the end of a prompt, and every kTokensPerLogits tokens or batch within
// it, whichever is more: there it may be cancelled.
// Threads: as Session.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"

namespace pantry {

struct SpeedTest {
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t n_depth = 0;      // tokens in the context before the clock starts
  int32_t n_threads = 1;    // at least 1
  int32_t n_batch = 512;    // tokens of a prompt computed together
  int32_t n_sequences = 1;  // generated together
  bool ends = false;        // one after another, instead of all at n_gen
  int64_t n_positions() const { return n_depth + n_prompt + n_gen; }
  // Tokens that sequence i generates, ascending; the last one's are n_gen.
  int64_t LengthOf(int32_t i) const { return ends ? n_gen * (i + 1) / n_sequences : n_gen; }
  int64_t n_generated() const;  // of all sequences
  bool operator==(const SpeedTest&) const = default;
};

// "pp512", "tg128", "pp512+tg128", "tg128 x4", "tg16 best of 4", with " @ d8000" where the context is not empty.
std::string SpeedTestName(const SpeedTest& test);

// Lists of what to vary; 0 in n_prompt or n_gen means no such test.
struct SpeedLists {
  std::vector<int64_t> n_prompt;
  std::vector<int64_t> n_gen;
  std::vector<std::pair<int64_t, int64_t>> prompt_then_gen;
  std::vector<int64_t> n_depth = {0};
  std::vector<int64_t> n_threads = {1};
  std::vector<int64_t> n_batch = {512};
  std::vector<int64_t> n_sequences = {1};
  std::vector<int64_t> best_of;  // the same, for sequences that end one after another
};

// Every combination once, in an order that lets tests share a session and its filled context: by batch, then depth ascending, then threads.
// kInvalidArgument names the flag of a list whose value is out of range, or says that there is nothing to measure.
Result<std::vector<SpeedTest>> CombineTests(const SpeedLists& lists);

enum class SpeedTokens : uint8_t { kSampled, kRandom };

struct SpeedOptions {
  int32_t repetitions = 5;  // enough for a median and to see what varies
  bool warm_up = true;      // an untimed short run of each test: pages are touched, threads started, clocks raised
  SpeedTokens tokens = SpeedTokens::kSampled;
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
  uint64_t seed = 1;
  Status Validate() const;
};

// What one repetition takes from the machine, at least.
struct SpeedWork {
  int64_t n_bytes = 0;    // read: matrices once per forward pass, keys and values of the positions that are attended to
  int64_t int8_ops = 0;   // 2 x multiply-adds of matrices on 8-bit activations; attention is not counted
  int64_t float_ops = 0;  // the same on floating-point activations
};
SpeedWork WorkOf(const SpeedTest& test, const ModelShape& shape, const ModelCost& cost, double kv_bytes_per_position);

// What was wanted of a cache: in memory, or not (yet).
struct HitCount {
  int64_t n_hits = 0;
  int64_t n_misses = 0;
};

// A step of generation, a token of each sequence: how long it took, drawing included, and what it wanted.
struct TokenSample {
  int64_t us = 0;
  HitCount cache = {};    // blocks, or neurons of dense layers; 0 in a resident run
  HitCount neurons = {};  // of experts, where they are read alone
};

struct SpeedResult {
  SpeedTest test;                   // with the threads there really were
  std::vector<int64_t> sample_us;   // of each repetition; fewer than asked for when it was cancelled
  std::vector<TokenSample> tokens;  // [repetitions, n_gen]
  SpeedWork work;
  int64_t kv_bytes = 0;  // of the session
};

// The speeds of the repetitions, tokens of prompt and answer together.
struct SpeedFigures {
  std::vector<double> samples;  // tok/s, in order
  double median = 0;
  double min = 0;
  double max = 0;
  double mean = 0;
  double stddev = 0;          // of the samples (n - 1); 0 for one
  double median_seconds = 0;  // of a repetition
};
SpeedFigures FiguresOf(const SpeedResult& result);

// At most so much for 50, 90, 99 and all % of the steps: the nearest rank.
struct Percentiles {
  double p50 = 0, p90 = 0, p99 = 0, max = 0;
};
struct HitFigures {
  double hit_rate = -1;  // of all tokens together; -1: nothing was wanted, as in a resident run
  Percentiles misses;
  double p50 = 1, p10 = 1, p1 = 1;  // the share that hits of 50, 90 and 99 % of the steps is at least this
};
struct TokenFigures {
  Percentiles latency_ms;
  HitFigures cache, neurons;  // as in TokenSample
  double tok_per_s_each = 0;  // of a sequence, while it lives
};
// REQUIRES: tokens were generated.
TokenFigures TokenFiguresOf(const SpeedResult& result);

// How even the steps of generation are. A step's time is its median over the repetitions, which do the same work; beside it stands the mean
// of its neighbours', the steps before and after it.
struct StepFigures {
  std::vector<double> ms;        // [n_gen]
  double most_ratio = 1;         // of a step to its neighbours; of a single step 1
  double most_ratio_at_end = 0;  // of those that are the first without a sequence; 0: there are none
};
// REQUIRES: tokens were generated.
StepFigures StepFiguresOf(const SpeedResult& result);

struct SpeedProgress {
  enum class Stage : uint8_t { kFilling, kWarmUp, kRunning };
  const SpeedTest& test;
  int64_t test_index;
  int64_t n_tests;
  Stage stage;
  int64_t n_done;  // tokens of the filling, repetitions of the run
  int64_t n_total;
};

struct SpeedCallbacks {
  std::function<Status(const SpeedResult& result)> on_result;  // an error ends the measurement
  // Asked between tokens and batches; false cancels. What is repeated by then still reaches on_result.
  std::function<bool(const SpeedProgress& progress)> keep_going;
};

// Runs `tests` in order. Errors of Session, kCancelled, and those of the callback.
Status MeasureSpeed(Engine& engine, std::span<const SpeedTest> tests, const SpeedOptions& options,
                    const SpeedCallbacks& callbacks);

}  // namespace pantry
