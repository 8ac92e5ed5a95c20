// SPDX-License-Identifier: Apache-2.0
#include "eval/kl.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "eval/log_softmax.h"

namespace pantry {
namespace {

// Of the first n windows.
Status VisitRows(Engine& engine, const KlHead& head, int64_t n_windows, WindowOptions options, const RowVisitor& visit,
                 const KlProgress& keep_going) {
  options.n_ctx = head.n_ctx;
  const auto tokens = std::span(head.tokens).first(static_cast<size_t>(n_windows * head.n_ctx));
  return VisitWindows(engine, tokens, options, visit, {.keep_going = keep_going});
}

Result<LogNormalizer> FiniteNormalizer(Engine& engine, std::span<const float> logits) {
  const LogNormalizer normalizer = NormalizerOf(engine.pool(), logits);
  if (std::isfinite(normalizer.log_sum) && std::isfinite(normalizer.largest)) return normalizer;
  return NoProbabilities();
}

Estimate MeanOf(std::span<const KlPosition> positions, const std::function<double(const KlPosition&)>& of) {
  const auto n = static_cast<double>(positions.size());
  double sum = 0;
  for (const KlPosition& position : positions) sum += of(position);
  const double mean = sum / n;
  double squares = 0;
  for (const KlPosition& position : positions) squares += (of(position) - mean) * (of(position) - mean);
  return {mean, n > 1 ? std::sqrt(squares / (n - 1) / n) : 0.0};
}

// exp of an estimate, its error to first order.
Estimate Exp(const Estimate& estimate) {
  const double value = std::exp(estimate.value);
  return {value, value * estimate.standard_error};
}

// Between the two nearest where it falls between them. REQUIRES: sorted, not empty.
double Quantile(std::span<const double> sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

KlResult SummariseKl(std::span<const KlPosition> positions) {
  KlResult result;
  result.n_positions = static_cast<int64_t>(positions.size());
  result.mean = MeanOf(positions, [](const KlPosition& p) { return p.kl; });
  result.same_top = MeanOf(positions, [](const KlPosition& p) { return p.same_top ? 1.0 : 0.0; });
  result.ppl = Exp(MeanOf(positions, [](const KlPosition& p) { return p.loss; }));
  result.reference_ppl = Exp(MeanOf(positions, [](const KlPosition& p) { return p.reference_loss; }));
  result.ppl_ratio = Exp(MeanOf(positions, [](const KlPosition& p) { return p.loss - p.reference_loss; }));
  std::vector<double> sorted;
  for (const KlPosition& position : positions) sorted.push_back(position.kl);
  std::sort(sorted.begin(), sorted.end());
  result.median = Quantile(sorted, 0.5);
  result.percentile_90 = Quantile(sorted, 0.9);
  result.percentile_99 = Quantile(sorted, 0.99);
  result.max = sorted.back();
  return result;
}

double KlDivergence(ThreadPool& pool, const KlRow& p, std::span<const float> logits) {
  PANTRY_CHECK(p.steps.size() == logits.size());
  const LogNormalizer q = NormalizerOf(pool, logits);
  constexpr double kLeastLogQ = -100;  // tokens that models forbid (logits of -infinity) are not all that counts
  constexpr size_t kSlices = 16;       // fixed, so that the order of summation does not depend on the threads
  const size_t slice_size = (logits.size() + kSlices - 1) / kSlices;
  std::array<double, kSlices> weights{};
  std::array<double, kSlices> sums{};
  pool.ParallelFor(kSlices, [&](int64_t slice, int) {
    const size_t begin = std::min(static_cast<size_t>(slice) * slice_size, logits.size());
    const size_t end = std::min(begin + slice_size, logits.size());
    double weight = 0;
    double sum = 0;
    for (size_t i = begin; i < end; ++i) {
      const double log_p = static_cast<double>(p.top) - static_cast<double>(p.step) * p.steps[i];
      const double share = std::exp(log_p);
      weight += share;
      sum += share * (log_p - std::max(q.Of(logits[i]), kLeastLogQ));
    }
    weights[static_cast<size_t>(slice)] = weight;
    sums[static_cast<size_t>(slice)] = sum;
  });
  double weight = 0;
  double sum = 0;
  for (const double slice : weights) weight += slice;
  for (const double slice : sums) sum += slice;
  return std::max(0.0, sum / weight - std::log(weight));  // of p / weight, which sums to 1
}

Result<KlHead> MakeKlHead(const Engine& engine, std::string_view text, const WindowOptions& options,
                          std::string model) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  KlHead head;
  head.model = std::move(model);
  head.n_vocab = engine.shape().n_vocab;
  head.n_ctx = options.n_ctx;
  head.vocabulary = VocabularyHash(engine.tokenizer());
  PANTRY_ASSIGN_OR_RETURN(head.tokens, EncodeWindows(engine, text, options, 1));
  head.n_windows = static_cast<int64_t>(head.tokens.size()) / head.n_ctx;
  return head;
}

Status SaveReference(Engine& engine, KlHead head, const WindowOptions& options, const std::string& path,
                     const KlProgress& keep_going) {
  PANTRY_ASSIGN_OR_RETURN(KlFileWriter writer, KlFileWriter::Create(path, head));
  const auto add = [&](int64_t, TokenId next, std::span<const float> logits) -> Status {
    PANTRY_ASSIGN_OR_RETURN(const LogNormalizer normalizer, FiniteNormalizer(engine, logits));
    return writer.Add(logits, normalizer.largest, normalizer.log_sum, next);
  };
  Status computed = VisitRows(engine, head, head.n_windows, options, add, keep_going);
  if (computed.ok()) return writer.Publish();
  (void)writer.Discard();  // what went wrong first is what is told
  return computed;
}

Result<KlResult> CompareWithReference(Engine& engine, KlFile& reference, const WindowOptions& options,
                                      const KlProgress& keep_going) {
  const KlHead& head = reference.head();
  const int64_t start_us = engine.clock().NowUs();
  if (head.n_vocab != engine.shape().n_vocab || head.vocabulary != VocabularyHash(engine.tokenizer())) {
    return InvalidArgumentError(
        "{}: the reference is of '{}' with {} tokens; this model's vocabulary is another one ({} tokens), so their "
        "probabilities cannot be compared",
        reference.path(), head.model, head.n_vocab, engine.shape().n_vocab);
  }
  const int64_t n_windows = options.max_chunks > 0 ? std::min(options.max_chunks, head.n_windows) : head.n_windows;
  std::vector<KlPosition> positions;
  const auto compare = [&](int64_t row, TokenId next, std::span<const float> logits) -> Status {
    PANTRY_ASSIGN_OR_RETURN(const KlRow p, reference.Row(row));
    PANTRY_ASSIGN_OR_RETURN(const LogNormalizer normalizer, FiniteNormalizer(engine, logits));
    positions.push_back({KlDivergence(engine.pool(), p, logits), p.loss,
                         -normalizer.Of(logits[static_cast<size_t>(next)]), p.best == BestToken(logits)});
    return OkStatus();
  };
  PANTRY_RETURN_IF_ERROR(VisitRows(engine, head, n_windows, options, compare, keep_going));
  KlResult result = SummariseKl(positions);
  result.seconds = static_cast<double>(engine.clock().NowUs() - start_us) * 1e-6;
  return result;
}

}  // namespace pantry
