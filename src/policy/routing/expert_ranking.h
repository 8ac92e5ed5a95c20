// SPDX-License-Identifier: Apache-2.0
// An ExpertRanking is one token's experts in the order of its router's liking, sorted only as far as somebody asks.
//
// Each expert gets a key whose order is the order of liking: the logit's bits, turned so that they compare as numbers, above the index
// turned round. So all keys differ, the lower index comes first among equals, and NaN counts as -infinity, without a special case
// anywhere. What policies choose is always "the best of two lists": the experts they prefer, which may get a bonus, and the others.
// Threads: thread-compatible. No allocation after construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace pantry {

class ExpertRanking {
 public:
  // As a bonus: preferred experts come first, whatever their logits.
  static constexpr double kAlways = std::numeric_limits<double>::infinity();

  explicit ExpertRanking(size_t max_experts) : scratch_(max_experts), keys_(max_experts), lists_(max_experts * 3) {}

  // A token's logits, from now on. REQUIRES: at most max_experts.
  void Read(std::span<const float> logits);
  size_t n_experts() const { return n_experts_; }

  // marks[expert] = 1 for the n best; the rest stay as they are.
  void MarkBest(size_t n, std::span<uint8_t> marks);
  // marks[expert] = 0 for all but the n best. O(experts).
  void KeepBest(size_t n, std::span<uint8_t> marks);
  // The fewest best experts whose shares (softmax over all) come to at least `share`; 0 where the logits have no softmax.
  size_t CountForShare(double share);
  // Experts whose logits are at least the n-th best's less `margin`, n or more; n where that is no number. REQUIRES: 1 <= n <= n_experts().
  size_t CountWithin(double margin, size_t n);

  // chosen = the experts of the largest logit + bonus, which those that are preferred get, in descending order of logits all the same.
  // bonus >= 0. Where both are as good, the router's order decides. REQUIRES: chosen.size() <= n_experts().
  void ChooseWithBonus(std::span<const uint8_t> preferred, double bonus, std::span<int32_t> chosen);

 private:
  std::span<const uint64_t> keys() const { return std::span<const uint64_t>(keys_).first(n_experts_); }
  std::span<const uint64_t> Best(size_t n);  // in a list: until the next one is asked for
  std::span<uint64_t> List(size_t which, size_t n);

  std::vector<uint64_t> scratch_;
  std::vector<uint64_t> keys_;
  std::vector<uint64_t> lists_;  // three of max_experts
  size_t n_experts_ = 0;
};

}  // namespace pantry
