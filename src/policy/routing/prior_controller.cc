// SPDX-License-Identifier: Apache-2.0
#include "policy/routing/prior_controller.h"

#include <algorithm>
#include <cmath>

namespace pantry {
namespace {

// A loss that grows with the square of the strength, seen over 8 tokens, is followed without overshoot at a gain of 0.02 (damping 0.9); far
// below the aim, where the loss says little yet, three times as fast.
constexpr double kSmoothing = 1.0 / 8;
constexpr double kGain = 0.02;
constexpr double kFastGain = 0.06;
constexpr double kFallPerToken = 0.1;  // from full strength to none in some 50 tokens
constexpr double kLeast = 0.02;        // weaker changes next to nothing: begins here, ends here
// Of the loss that is allowed: what varies around the aim stays below the bound.
constexpr double kAim = 0.85;
constexpr double kWorstFades = 0.02;  // a token
constexpr double kWorstFactor = 2;
// Before anything was seen: the loss of gate mass is at most this times the strength (on the model that cost_of_mass is from: 0.13 in the mean).
constexpr double kFirstLoss = 0.3;

}  // namespace

double PriorController::Change(double aim) const {
  const double headroom = std::clamp(1 - loss_ / aim, -1.0, 1.0);
  if (wait_share_ < options_.hidden_below) return -kFallPerToken;
  if (headroom < 0) return kGain * headroom * 2;  // down twice as fast as up
  if (wait_share_ <= options_.waiting_above) return 0;
  return (headroom > 0.5 ? kFastGain : kGain) * headroom;
}

bool PriorController::MayPassTheBound(const RoutingCounts& counts, int64_t n_of_token, double strength) const {
  const double allowed = options_.max_cost / options_.cost_of_mass;
  const double worst = worst_loss_ > 0 ? kWorstFactor * worst_loss_ : kFirstLoss * strength;
  const double lost = static_cast<double>(counts.n_choices) - counts.share_kept;
  const auto n = static_cast<double>(n_of_token);
  return lost + n * worst > (static_cast<double>(counts.n_choices) + n) * allowed;
}

void PriorController::Note(const RoutingCounts& counts) {
  n_choices_ = counts.n_choices;
  share_kept_ = counts.share_kept;
}

double PriorController::Next(double wait_share, const RoutingCounts& counts) {
  const int64_t n_new = counts.n_choices - n_choices_;
  if (n_new <= 0) return last_strength_;  // a prompt, or no expert at all
  const double loss = std::clamp(1 - (counts.share_kept - share_kept_) / static_cast<double>(n_new), 0.0, 1.0);
  Note(counts);
  if (wait_share >= 0) wait_share_ += kSmoothing * (std::min(wait_share, 1.0) - wait_share_);
  if (last_strength_ > 0) {  // a token that was held back says nothing of what strength costs
    loss_ += kSmoothing * (loss - loss_);
    worst_loss_ = std::max(loss, worst_loss_ * (1 - kWorstFades));
  } else if (strength_ == 0) {
    loss_ -= kSmoothing * loss_;
    worst_loss_ *= 1 - kWorstFades;
  }
  const double aim = kAim * options_.max_cost / options_.cost_of_mass;
  if (!(aim > 0)) return last_strength_ = strength_ = 0;
  const double change = Change(aim);
  if (strength_ == 0 && change > 0) strength_ = kLeast;
  strength_ = std::min(strength_ * (1 + change), options_.max_strength);
  if (strength_ < kLeast && change < 0) strength_ = 0;
  last_strength_ = MayPassTheBound(counts, n_new, strength_) ? 0 : strength_;
  return last_strength_;
}

}  // namespace pantry
