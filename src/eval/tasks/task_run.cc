// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/task_run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/generate.h"
#include "eval/log_softmax.h"
#include "eval/tasks/answer_match.h"
#include "eval/text_windows.h"

namespace pantry {
namespace {

using KeepGoing = std::function<bool(int64_t n_done, int64_t n_total)>;

// A watched run begins with short batches, which cost some speed; shorter ones are over before anybody waits.
constexpr int64_t kWatchedTokens = 1024;

// Cuts the session back to what it shares with `tokens`, at most n_most tokens. Returns how many they are.
size_t KeepShared(Session& session, std::span<const TokenId> tokens, size_t n_most) {
  const size_t n_shared = std::min(CommonPrefix(session.tokens(), tokens), n_most);
  session.Truncate(static_cast<int64_t>(n_shared));
  return n_shared;
}

// The sum of the log probabilities of tokens[begin..], each from the token before it; the session ends before tokens[begin - 1].
Status AddLogProbabilities(Engine& engine, Session& session, std::span<const TokenId> tokens, size_t begin, double& sum,
                           const KeepGoing& keep_going) {
  return session.FeedAll(
      tokens.subspan(begin - 1, tokens.size() - begin),
      [&](int64_t index, std::span<const float> logits) {
        sum += LogProbability(engine.pool(), logits, tokens[begin + static_cast<size_t>(index)]);
      },
      keep_going);
}

// Sequences that have all of their context in common.
Status ScoreAfterContext(Engine& engine, Session& session, std::span<const TokenSequence> sequences,
                         std::vector<double>& sums, const KeepGoing& keep_going) {
  const size_t n_context = sequences.front().n_context;
  const std::span<const TokenId> context = std::span(sequences.front().tokens).first(n_context);
  const size_t n_kept = KeepShared(session, context, n_context - 1);  // the last one's logits are wanted
  PANTRY_RETURN_IF_ERROR(session.Feed(context.subspan(n_kept), keep_going));
  const LogNormalizer normalizer = NormalizerOf(engine.pool(), session.logits());
  for (size_t i = 0; i < sequences.size(); ++i) {
    sums[i] = normalizer.Of(session.logits()[static_cast<size_t>(sequences[i].tokens[n_context])]);
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].tokens.size() == n_context + 1) continue;
    session.Truncate(static_cast<int64_t>(n_context));
    PANTRY_RETURN_IF_ERROR(
        AddLogProbabilities(engine, session, sequences[i].tokens, n_context + 1, sums[i], keep_going));
  }
  return OkStatus();
}

Status ScoreAlone(Engine& engine, Session& session, const TokenSequence& sequence, double& sum,
                  const KeepGoing& keep_going) {
  const std::span<const TokenId> tokens = sequence.tokens;
  const size_t n_before = sequence.n_context - 1;  // the logits of these are not wanted
  const size_t n_kept = KeepShared(session, tokens, n_before);
  PANTRY_RETURN_IF_ERROR(session.Feed(tokens.subspan(n_kept, n_before - n_kept), keep_going));
  return AddLogProbabilities(engine, session, tokens, sequence.n_context, sum, keep_going);
}

// tokens[0] begins the text and is not scored. Each window predicts as many as the context holds; the last one is filled up to the left.
Status ScoreRolling(Engine& engine, Session& session, std::span<const TokenId> tokens, double& sum,
                    const KeepGoing& keep_going) {
  const auto n_window = static_cast<size_t>(session.n_ctx());
  for (size_t begin = 1; begin < tokens.size();) {  // the first token not predicted yet
    const size_t end = std::min(begin + n_window, tokens.size());
    const size_t first = end - 1 - std::min(n_window, end - 1);
    session.Truncate(0);
    PANTRY_RETURN_IF_ERROR(session.Feed(tokens.subspan(first, begin - 1 - first), keep_going));
    PANTRY_RETURN_IF_ERROR(AddLogProbabilities(engine, session, tokens.first(end), begin, sum, keep_going));
    begin = end;
  }
  return OkStatus();
}

// Of some tokens the logit may be -infinity: the model forbids them.
bool IsDistribution(std::span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return std::ranges::all_of(logits, [](float logit) { return logit < kInfinity; }) &&
         std::ranges::any_of(logits, [](float logit) { return logit > -kInfinity; });
}

Status Answer(Engine& engine, Session& session, TaskProtocol protocol, std::span<const TokenId> prompt,
              const std::function<bool()>& keep_going, ItemScore& score) {
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.max_tokens = kMostAnswerTokens;
  for (const std::string_view stop : AnswerStops(protocol)) options.stop.emplace_back(stop);
  GenerateCallbacks callbacks;
  bool is_sound = true;
  callbacks.on_token = [&](TokenId) {
    is_sound = IsDistribution(session.logits());
    return is_sound && keep_going();
  };
  PANTRY_ASSIGN_OR_RETURN(GenerateResult result, Generate(engine, session, prompt, options, callbacks));
  // The last logits are asked about again: on_token hears nothing of a token that ends the answer.
  if (!is_sound || !IsDistribution(session.logits())) return NoProbabilities();
  if (result.stop_reason == StopReason::kCancelled) return CancelledError("the answer was stopped");
  score.text = std::move(result.text);
  score.is_truncated = result.stop_reason == StopReason::kContextFull;
  return OkStatus();
}

Status MeasureItem(Engine& engine, Session& session, TaskProtocol protocol, const TaskRequest& request,
                   const std::function<bool()>& keep_going, ItemScore& score) {
  KeepGoing watched;
  if (request.n_positions >= kWatchedTokens || engine.stream() != nullptr) {
    watched = [&](int64_t, int64_t) { return keep_going(); };
  }
  if (IsGeneration(protocol)) {
    return Answer(engine, session, protocol, request.sequences.front().tokens, keep_going, score);
  }
  for (const TokenSequence& sequence : request.sequences) {
    score.n_tokens.push_back(static_cast<int64_t>(sequence.tokens.size() - sequence.n_context));
  }
  if (protocol == TaskProtocol::kRolling) {
    const std::vector<TokenId>& tokens = request.sequences.front().tokens;
    score.log_likelihoods.assign(1, 0.0);
    PANTRY_RETURN_IF_ERROR(ScoreRolling(engine, session, tokens, score.log_likelihoods.front(), watched));
  } else {
    PANTRY_ASSIGN_OR_RETURN(score.log_likelihoods, ScoreSequences(engine, session, request.sequences, watched));
  }
  const bool is_finite = std::ranges::all_of(score.log_likelihoods, [](double sum) { return std::isfinite(sum); });
  return is_finite ? OkStatus() : NoProbabilities();
}

// Why the request cannot be run here; "": it can.
std::string WhySkipped(const TaskRequest& request, TaskProtocol protocol, int64_t n_ctx) {
  if (!request.impossible.empty()) return request.impossible;
  const int64_t n_least = IsGeneration(protocol) ? request.n_positions - kMostAnswerTokens + 1 : request.n_positions;
  if (protocol == TaskProtocol::kRolling || n_least <= n_ctx) return {};
  return fmt::format("it needs {} tokens of context, there are {}", n_least, n_ctx);
}

}  // namespace

Result<std::vector<double>> ScoreSequences(Engine& engine, Session& session, std::span<const TokenSequence> sequences,
                                           const KeepGoing& keep_going) {
  std::vector<double> sums(sequences.size(), 0.0);
  if (sequences.empty()) return sums;
  const size_t n_context = sequences.front().n_context;
  const std::span<const TokenId> first = sequences.front().tokens;
  const bool is_shared = std::all_of(sequences.begin(), sequences.end(), [&](const TokenSequence& sequence) {
    return sequence.n_context == n_context && CommonPrefix(first, sequence.tokens) >= n_context;
  });
  if (is_shared) {
    PANTRY_RETURN_IF_ERROR(ScoreAfterContext(engine, session, sequences, sums, keep_going));
    return sums;
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    PANTRY_RETURN_IF_ERROR(ScoreAlone(engine, session, sequences[i], sums[i], keep_going));
  }
  return sums;
}

Result<TaskResult> RunTask(Engine& engine, Session& session, const TaskFile& file, const TaskRequests& requests,
                           const TaskCallbacks& callbacks) {
  TaskResult result;
  result.n_items = static_cast<int64_t>(requests.requests.size());
  const int64_t start_us = engine.clock().NowUs();
  const auto keep_going = [&] { return !callbacks.keep_going || callbacks.keep_going(result); };
  for (const TaskRequest& request : requests.requests) {
    const TaskItem& item = file.items[request.item];
    ItemScore score;
    score.item = request.item;
    score.skipped = WhySkipped(request, file.protocol, session.n_ctx());
    if (score.skipped.empty()) {
      for (const TokenSequence& sequence : request.sequences) {
        PANTRY_RETURN_IF_ERROR(CheckTokens(sequence.tokens, engine.shape().n_vocab));
      }
      if (engine.depends_on_cache()) {
        engine.stream()->Forget();
        session.Truncate(0);
      }
      const Status measured = MeasureItem(engine, session, file.protocol, request, keep_going, score);
      if (measured.code() == StatusCode::kCancelled) break;
      PANTRY_RETURN_IF_ERROR(measured.WithContext(fmt::format("{}:{}: '{}'", file.path, item.line, item.id)));
      score.values = JudgeItem(file.protocol, item, score);
      if (score.is_truncated) ++result.n_truncated;
    } else {
      ++result.n_skipped;
    }
    result.scores.push_back(std::move(score));
    result.seconds = static_cast<double>(engine.clock().NowUs() - start_us) * 1e-6;
    if (!keep_going()) break;
  }
  return result;
}

}  // namespace pantry
