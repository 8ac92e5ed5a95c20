// SPDX-License-Identifier: Apache-2.0
#include "sim/neuron_sensitivity.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace pantry {
namespace {

constexpr double kMostShare = 0.99;

struct Setup {
  DeviceProfile device;
  NeuronOptions options;
};

void ScaleFlash(DeviceProfile& device, double factor, bool is_one_read) {
  for (DiskRate& cell : device.flash) {
    if ((cell.queue_depth == 1) == is_one_read) cell.bytes_per_s *= factor;
  }
}

struct Constant {
  std::string_view name;
  void (*scale)(Setup&, double factor);
};

constexpr Constant kConstants[] = {
    {"named", [](Setup& s, double f) { s.options.named = std::min(f * s.options.named, kMostShare); }},
    {"fires", [](Setup& s, double f) { s.options.fires = std::min(f * s.options.fires, 1.0); }},
    {"overread", [](Setup& s, double f) { s.options.overread = std::max(f * s.options.overread, 1.0); }},
    {"skew", [](Setup& s, double f) { s.options.skew *= f; }},
    {"moves", [](Setup& s, double f) { s.options.stays = std::max(1 - f * (1 - s.options.stays), 0.0); }},
    {"hot", [](Setup& s, double f) { s.options.hot = std::min(f * s.options.hot, kMostShare * s.options.in_memory); }},
    {"dense", [](Setup& s, double f) { s.options.dense = std::min(f * s.options.dense, kMostShare); }},
    {"predictor", [](Setup& s, double f) { s.options.predictor = std::min(f * s.options.predictor, kMostShare); }},
    {"first_position",
     [](Setup& s, double f) {
       s.options.first_position = std::llround(f * static_cast<double>(s.options.first_position));
     }},
    {"flash, one read", [](Setup& s, double f) { ScaleFlash(s.device, f, true); }},
    {"flash, several", [](Setup& s, double f) { ScaleFlash(s.device, f, false); }},
    {"memory of cores",
     [](Setup& s, double f) {
       for (ThreadRate& rate : s.device.dram_read_bytes_per_s) rate.per_s *= f;
     }},
    {"memory of all", [](Setup& s, double f) { s.device.dram_bytes_per_s *= f; }},
    {"step_us", [](Setup& s, double f) { s.device.step_us *= f; }},
};

constexpr auto kNames = [] {
  std::array<std::string_view, std::size(kConstants)> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kConstants[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> SensitiveConstants() { return kNames; }

Result<NeuronSensitivity> VaryConstant(std::string_view constant, double factor, const DeviceProfile& device,
                                       const NeuronOptions& options, std::span<const AblationStep> steps) {
  const auto* const found = std::find_if(std::begin(kConstants), std::end(kConstants),
                                         [&](const Constant& each) { return each.name == constant; });
  if (found == std::end(kConstants)) return InvalidArgumentError("the ablation has no constant '{}'", constant);
  if (!(factor > 0 && factor < 100)) {
    return InvalidArgumentError("'{}' times {}: the factor must lie above 0 and below 100", constant, factor);
  }
  Setup setup = {device, options};
  found->scale(setup, factor);
  PANTRY_ASSIGN_OR_RETURN(const std::vector<AblationStep> varied, NeuronAblation(setup.device, setup.options));
  if (varied.size() != steps.size()) return InvalidArgumentError("{} steps, expected {}", steps.size(), varied.size());
  NeuronSensitivity sensitivity = {std::string(constant), {}};
  for (size_t i = 0; i < varied.size(); ++i) {
    sensitivity.change.push_back(varied[i].report.tok_per_s() / steps[i].report.tok_per_s() - 1);
  }
  return sensitivity;
}

}  // namespace pantry
