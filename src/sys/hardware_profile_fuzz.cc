// SPDX-License-Identifier: Apache-2.0
// Whatever a profile's file holds, reading it ends with a profile or a message, and a profile that was read is written and read alike.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sys/hardware_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto profile = pantry::HardwareProfileFromJson({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!profile.ok()) return 0;
  const std::string json = pantry::ToJson(*profile);
  const auto again = pantry::HardwareProfileFromJson(json, "fuzz");
  if (!again.ok() || pantry::ToJson(*again) != json) __builtin_trap();
  return 0;
}
