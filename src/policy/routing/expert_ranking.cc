// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/expert_ranking.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "policy/routing/exact.h"

namespace pantry {
namespace {

constexpr uint32_t kSign = 0x80000000u;
constexpr uint64_t kNoKey = 0;  // below the key of any logit

uint64_t KeyOf(float logit, size_t expert) {
  const float number = LikingOf(logit) + 0.0f;  // -0 becomes 0
  const auto bits = std::bit_cast<uint32_t>(number);
  const uint32_t ordered = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return uint64_t{ordered} << 32 | (~uint32_t{0} - static_cast<uint32_t>(expert));
}
size_t ExpertOf(uint64_t key) { return ~uint32_t{0} - static_cast<uint32_t>(key); }
float LogitOf(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>((ordered & kSign) != 0 ? ordered & ~kSign : ~ordered);
}

// Puts `key` in its place in a descending list, whose last one falls out. Few get past the first comparison.
void Offer(uint64_t key, std::span<uint64_t> list) {
  if (list.empty() || key <= list.back()) return;
  size_t at = list.size() - 1;
  for (; at > 0 && list[at - 1] < key; --at) list[at] = list[at - 1];
  list[at] = key;
}

}  // namespace

void ExpertRanking::Read(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) keys_[i] = KeyOf(logits[i], i);
  n_experts_ = logits.size();
}

std::span<uint64_t> ExpertRanking::List(size_t which, size_t n) {
  const auto list = std::span<uint64_t>(lists_).subspan(which * keys_.size(), n);
  std::ranges::fill(list, kNoKey);
  return list;
}

std::span<const uint64_t> ExpertRanking::Best(size_t n) {
  const auto best = List(0, n);
  for (const uint64_t key : keys()) Offer(key, best);
  return best;
}

void ExpertRanking::MarkBest(size_t n, std::span<uint8_t> marks) {
  for (const uint64_t key : Best(std::min(n, n_experts()))) marks[ExpertOf(key)] = 1;
}

size_t ExpertRanking::CountWithin(double margin, size_t n) {
  const double least = static_cast<double>(LogitOf(Best(n).back())) - margin;
  if (!std::isfinite(least)) return n;
  return static_cast<size_t>(
      std::ranges::count_if(keys(), [least](uint64_t key) { return static_cast<double>(LogitOf(key)) >= least; }));
}

void ExpertRanking::KeepBest(size_t n, std::span<uint8_t> marks) {
  if (n >= n_experts()) return;
  std::ranges::copy(keys(), scratch_.begin());
  const auto end = scratch_.begin() + static_cast<ptrdiff_t>(n_experts());
  std::nth_element(scratch_.begin(), scratch_.begin() + static_cast<ptrdiff_t>(n), end, std::greater<>());
  const uint64_t first_out = scratch_[n];
  for (size_t i = 0; i < n_experts(); ++i) {
    if (keys_[i] <= first_out) marks[i] = 0;
  }
}

size_t ExpertRanking::CountForShare(double share) {
  const float largest = LogitOf(*std::ranges::max_element(keys()));
  const auto weight = [largest](uint64_t key) { return static_cast<double>(std::exp(LogitOf(key) - largest)); };
  double sum = 0;
  for (const uint64_t key : keys()) sum += weight(key);
  if (!std::isfinite(sum)) return 0;
  // A heap gives up the best one by one, and mostly few are asked for.
  const auto begin = scratch_.begin();
  auto end = std::ranges::copy(keys(), begin).out;
  std::make_heap(begin, end);
  double reached = 0;
  size_t n = 0;
  while (end != begin && reached < share * sum) {
    reached += weight(*begin);
    std::pop_heap(begin, end--);
    ++n;
  }
  return n;
}

void ExpertRanking::ChooseWithBonus(std::span<const uint8_t> preferred, double bonus, std::span<int32_t> chosen) {
  const auto liked = List(0, chosen.size()), others = List(1, chosen.size()), picked = List(2, chosen.size());
  for (size_t i = 0; i < n_experts(); ++i) Offer(keys_[i], preferred[i] != 0 ? liked : others);
  // In double, where the sum of two floats is as good as exact, and monotone in the bonus in any case.
  const auto is_liked_better = [bonus](uint64_t a, uint64_t b) {
    if (a == kNoKey || b == kNoKey || bonus == kAlways) return a != kNoKey;
    const double with_bonus = static_cast<double>(LogitOf(a)) + bonus, without = LogitOf(b);
    return with_bonus == without ? a > b : with_bonus > without;
  };
  size_t at_liked = 0, at_others = 0;
  for (uint64_t& key : picked) {
    key = is_liked_better(liked[at_liked], others[at_others]) ? liked[at_liked++] : others[at_others++];
  }
  std::ranges::sort(picked, std::greater<>());
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = static_cast<int32_t>(ExpertOf(picked[i]));
}

}  // namespace pantry
