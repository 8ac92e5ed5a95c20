// SPDX-License-Identifier: Apache-2.0
// Whatever a routing file holds, reading it ends with a message, or with a trace whose events fit its block table.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sim/routing_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto read = pantry::ParseRoutingTrace({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!read.ok()) return 0;
  for (size_t i = 0; i < read->trace.events.size(); ++i) {
    const auto& event = read->trace.events[i];
    if (event.n_tokens < 1 || (i == 0 && !event.begins_step)) __builtin_trap();
    for (const pantry::BlockId block : read->trace.blocks_of(i)) {
      if (block.value() >= read->blocks.size() || read->blocks[block.value()].layer != event.layer) __builtin_trap();
    }
  }
  return 0;
}
