// SPDX-License-Identifier: Apache-2.0
#include "text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/sampler_math.h"

namespace pantry {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double LogitOrNever(float logit) { return std::isnan(logit) ? kNever : static_cast<double>(logit); }

// e^(logit - best), and 1 for the best even where both are infinite.
double Weight(double logit, double best) { return logit == best ? 1.0 : PortableExp(logit - best); }

Status OutOfRange(std::string_view name, double value, std::string_view range) {
  return InvalidArgumentError("{}: {} is out of range; expected {}", name, value, range);
}

bool IsShare(float value) { return value >= 0 && value <= 1; }  // false for NaN

// Whether `a` comes before `b`: the better one, the lower id among equals. A total order, so that sorting is the same everywhere.
template <typename T>
bool Better(const T& a, const T& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

}  // namespace

Status SamplingOptions::Validate() const {
  if (!(temperature >= 0) || !std::isfinite(temperature))
    return OutOfRange("temperature", temperature, "0 (greedy) or more");
  if (top_k < 0) return OutOfRange("top_k", top_k, "0 (off) or more");
  if (!IsShare(top_p)) return OutOfRange("top_p", top_p, "0 to 1 (off)");
  if (!IsShare(min_p)) return OutOfRange("min_p", min_p, "0 (off) to 1");
  if (!IsShare(typical_p)) return OutOfRange("typical_p", typical_p, "0 to 1 (off)");
  if (!(repeat_penalty > 0) || !std::isfinite(repeat_penalty))
    return OutOfRange("repeat_penalty", repeat_penalty, "more than 0; 1 is off");
  if (repeat_last_n < -1) return OutOfRange("repeat_last_n", repeat_last_n, "-1 (all), 0 (off) or more");
  if (!std::isfinite(presence_penalty))
    return OutOfRange("presence_penalty", presence_penalty, "a finite number; 0 is off");
  if (!std::isfinite(frequency_penalty))
    return OutOfRange("frequency_penalty", frequency_penalty, "a finite number; 0 is off");
  for (const auto& [token, bias] : logit_bias) {
    if (token < 0) return OutOfRange("logit_bias", token, "token ids of 0 or more");
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity()) {
      return InvalidArgumentError(
          "logit_bias: the bias of token {} is {}; expected a finite number, or -infinity to ban it", token, bias);
    }
  }
  return OkStatus();
}

Sampler::Sampler(const SamplingOptions& options, int32_t n_vocab) : options_(options), rng_(options.seed) {
  const auto n = static_cast<size_t>(std::max(n_vocab, 0));
  counts_.resize(n);
  biased_.resize(n);
  candidates_.reserve(options_.top_k > 0 ? std::min(n, static_cast<size_t>(options_.top_k)) : n);
  constexpr int32_t kUsualWindow = 4096;  // longer ones grow as they fill
  if (options_.repeat_last_n > 0) history_.reserve(static_cast<size_t>(std::min(options_.repeat_last_n, kUsualWindow)));
}

void Sampler::Accept(TokenId token) {
  if (options_.repeat_last_n == 0 || token < 0 || static_cast<size_t>(token) >= counts_.size()) return;
  ++counts_[static_cast<size_t>(token)];
  if (options_.repeat_last_n < 0) return;
  if (history_.size() < static_cast<size_t>(options_.repeat_last_n)) {
    history_.push_back(token);
    return;
  }
  --counts_[static_cast<size_t>(history_[oldest_])];
  history_[oldest_] = token;
  oldest_ = (oldest_ + 1) % history_.size();
}

std::span<const float> Sampler::ApplyPenalties(std::span<const float> logits) {
  const bool penalises =
      options_.repeat_last_n != 0 &&
      (options_.repeat_penalty != 1.0f || options_.presence_penalty != 0 || options_.frequency_penalty != 0);
  if (!penalises && options_.logit_bias.empty()) return logits;
  std::copy(logits.begin(), logits.end(), biased_.begin());
  for (const auto& [token, bias] : options_.logit_bias) {
    if (static_cast<size_t>(token) < logits.size()) biased_[static_cast<size_t>(token)] += bias;
  }
  if (penalises) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (counts_[i] == 0) continue;
      float& logit = biased_[i];
      // Keskar et al. 2019 only divide; a negative logit would become likelier then.
      logit = logit <= 0 ? logit * options_.repeat_penalty : logit / options_.repeat_penalty;
      logit -= static_cast<float>(counts_[i]) * options_.frequency_penalty + options_.presence_penalty;
    }
  }
  return std::span<const float>(biased_).first(logits.size());
}

void Sampler::SortBest(size_t n) {
  n = std::min(n, candidates_.size());
  if (n <= n_sorted_) return;
  const auto first = candidates_.begin() + static_cast<ptrdiff_t>(n_sorted_);
  if (n < candidates_.size() / 8) {
    std::partial_sort(first, candidates_.begin() + static_cast<ptrdiff_t>(n), candidates_.end(), Better<Candidate>);
    n_sorted_ = n;
  } else {
    std::sort(first, candidates_.end(), Better<Candidate>);
    n_sorted_ = candidates_.size();
  }
}

// All tokens that may come, or the best top_k, sorted.
void Sampler::CollectCandidates(std::span<const float> logits) {
  candidates_.clear();
  n_sorted_ = 0;
  const size_t k = options_.top_k > 0 ? static_cast<size_t>(options_.top_k) : logits.size();
  double threshold = kNever;  // what a token must beat once k of them are there
  for (size_t i = 0; i < logits.size(); ++i) {
    const double logit = LogitOrNever(logits[i]);
    if (!(logit > threshold)) continue;
    const Candidate candidate{static_cast<TokenId>(i), logit, 0};
    if (candidates_.size() < k) {
      candidates_.push_back(candidate);
      if (candidates_.size() < k || k == logits.size()) continue;
      std::make_heap(candidates_.begin(), candidates_.end(), Better<Candidate>);  // the worst on top
    } else {
      std::pop_heap(candidates_.begin(), candidates_.end(), Better<Candidate>);
      candidates_.back() = candidate;
      std::push_heap(candidates_.begin(), candidates_.end(), Better<Candidate>);
    }
    threshold = candidates_.front().logit;
  }
  if (options_.top_k > 0) SortBest(candidates_.size());
}

// Keeps the tokens whose surprise is closest to the entropy, up to typical_p of the probability.
void Sampler::KeepTypical() {
  SortBest(candidates_.size());
  const double best = candidates_.front().logit;
  double total = 0;
  for (const Candidate& candidate : candidates_) total += Weight(candidate.logit, best);
  const double log_total = PortableLog(total);
  const auto surprise = [&](const Candidate& c) { return c.logit == best ? log_total : log_total - (c.logit - best); };
  double entropy = 0;
  for (const Candidate& c : candidates_) {
    const double probability = Weight(c.logit, best) / total;
    if (probability > 0) entropy += probability * surprise(c);
  }
  for (Candidate& c : candidates_) c.weight = std::fabs(surprise(c) - entropy);
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.weight < b.weight || (a.weight == b.weight && Better(a, b));
  });
  double sum = 0;
  size_t n = 0;
  while (n < candidates_.size() && !(sum > static_cast<double>(options_.typical_p))) {
    sum += Weight(candidates_[n++].logit, best) / total;
  }
  candidates_.resize(std::max<size_t>(n, 1));
  n_sorted_ = 0;
}

// Keeps the best tokens, up to top_p of the probability.
void Sampler::KeepTopP() {
  SortBest(1);
  const double best = candidates_.front().logit;
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = Weight(candidate.logit, best);
    total += candidate.weight;
  }
  const double wanted = static_cast<double>(options_.top_p) * total;
  double sum = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i >= n_sorted_) SortBest(std::max<size_t>(256, 4 * i));  // the nucleus is small, mostly
    sum += candidates_[i].weight;
    if (sum >= wanted) {
      candidates_.resize(i + 1);
      n_sorted_ = i + 1;
      return;
    }
  }
}

// Drops tokens less probable than min_p times the best.
void Sampler::KeepMinP() {
  SortBest(1);
  const double best = candidates_.front().logit;
  const double lowest = static_cast<double>(options_.min_p);
  if (n_sorted_ == candidates_.size()) {
    while (Weight(candidates_.back().logit, best) < lowest) candidates_.pop_back();
  } else {
    std::erase_if(candidates_, [&](const Candidate& candidate) { return Weight(candidate.logit, best) < lowest; });
  }
  n_sorted_ = std::min(n_sorted_, candidates_.size());
}

TokenId Sampler::Draw() {
  double best = kNever;
  for (const Candidate& candidate : candidates_) best = std::max(best, candidate.logit);
  double total = 0;
  for (Candidate& candidate : candidates_) {
    const double distance =
        candidate.logit == best ? 0 : (candidate.logit - best) / static_cast<double>(options_.temperature);
    candidate.weight = Weight(distance, 0);
    total += candidate.weight;
  }
  double rest = rng_.NextDouble() * total;
  for (const Candidate& candidate : candidates_) {
    if (rest < candidate.weight) return candidate.token;
    rest -= candidate.weight;
  }
  // Rounding ate the last of it: the last token that had a share.
  const auto last =
      std::find_if(candidates_.rbegin(), candidates_.rend(), [](const Candidate& c) { return c.weight > 0; });
  return last->token;
}

TokenId Sampler::Sample(std::span<const float> logits) {
  logits = ApplyPenalties(logits.first(std::min(logits.size(), biased_.size())));
  if (options_.temperature == 0) {
    TokenId best = 0;
    double best_logit = kNever;
    for (size_t i = 0; i < logits.size(); ++i) {
      const double logit = LogitOrNever(logits[i]);
      if (logit > best_logit) {
        best_logit = logit;
        best = static_cast<TokenId>(i);
      }
    }
    return best;
  }
  CollectCandidates(logits);
  if (candidates_.empty()) return 0;
  if (options_.typical_p < 1) KeepTypical();
  if (options_.top_p < 1) KeepTopP();
  if (options_.min_p > 0) KeepMinP();
  return Draw();
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, int32_t n, TokenId chosen) {
  double best = kNever;
  for (const float logit : logits) best = std::max(best, LogitOrNever(logit));
  double total = 0;
  if (best != kNever) {
    for (const float logit : logits) total += Weight(LogitOrNever(logit), best);
  }
  const double log_total = total > 0 ? PortableLog(total) : 0;
  const auto logprob = [&](size_t i) -> TokenLogprob {
    const double logit = LogitOrNever(logits[i]);
    const double value = logit == kNever ? kNever : logit == best ? -log_total : logit - best - log_total;
    return {static_cast<TokenId>(i), static_cast<float>(value)};
  };

  struct Ranked {
    TokenId token;
    double logit;
  };
  std::vector<Ranked> ranked;
  const size_t wanted = std::min(static_cast<size_t>(std::max(n, 0)), logits.size());
  ranked.reserve(wanted + 1);
  for (size_t i = 0; i < logits.size() && wanted > 0; ++i) {
    const Ranked candidate{static_cast<TokenId>(i), LogitOrNever(logits[i])};
    if (ranked.size() == wanted) {
      if (!Better(candidate, ranked.front())) continue;
      std::pop_heap(ranked.begin(), ranked.end(), Better<Ranked>);
      ranked.pop_back();
    }
    ranked.push_back(candidate);
    std::push_heap(ranked.begin(), ranked.end(), Better<Ranked>);
  }
  std::sort_heap(ranked.begin(), ranked.end(), Better<Ranked>);

  std::vector<TokenLogprob> out;
  out.reserve(ranked.size() + 1);
  bool has_chosen = false;
  for (const Ranked& candidate : ranked) {
    out.push_back(logprob(static_cast<size_t>(candidate.token)));
    has_chosen = has_chosen || candidate.token == chosen;
  }
  if (!has_chosen && chosen >= 0 && static_cast<size_t>(chosen) < logits.size())
    out.push_back(logprob(static_cast<size_t>(chosen)));
  return out;
}

}  // namespace pantry
