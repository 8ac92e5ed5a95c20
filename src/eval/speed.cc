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

// Positions of the context that `layer` looks at when `n` tokens end at position `end`.
int64_t PositionsSeen(const ModelShape& shape, size_t layer, int64_t end, int64_t n) {
  const bool slides =
      shape.sliding_window > 0 && layer < shape.layer_is_sliding.size() && shape.layer_is_sliding[layer];
  return slides ? std::min(end, shape.sliding_window + n - 1) : end;
}

// Adds a forward pass of n tokens that end at position `end`.
void AddPass(const ModelShape& shape, const ModelCost& cost, double kv_bytes_per_position, int64_t n, int64_t end,
             bool has_logits, SpeedWork& work) {
  int64_t n_positions = 0;
  for (size_t layer = 0; layer < static_cast<size_t>(shape.n_layers); ++layer) {
    n_positions += PositionsSeen(shape, layer, end, n);
  }
  work.n_bytes += cost.layers.n_bytes + static_cast<int64_t>(static_cast<double>(n_positions) * kv_bytes_per_position /
                                                             std::max(shape.n_layers, 1));
  work.int8_ops += 2 * n * cost.layers.int8_macs;
  work.float_ops += 2 * n * cost.layers.float_macs;
  if (!has_logits) return;
  work.n_bytes += cost.output.n_bytes;
  work.int8_ops += 2 * cost.output.int8_macs;
  work.float_ops += 2 * cost.output.float_macs;
}

// The tests of one batch size: a session, and the tokens that its context begins with.
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
  void Prepare(const SpeedTest& test);
  Status Repeat(const SpeedTest& test);
  Status FeedPrompt(std::span<const TokenId> tokens, int64_t n_batch);
  Status Generate(int64_t n, bool follows_prompt);
  TokenId NextToken();
  Status Ask(SpeedProgress::Stage stage, int64_t n_done, int64_t n_total);
  Status Ask();  // as the last time
  CacheStats Cached() { return engine_.stream() != nullptr ? engine_.stream()->stats().cache : CacheStats(); }

  Engine& engine_;
  std::span<const SpeedTest> tests_;
  const SpeedOptions& options_;
  const SpeedCallbacks& callbacks_;
  std::unique_ptr<Session> session_;
  std::vector<TokenId> text_;
  int64_t n_filled_ = 0;  // the session begins with so many tokens of text_
  std::optional<Sampler> sampler_;
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

TokenId SpeedRunner::NextToken() {
  if (sampler_.has_value()) return sampler_->Sample(session_->logits());
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

Status SpeedRunner::Generate(int64_t n, bool follows_prompt) {
  if (n == 0) return OkStatus();
  TokenId token = follows_prompt ? NextToken() : text_[session_->tokens().size()];
  CacheStats before = Cached();
  for (int64_t i = 0; i < n; ++i) {
    PANTRY_RETURN_IF_ERROR(Ask());
    const int64_t begin_us = engine_.clock().NowUs();
    PANTRY_RETURN_IF_ERROR(session_->Feed({&token, 1}));
    token = NextToken();
    const int64_t us = engine_.clock().NowUs() - begin_us;
    const CacheStats now = Cached();
    generated_.push_back(
        {us, now.n_hits - before.n_hits, now.n_demanded - now.n_hits - before.n_demanded + before.n_hits});
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

// So that every repetition does the same work; what this allocates is no part of the time.
void SpeedRunner::Prepare(const SpeedTest& test) {
  session_->Truncate(test.n_depth);
  rng_ = Rng(options_.seed);
  if (options_.tokens == SpeedTokens::kRandom || test.n_gen == 0) return;
  // The filters of a run: drawing from a whole vocabulary of 49152 tokens took a quarter of the time of a model of 135 M parameters.
  SamplingOptions sampling;
  sampling.temperature = 1;
  sampling.seed = options_.seed;
  for (const TokenId token : engine_.tokenizer().end_of_generation()) {
    sampling.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
  }
  sampler_.emplace(sampling, engine_.shape().n_vocab);
}

Status SpeedRunner::Repeat(const SpeedTest& test) {
  const std::span<const TokenId> prompt =
      std::span(text_).subspan(static_cast<size_t>(test.n_depth), static_cast<size_t>(test.n_prompt));
  PANTRY_RETURN_IF_ERROR(FeedPrompt(prompt, test.n_batch));
  return Generate(test.n_gen, test.n_prompt > 0);
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
    warm_up.n_gen = std::min(test.n_gen, kWarmUpTokens);
    Prepare(warm_up);
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
    Prepare(test);
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
  for (size_t i = begin; i < end; ++i) session.n_ctx = std::max(session.n_ctx, tests_[i].n_positions());
  session_.reset();  // its memory first
  n_filled_ = 0;
  Result<std::unique_ptr<Session>> made = engine_.NewSession(session);
  if (!made.ok()) {
    return made.status().WithContext(
        fmt::format("the largest test takes {} positions (--n-depth + --n-prompt + --n-gen)", session.n_ctx));
  }
  session_ = std::move(made).value();
  const int32_t n_vocab = engine_.shape().n_vocab;
  text_ = options_.tokens == SpeedTokens::kRandom
              ? RandomTokens(n_vocab, session.n_ctx + 1, options_.seed)
              : TextTokens(engine_.tokenizer(), n_vocab, session.n_ctx + 1, options_.seed);
  for (size_t i = begin; i < end; ++i) PANTRY_RETURN_IF_ERROR(Run(i));
  return OkStatus();
}

}  // namespace

std::string SpeedTestName(const SpeedTest& test) {
  std::string name;
  if (test.n_prompt > 0) name = fmt::format("pp{}", test.n_prompt);
  if (test.n_gen > 0) name += fmt::format("{}tg{}", name.empty() ? "" : "+", test.n_gen);
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
  std::vector<int64_t> depths = lists.n_depth;
  std::sort(depths.begin(), depths.end());
  std::vector<SpeedTest> tests;
  for (const int64_t n_batch : lists.n_batch) {
    for (const int64_t n_depth : depths) {
      for (const int64_t n_threads : lists.n_threads) {
        for (const auto& [n_prompt, n_gen] : pairs) {
          const SpeedTest test{n_prompt, n_gen, n_depth, static_cast<int32_t>(n_threads),
                               static_cast<int32_t>(n_batch)};
          if (std::find(tests.begin(), tests.end(), test) == tests.end()) tests.push_back(test);
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
  for (int64_t i = 1; i <= test.n_gen; ++i) {
    AddPass(shape, cost, kv_bytes_per_position, 1, test.n_depth + test.n_prompt + i, true, work);
  }
  return work;
}

SpeedFigures FiguresOf(const SpeedResult& result) {
  SpeedFigures figures;
  const auto n_tokens = static_cast<double>(result.test.n_prompt + result.test.n_gen);
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
  std::vector<double> sorted;
  const auto percentiles = [&](double unit, int64_t TokenSample::* field) {
    sorted.clear();
    for (const TokenSample& token : tokens) sorted.push_back(static_cast<double>(token.*field) / unit);
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&](size_t percent) { return sorted[(sorted.size() * percent + 99) / 100 - 1]; };
    return Percentiles{at(50), at(90), at(99)};
  };
  TokenFigures figures;
  figures.latency_ms = percentiles(1000, &TokenSample::us);
  figures.misses = percentiles(1, &TokenSample::n_misses);
  int64_t n_hits = 0, n_demanded = 0;
  for (const TokenSample& token : tokens) {
    n_hits += token.n_hits;
    n_demanded += token.n_hits + token.n_misses;
  }
  if (n_demanded > 0) figures.hit_rate = static_cast<double>(n_hits) / static_cast<double>(n_demanded);
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
