// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/scoring.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "eval/tasks/answer_match.h"
#include "text/unicode.h"

namespace pantry {
namespace {

constexpr double kZ = 1.959963984540054;  // of a normal distribution, 95 % lie within so many standard deviations

// exp(mean loss), where texts differ in how much each counts: the error of a ratio, text by text.
struct LossPerUnit {
  double rate = 0;
  double standard_error = 0;
};

LossPerUnit LossRate(std::span<const double> losses, std::span<const double> units) {
  double loss = 0;
  double n_units = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    loss += losses[i];
    n_units += units[i];
  }
  LossPerUnit result;
  result.rate = loss / n_units;
  if (losses.size() < 2) return result;
  double squares = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    const double residual = losses[i] - result.rate * units[i];
    squares += residual * residual;
  }
  const auto n = static_cast<double>(losses.size());
  result.standard_error = std::sqrt(squares * n / (n - 1)) / n_units;
  return result;
}

Metric PerplexityMetric(std::string name, const LossPerUnit& loss) {
  const double value = std::exp(loss.rate);
  return {std::move(name), value, value * loss.standard_error, std::exp(loss.rate - kZ * loss.standard_error),
          std::exp(loss.rate + kZ * loss.standard_error)};
}

std::vector<Metric> RollingMetrics(const TaskFile& file, std::span<const ItemScore> scores) {
  std::vector<double> losses;
  std::vector<double> words;
  std::vector<double> bytes;
  for (const ItemScore& score : scores) {
    if (!score.skipped.empty()) continue;
    losses.push_back(-score.log_likelihoods.front());
    words.push_back(static_cast<double>(file.items[score.item].n_words));
    bytes.push_back(static_cast<double>(file.items[score.item].n_bytes));
  }
  if (losses.empty()) return {};
  const LossPerUnit by_byte = LossRate(losses, bytes);
  const double bits = by_byte.rate / std::numbers::ln2;
  const double bits_error = by_byte.standard_error / std::numbers::ln2;
  return {PerplexityMetric("word_perplexity", LossRate(losses, words)),
          PerplexityMetric("byte_perplexity", by_byte),
          {"bits_per_byte", bits, bits_error, bits - kZ * bits_error, bits + kZ * bits_error}};
}

}  // namespace

size_t BestIndex(std::span<const double> scores) {
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

int64_t CountCharacters(std::string_view text) {
  int64_t n = 0;
  for (; !text.empty(); ++n) text.remove_prefix(CutUtf8Character(text).n_bytes);
  return n;
}

Metric MeanMetric(std::string name, std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = values.size() > 1 ? std::sqrt(squares / (n - 1) / n) : 0.0;
  Metric metric{std::move(name), mean, error, mean - kZ * error, mean + kZ * error};
  if (std::all_of(values.begin(), values.end(), [](double value) { return value == 0 || value == 1; })) {
    const double center = (mean + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
    const double half = kZ / (1 + kZ * kZ / n) * std::sqrt(mean * (1 - mean) / n + kZ * kZ / (4 * n * n));
    metric.low = std::max(0.0, center - half);
    metric.high = std::min(1.0, center + half);
  }
  return metric;
}

std::span<const std::string_view> ItemMetrics(TaskProtocol protocol) {
  static constexpr std::array<std::string_view, 2> kAccuracies = {"acc", "acc_norm"};
  if (protocol == TaskProtocol::kChoice) return kAccuracies;
  return IsGeneration(protocol) ? AnswerMetrics(protocol) : std::span<const std::string_view>();
}

std::vector<double> JudgeItem(TaskProtocol protocol, const TaskItem& item, const ItemScore& score) {
  if (IsGeneration(protocol)) return JudgeAnswer(protocol, score.text, item.answers);
  if (protocol != TaskProtocol::kChoice) return {};
  std::vector<double> per_character = score.log_likelihoods;
  for (size_t i = 0; i < per_character.size(); ++i) {
    per_character[i] /= static_cast<double>(CountCharacters(item.choices[i]));
  }
  const auto answer = static_cast<size_t>(item.answer);
  return {BestIndex(score.log_likelihoods) == answer ? 1.0 : 0.0, BestIndex(per_character) == answer ? 1.0 : 0.0};
}

std::vector<Metric> TaskMetrics(const TaskFile& file, std::span<const ItemScore> scores) {
  if (file.protocol == TaskProtocol::kRolling) return RollingMetrics(file, scores);
  std::vector<Metric> metrics;
  const std::span<const std::string_view> names = ItemMetrics(file.protocol);
  for (size_t i = 0; i < names.size(); ++i) {
    std::vector<double> values;
    for (const ItemScore& score : scores) {
      if (score.skipped.empty()) values.push_back(score.values[i]);
    }
    if (!values.empty()) metrics.push_back(MeanMetric(std::string(names[i]), values));
  }
  return metrics;
}

}  // namespace pantry
