// SPDX-License-Identifier: Apache-2.0
// Small models, traces and devices that the tests of this folder share.
#pragma once

#include <vector>

#include "sim/device_profile.h"
#include "sim/routing_trace.h"
#include "sim/sim_model.h"

namespace pantry::testing {

// Two cores, and a flash of a latency and a limit of bytes: the more under way and the larger, the faster.
inline DeviceProfile SmallDevice(double flash_bytes_per_s = 2e9) {
  DeviceProfile device;
  device.name = "small";
  device.n_cores = 2;
  device.dram_read_bytes_per_s = {{1, 10e9}, {2, 20e9}};
  device.int8_ops_per_s = {{1, 400e9}, {2, 800e9}};
  device.f32_flops = {{1, 100e9}, {2, 200e9}};
  for (const int64_t block : {4096, 65536, 1 << 20}) {
    for (const int32_t depth : {1, 4, 32}) {
      const double seconds = 80e-6 / depth + static_cast<double>(block) / flash_bytes_per_s;
      device.flash.push_back({block, depth, static_cast<double>(block) / seconds, 0});
    }
  }
  device.read_cpu_us = 5;
  device.place_bytes_per_s = 5e9;
  device.step_us = 2;
  return device;
}

// n_layers of n_experts, of which n_used are wanted; an expert is three pieces of piece_bytes.
inline SimModel SmallModel(int n_layers = 6, int n_experts = 16, int n_used = 4, int64_t piece_bytes = 200'000) {
  SimModel model;
  model.name = "small";
  model.n_experts = n_experts;
  model.n_used = n_used;
  uint64_t offset = 0;
  for (int layer = 0; layer < n_layers; ++layer) {
    SimStep& step = model.steps.emplace_back();
    step.before = {.bytes = 4e6, .int8_macs = 7e6, .n_steps = 6};
    step.layer = layer;
    step.first_block = static_cast<uint32_t>(model.blocks.size());
    step.n_blocks = static_cast<uint32_t>(n_experts);
    for (int expert = 0; expert < n_experts; ++expert) {
      std::vector<BlockPiece> pieces;
      for (int i = 0; i < 3; ++i, offset += static_cast<uint64_t>(piece_bytes) + (1 << 20)) {
        pieces.push_back({0, offset, static_cast<size_t>(piece_bytes)});
      }
      model.AddBlock(layer, 3 * piece_bytes, 3.0 * static_cast<double>(piece_bytes) / kQ4Bytes, pieces);
    }
  }
  model.after = {.bytes = 20e6, .int8_macs = 35e6, .n_steps = 1};
  model.kv_bytes_per_position = 20'000;
  return model;
}

inline RoutingTrace SmallTrace(const SimModel& model, int n_tokens = 60, uint64_t seed = 1) {
  return MakeTrace({"small", model.n_layers(), model.n_experts, model.n_used}, {.n_tokens = n_tokens, .seed = seed});
}

}  // namespace pantry::testing
