// SPDX-License-Identifier: Apache-2.0
#include "eval/speed.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>

#include "base/rng.h"
#include "eval/speed_text.h"
#include "text/sampler.h"

namespace pantry {
namespace {

constexpr int64_t kTokensPerLogits = 64;  // rows of the output matrix add 1/64 of it to a prompt at most
constexpr int64_t kMaxPositions = int64_t{1} << 30;
constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxBatch = 65536;
constexpr int64_t kMaxSequences = 1024;
constexpr size_t kMaxTests = 10000;
constexpr int64_t kWarmUpTokens = 4;  // of a generation

// Tokens of a prompt that are fed in one call; logits come at the end of each.
int64_t FeedLength(int64_t n_batch) { return (kTokensPerLogits + n_batch - 1) / n_batch * n_batch; }

Status CheckList(std::string_view flag, std::span<const int64_t> values, int64_t least, int64_t most) {
  for (const int64_t value : values) {
    if (value < least || value > most) {
      return InvalidArgumentError("{} {}: expected {} to {}", flag, value, least, most);
    }
  }
  return OkStatus();
}

Status CheckLists(const SpeedLists& lists) {
  PANTRY_RETURN_IF_ERROR(CheckList("--n-prompt", lists.n_prompt, 0, kMaxPositions));
  PANTRY_RETURN_IF_ERROR(CheckList("--n-gen", lists.n_gen, 0, kMaxPositions));
  PANTRY_RETURN_IF_ERROR(CheckList("--n-depth", lists.n_depth, 0, kMaxPositions));
  PANTRY_RETURN_IF_ERROR(CheckList("--threads", lists.n_threads, 1, kMaxThreads));
  PANTRY_RETURN_IF_ERROR(CheckList("--batch-size", lists.n_batch, 1, kMaxBatch));
  PANTRY_RETURN_IF_ERROR(CheckList("--parallel", lists.n_sequences, 1, kMaxSequences));
  PANTRY_RETURN_IF_ERROR(CheckList("--best-of", lists.best_of, 2, kMaxSequences));
  for (const auto& [n_prompt, n_gen] : lists.prompt_then_gen) {
    PANTRY_RETURN_IF_ERROR(CheckList("-pg", std::vector<int64_t>{n_prompt, n_gen}, 1, kMaxPositions));
  }
  return OkStatus();
}

// The (n_prompt, n_gen) of the tests, as a user listed them.
std::vector<std::pair<int64_t, int64_t>> Pairs(const SpeedLists& lists) {
  std::vector<std::pair<int64_t, int64_t>> pairs;
  for (const int64_t n : lists.n_prompt) {
    if (n > 0) pairs.emplace_back(n, 0);
  }
  for (const int64_t n : lists.n_gen) {
    if (n > 0) pairs.emplace_back(0, n);
  }
  pairs.insert(pairs.end(), lists.prompt_then_gen.begin(), lists.prompt_then_gen.end());
  return pairs;
}

// The test for each number of sequences; a prompt alone is one.
std::vector<SpeedTest> WithSequences(SpeedTest test, const SpeedLists& lists) {
  if (test.n_gen == 0) return {test};
  std::vector<SpeedTest> tests;
  for (const bool ends : {false, true}) {
    for (const int64_t n : ends ? lists.best_of : lists.n_sequences) {
      test.n_sequences = static_cast<int32_t>(n);
      test.ends = ends;
      tests.push_back(test);
    }
  }
  return tests;
}

// Positions of the context that `layer` looks at when `n` tokens end at position `end`.
int64_t PositionsSeen(const ModelShape& shape, size_t layer, int64_t end, int64_t n) {
  const bool slides =
      shape.sliding_window > 0 && layer < shape.layer_is_sliding.size() && shape.layer_is_sliding[layer];
  return slides ? std::min(end, shape.sliding_window + n - 1) : end;
}

// Adds a forward pass of n tokens that end at position `end`, of each of `n_sequences`.
void AddPass(const ModelShape& shape, const ModelCost& cost, double kv_bytes_per_position, int64_t n, int64_t end,
             bool has_logits, SpeedWork& work, int64_t n_sequences = 1) {
  int64_t n_positions = 0;
  for (size_t layer = 0; layer < static_cast<size_t>(shape.n_layers); ++layer) {
    n_positions += n_sequences * PositionsSeen(shape, layer, end, n);
  }
  work.n_bytes += cost.layers.n_bytes + static_cast<int64_t>(static_cast<double>(n_positions) * kv_bytes_per_position /
                                                             std::max(shape.n_layers, 1));
  work.int8_ops += 2 * n_sequences * n * cost.layers.int8_macs;
  work.float_ops += 2 * n_sequences * n * cost.layers.float_macs;
  if (!has_logits) return;
  work.n_bytes += cost.output.n_bytes;
  work.int8_ops += 2 * n_sequences * cost.output.int8_macs;
  work.float_ops += 2 * n_sequences * cost.output.float_macs;
}

HitCount operator-(const HitCount& a, const HitCount& b) { return {a.n_hits - b.n_hits, a.n_misses - b.n_misses}; }

// The tests of one batch size: a session for each sequence, and the tokens that the first one's context begins with.
class SpeedRunner {
 public:
  SpeedRunner(Engine& engine, std::span<const SpeedTest> tests, const SpeedOptions& options,
              const SpeedCallbacks& callbacks)
      : engine_(engine), tests_(tests), options_(options), callbacks_(callbacks) {}

  // Runs tests [begin, end), all of one batch size.
  Status RunGroup(size_t begin, size_t end);

 private:
  Status Run(size_t index);
  Status FillTo(int64_t n_depth);
  Status Prepare(const SpeedTest& test);
  Status CopyToOthers(const SpeedTest& test, int64_t n_kept);
  Status Repeat(const SpeedTest& test);
  Status FeedPrompt(std::span<const TokenId> tokens, int64_t n_batch);
  Status Generate(const SpeedTest& test);
  TokenId NextToken(size_t sequence);
  Status Ask(SpeedProgress::Stage stage, int64_t n_done, int64_t n_total);
  Status Ask();  // as the last time
  TokenSample Wanted();

  Engine& engine_;
  std::span<const SpeedTest> tests_;
  const SpeedOptions& options_;
  const SpeedCallbacks& callbacks_;
  std::vector<std::unique_ptr<Session>> sessions_;
  Session* session_ = nullptr;  // the first
  std::vector<TokenId> text_;
  int64_t n_filled_ = 0;           // the session begins with so many tokens of text_
  std::vector<Sampler> samplers_;  // one for each sequence, unless tokens are random
  std::vector<Session*> alive_;    // of the step at hand
  std::vector<TokenId> next_;      // for each of them
  Rng rng_{0};
  std::vector<TokenSample> generated_;  // of the test at hand
  size_t index_ = 0;
  SpeedProgress::Stage stage_ = SpeedProgress::Stage::kFilling;
  int64_t n_done_ = 0;
  int64_t n_total_ = 0;
};

Status SpeedRunner::Ask() {
  if (!callbacks_.keep_going) return OkStatus();
  const SpeedProgress progress{
      tests_[index_], static_cast<int64_t>(index_), static_cast<int64_t>(tests_.size()), stage_, n_done_, n_total_};
  return callbacks_.keep_going(progress) ? OkStatus() : CancelledError("stopped in test {}", index_ + 1);
}

Status SpeedRunner::Ask(SpeedProgress::Stage stage, int64_t n_done, int64_t n_total) {
  stage_ = stage;
  n_done_ = n_done;
  n_total_ = n_total;
  return Ask();
}

TokenId SpeedRunner::NextToken(size_t sequence) {
  if (!samplers_.empty()) return samplers_[sequence].Sample(sessions_[sequence]->logits());
  return static_cast<TokenId>(rng_.NextU64() % static_cast<uint64_t>(engine_.shape().n_vocab));
}

Status SpeedRunner::FeedPrompt(std::span<const TokenId> tokens, int64_t n_batch) {
  const auto length = static_cast<size_t>(FeedLength(n_batch));
  for (; !tokens.empty(); tokens = tokens.subspan(std::min(tokens.size(), length))) {
    PANTRY_RETURN_IF_ERROR(Ask());
    PANTRY_RETURN_IF_ERROR(session_->Feed(tokens.first(std::min(tokens.size(), length))));
  }
  return OkStatus();
}

// So far.
TokenSample SpeedRunner::Wanted() {
  if (engine_.stream() == nullptr) return {};
  const WeightStreamStats stats = engine_.stream()->stats();
  const auto count = [](const CacheStats& of) { return HitCount{of.n_hits, of.n_demanded - of.n_hits}; };
  return {0, count(stats.cache), count(stats.neurons)};
}

// Sequences that end early come first, so that those that go on are the last ones of `alive_`.
Status SpeedRunner::Generate(const SpeedTest& test) {
  const auto n_sequences = static_cast<size_t>(test.n_sequences);
  alive_.clear();
  next_.clear();
  for (size_t i = 0; i < n_sequences && test.n_gen > 0; ++i) {
    alive_.push_back(sessions_[i].get());
    next_.push_back(test.n_prompt > 0 ? NextToken(i) : text_[session_->tokens().size() + i]);
  }
  TokenSample before = Wanted();
  size_t n_ended = 0;
  for (int64_t step = 0; step < test.n_gen; ++step) {
    PANTRY_RETURN_IF_ERROR(Ask());
    const int64_t begin_us = engine_.clock().NowUs();
    while (test.LengthOf(static_cast<int32_t>(n_ended)) <= step) ++n_ended;
    const std::span<TokenId> next = std::span(next_).subspan(n_ended);
    PANTRY_RETURN_IF_ERROR(n_sequences == 1
                               ? session_->Feed(next)
                               : Session::FeedTogether(std::span<Session* const>(alive_).subspan(n_ended), next));
    for (size_t i = n_ended; i < n_sequences; ++i) next_[i] = NextToken(i);
    const int64_t us = engine_.clock().NowUs() - begin_us;
    const TokenSample now = Wanted();
    generated_.push_back({us, now.cache - before.cache, now.neurons - before.neurons});
    before = now;
  }
  return OkStatus();
}

Status SpeedRunner::FillTo(int64_t n_depth) {
  session_->Truncate(std::min(n_filled_, n_depth));
  n_filled_ = std::min(n_filled_, n_depth);
  PANTRY_RETURN_IF_ERROR(Ask(SpeedProgress::Stage::kFilling, n_filled_, n_depth));
  const std::span<const TokenId> rest =
      std::span(text_).subspan(static_cast<size_t>(n_filled_), static_cast<size_t>(n_depth - n_filled_));
  const int64_t n_before = n_filled_;
  const Status fed = session_->Feed(rest, [&](int64_t n_done, int64_t) {
    return Ask(SpeedProgress::Stage::kFilling, n_before + n_done, n_depth).ok();
  });
  n_filled_ = static_cast<int64_t>(session_->tokens().size());
  return fed;
}

// They have the first n_kept tokens.
Status SpeedRunner::CopyToOthers(const SpeedTest& test, int64_t n_kept) {
  for (size_t i = 1; i < static_cast<size_t>(test.n_sequences); ++i) {
    PANTRY_RETURN_IF_ERROR(sessions_[i]->CopyFrom(*session_, n_kept));
  }
  return OkStatus();
}

// So that every repetition does the same work; what this allocates is no part of the time.
Status SpeedRunner::Prepare(const SpeedTest& test) {
  session_->Truncate(test.n_depth);
  PANTRY_RETURN_IF_ERROR(CopyToOthers(test, 0));
  rng_ = Rng(options_.seed);
  samplers_.clear();
  if (options_.tokens == SpeedTokens::kRandom || test.n_gen == 0) return OkStatus();
  // The filters of a run: drawing from a whole vocabulary of 49152 tokens took a quarter of the time of a model of 135 M parameters.
  SamplingOptions sampling;
  sampling.temperature = 1;
  sampling.seed = options_.seed;
  for (const TokenId token : engine_.tokenizer().end_of_generation()) {
    sampling.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
  }
  for (int32_t i = 0; i < test.n_sequences; ++i, ++sampling.seed) {
    samplers_.emplace_back(sampling, engine_.shape().n_vocab);
  }
  return OkStatus();
}

Status SpeedRunner::Repeat(const SpeedTest& test) {
  const std::span<const TokenId> prompt =
      std::span(text_).subspan(static_cast<size_t>(test.n_depth), static_cast<size_t>(test.n_prompt));
  PANTRY_RETURN_IF_ERROR(FeedPrompt(prompt, test.n_batch));
  if (test.n_prompt > 0) PANTRY_RETURN_IF_ERROR(CopyToOthers(test, test.n_depth));
  return Generate(test);
}

Status SpeedRunner::Run(size_t index) {
  index_ = index;
  const SpeedTest& test = tests_[index];
  if (engine_.pool().n_threads() != test.n_threads) PANTRY_RETURN_IF_ERROR(engine_.SetThreads(test.n_threads));
  PANTRY_RETURN_IF_ERROR(FillTo(test.n_depth));
  if (options_.warm_up) {
    PANTRY_RETURN_IF_ERROR(Ask(SpeedProgress::Stage::kWarmUp, 0, 1));
    SpeedTest warm_up = test;
    warm_up.n_prompt = std::min<int64_t>(test.n_prompt, test.n_batch);
    warm_up.n_gen = std::min<int64_t>(test.n_gen, std::max<int64_t>(kWarmUpTokens, test.n_sequences));
    PANTRY_RETURN_IF_ERROR(Prepare(warm_up));
    PANTRY_RETURN_IF_ERROR(Repeat(warm_up));
  }
  SpeedResult result;
  result.test = test;
  result.test.n_threads = engine_.pool().n_threads();
  result.kv_bytes = session_->kv_bytes();
  const double kv_bytes_per_position =
      static_cast<double>(session_->kv_bytes()) / static_cast<double>(session_->n_ctx());
  result.work = WorkOf(test, engine_.shape(), engine_.model().cost(), kv_bytes_per_position);
  generated_.clear();
  generated_.reserve(static_cast<size_t>(options_.repetitions * test.n_gen));
  Status status;
  for (int32_t i = 0; i < options_.repetitions && status.ok(); ++i) {
    PANTRY_RETURN_IF_ERROR(Prepare(test));
    status = Ask(SpeedProgress::Stage::kRunning, i, options_.repetitions);
    const int64_t start_us = engine_.clock().NowUs();
    if (status.ok()) status = Repeat(test);
    if (status.ok()) result.sample_us.push_back(engine_.clock().NowUs() - start_us);
  }
  generated_.resize(result.sample_us.size() *
                    static_cast<size_t>(test.n_gen));  // without those of one that was stopped
  result.tokens = std::move(generated_);
  if (!result.sample_us.empty() && callbacks_.on_result) PANTRY_RETURN_IF_ERROR(callbacks_.on_result(result));
  return status;
}

Status SpeedRunner::RunGroup(size_t begin, size_t end) {
  SessionOptions session;
  session.n_batch = tests_[begin].n_batch;
  session.k_type = options_.k_type;
  session.v_type = options_.v_type;
  for (size_t i = begin; i < end; ++i) {
    session.n_ctx = std::max(session.n_ctx, tests_[i].n_positions());
    session.n_sessions = std::max(session.n_sessions, tests_[i].n_sequences);
  }
  sessions_.clear();  // their memory first
  n_filled_ = 0;
  for (int32_t i = 0; i < session.n_sessions; ++i) {
    Result<std::unique_ptr<Session>> made = engine_.NewSession(session);
    if (!made.ok()) {
      return made.status().WithContext(
          fmt::format("the largest test takes {} positions (--n-depth + --n-prompt + --n-gen){}", session.n_ctx,
                      session.n_sessions > 1 ? fmt::format(" of {} sequences", session.n_sessions) : ""));
    }
    sessions_.push_back(std::move(made).value());
  }
  session_ = sessions_.front().get();
  const int32_t n_vocab = engine_.shape().n_vocab;
  const int64_t n_text = session.n_ctx + session.n_sessions;  // each sequence begins with another token
  text_ = options_.tokens == SpeedTokens::kRandom ? RandomTokens(n_vocab, n_text, options_.seed)
                                                  : TextTokens(engine_.tokenizer(), n_vocab, n_text, options_.seed);
  for (size_t i = begin; i < end; ++i) PANTRY_RETURN_IF_ERROR(Run(i));
  return OkStatus();
}

template <typename Figure>
Percentiles PercentilesOf(const std::vector<TokenSample>& tokens, const Figure& figure) {
  std::vector<double> sorted;
  for (const TokenSample& token : tokens) sorted.push_back(figure(token));
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](size_t percent) { return sorted[(sorted.size() * percent + 99) / 100 - 1]; };
  return {at(50), at(90), at(99), sorted.back()};
}

double HitShare(const HitCount& count) {
  const int64_t n_wanted = count.n_hits + count.n_misses;
  return n_wanted > 0 ? static_cast<double>(count.n_hits) / static_cast<double>(n_wanted) : 1;
}

HitFigures HitFiguresOf(const std::vector<TokenSample>& tokens, HitCount TokenSample::* count) {
  HitCount all;
  for (const TokenSample& token : tokens) {
    all.n_hits += (token.*count).n_hits;
    all.n_misses += (token.*count).n_misses;
  }
  if (all.n_hits + all.n_misses == 0) return {};
  const Percentiles fewest = PercentilesOf(tokens, [=](const TokenSample& token) { return -HitShare(token.*count); });
  return {.hit_rate = HitShare(all),
          .misses = PercentilesOf(
              tokens, [=](const TokenSample& token) { return static_cast<double>((token.*count).n_misses); }),
          .p50 = -fewest.p50,
          .p10 = -fewest.p90,
          .p1 = -fewest.p99};
}

}  // namespace

int64_t SpeedTest::n_generated() const {
  int64_t n = 0;
  for (int32_t i = 0; i < n_sequences; ++i) n += LengthOf(i);
  return n;
}

std::string SpeedTestName(const SpeedTest& test) {
  std::string name;
  if (test.n_prompt > 0) name = fmt::format("pp{}", test.n_prompt);
  if (test.n_gen > 0) name += fmt::format("{}tg{}", name.empty() ? "" : "+", test.n_gen);
  if (test.n_sequences > 1) name += fmt::format(" {}{}", test.ends ? "best of " : "x", test.n_sequences);
  if (test.n_depth > 0) name += fmt::format(" @ d{}", test.n_depth);
  return name;
}

Result<std::vector<SpeedTest>> CombineTests(const SpeedLists& lists) {
  PANTRY_RETURN_IF_ERROR(CheckLists(lists));
  const std::vector<std::pair<int64_t, int64_t>> pairs = Pairs(lists);
  if (pairs.empty()) {
    return InvalidArgumentError(
        "nothing to measure: --n-prompt and --n-gen are 0 and there is no -pg. Try: -p 512 -n 128");
  }
  for (const auto& [n_prompt, n_gen] : pairs) {
    for (const int64_t n : lists.best_of) {
      if (n_gen > 0 && n > n_gen)
        return InvalidArgumentError("--best-of {}: expected at most the {} tokens that --n-gen or -pg generates", n,
                                    n_gen);
    }
  }
  std::vector<int64_t> depths = lists.n_depth;
  std::sort(depths.begin(), depths.end());
  std::vector<SpeedTest> tests;
  for (const int64_t n_batch : lists.n_batch) {
    for (const int64_t n_depth : depths) {
      for (const int64_t n_threads : lists.n_threads) {
        for (const auto& [n_prompt, n_gen] : pairs) {
          const SpeedTest test{n_prompt, n_gen, n_depth, static_cast<int32_t>(n_threads),
                               static_cast<int32_t>(n_batch)};
          for (const SpeedTest& of_sequences : WithSequences(test, lists)) {
            if (std::find(tests.begin(), tests.end(), of_sequences) == tests.end()) tests.push_back(of_sequences);
          }
          if (tests.size() > kMaxTests)
            return InvalidArgumentError("more than {} tests. Give shorter lists", kMaxTests);
        }
      }
    }
  }
  return tests;
}

Status SpeedOptions::Validate() const {
  constexpr int32_t kMaxRepetitions = 1'000'000;
  if (repetitions < 1 || repetitions > kMaxRepetitions) {
    return InvalidArgumentError("--repetitions {}: expected 1 to {}", repetitions, kMaxRepetitions);
  }
  return OkStatus();
}

SpeedWork WorkOf(const SpeedTest& test, const ModelShape& shape, const ModelCost& cost, double kv_bytes_per_position) {
  SpeedWork work;
  const int64_t length = FeedLength(test.n_batch);
  for (int64_t done = 0; done < test.n_prompt;) {
    const int64_t feed_end = std::min(test.n_prompt, done / length * length + length);
    const int64_t n = std::min<int64_t>(test.n_batch, feed_end - done);
    done += n;
    AddPass(shape, cost, kv_bytes_per_position, n, test.n_depth + done, done == feed_end, work);
  }
  int32_t n_ended = 0;
  for (int64_t i = 1; i <= test.n_gen; ++i) {
    while (test.LengthOf(n_ended) < i) ++n_ended;
    AddPass(shape, cost, kv_bytes_per_position, 1, test.n_depth + test.n_prompt + i, true, work,
            test.n_sequences - n_ended);
  }
  return work;
}

SpeedFigures FiguresOf(const SpeedResult& result) {
  SpeedFigures figures;
  const auto n_tokens = static_cast<double>(result.test.n_prompt + result.test.n_generated());
  for (const int64_t us : result.sample_us)
    figures.samples.push_back(n_tokens * 1e6 / static_cast<double>(std::max<int64_t>(us, 1)));
  const size_t n = figures.samples.size();
  if (n == 0) return figures;
  std::vector<double> sorted = figures.samples;
  std::sort(sorted.begin(), sorted.end());
  figures.min = sorted.front();
  figures.max = sorted.back();
  figures.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  figures.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(n);
  double squares = 0;
  for (const double sample : sorted) squares += (sample - figures.mean) * (sample - figures.mean);
  figures.stddev = n > 1 ? std::sqrt(squares / static_cast<double>(n - 1)) : 0.0;
  figures.median_seconds = n_tokens / figures.median;
  return figures;
}

TokenFigures TokenFiguresOf(const SpeedResult& result) {
  const std::vector<TokenSample>& tokens = result.tokens;
  PANTRY_CHECK(!tokens.empty());
  TokenFigures figures;
  figures.latency_ms =
      PercentilesOf(tokens, [](const TokenSample& token) { return static_cast<double>(token.us) / 1000; });
  figures.cache = HitFiguresOf(tokens, &TokenSample::cache);
  figures.neurons = HitFiguresOf(tokens, &TokenSample::neurons);
  int64_t us = 0;
  for (const TokenSample& token : tokens) us += token.us;
  figures.tok_per_s_each = static_cast<double>(tokens.size()) * 1e6 / static_cast<double>(std::max<int64_t>(us, 1));
  return figures;
}

StepFigures StepFiguresOf(const SpeedResult& result) {
  const auto n_steps = static_cast<size_t>(result.test.n_gen);
  PANTRY_CHECK(n_steps > 0 && !result.tokens.empty() && result.tokens.size() % n_steps == 0);
  StepFigures figures;
  for (size_t step = 0; step < n_steps; ++step) {
    std::vector<double> ms;
    for (size_t i = step; i < result.tokens.size(); i += n_steps) {
      ms.push_back(static_cast<double>(result.tokens[i].us) / 1000);
    }
    std::sort(ms.begin(), ms.end());
    figures.ms.push_back((ms[(ms.size() - 1) / 2] + ms[ms.size() / 2]) / 2);
  }
  if (n_steps == 1) return figures;
  const auto ratio_at = [&](size_t step) {
    const double before = figures.ms[step > 0 ? step - 1 : 1],
                 after = figures.ms[step + 1 < n_steps ? step + 1 : step - 1];
    return figures.ms[step] / std::max((before + after) / 2, 1e-3);
  };
  figures.most_ratio = 0;
  for (size_t step = 0; step < n_steps; ++step) figures.most_ratio = std::max(figures.most_ratio, ratio_at(step));
  for (int32_t i = 0; i < result.test.n_sequences; ++i) {
    const auto end = static_cast<size_t>(result.test.LengthOf(i));
    if (end < n_steps) figures.most_ratio_at_end = std::max(figures.most_ratio_at_end, ratio_at(end));
  }
  return figures;
}

Status MeasureSpeed(Engine& engine, std::span<const SpeedTest> tests, const SpeedOptions& options,
                    const SpeedCallbacks& callbacks) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  SpeedRunner runner(engine, tests, options, callbacks);
  for (size_t begin = 0; begin < tests.size();) {
    size_t end = begin;
    while (end < tests.size() && tests[end].n_batch == tests[begin].n_batch) ++end;
    PANTRY_RETURN_IF_ERROR(runner.RunGroup(begin, end));
    begin = end;
  }
  return OkStatus();
}

}  // namespace pantry
