// SPDX-License-Identifier: Apache-2.0
// Whatever a device profile holds, reading it ends with a message, or with a device that can be written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sim/device_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto device = pantry::DeviceProfileFromJson({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!device.ok()) return 0;
  if (!device->Validate().ok()) __builtin_trap();
  const std::string text = pantry::ToJson(*device);
  const auto again = pantry::DeviceProfileFromJson(text, "fuzz");
  if (!again.ok() || pantry::ToJson(*again) != text) __builtin_trap();
  return 0;
}
