// SPDX-License-Identifier: Apache-2.0
#include "sim/device_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "sim/sim_test_models.h"

namespace pantry {
namespace {

std::string Shipped(const std::string& name) {
  const std::ifstream file(std::string(PANTRY_SOURCE_DIR) + "/src/sim/devices/" + name + ".json");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(DeviceProfile, ComesBackAsItWasWritten) {
  DeviceProfile device = testing::SmallDevice();
  device.second = SecondExecutor{"unit", 5e10, 1e13};
  device.sources = {{"flash", "measured"}};
  const auto again = DeviceProfileFromJson(ToJson(device), "test");
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ(ToJson(*again), ToJson(device));
  EXPECT_EQ(again->flash.size(), device.flash.size());
  EXPECT_EQ(again->second->name, "unit");
}

TEST(DeviceProfile, ShippedOnesAreValidAndNameASourceOfEveryNumber) {
  for (const std::string name : {"oneplus12", "ace2"}) {
    const std::string text = Shipped(name);
    const auto device = DeviceProfileFromJson(text, name);
    ASSERT_TRUE(device.ok()) << device.status().ToString();
    const auto json = nlohmann::json::parse(text);
    for (const auto& [field, value] : json.items()) {
      if (field == "pantry_device" || field == "name" || field == "sources") continue;
      EXPECT_TRUE(device->sources.contains(field)) << name << ": " << field;
    }
  }
}

// What is wrong is named, and nothing is guessed or left unread.
TEST(DeviceProfile, WrongOnesAreRefusedWithTheField) {
  const auto message = [](auto change) {
    auto json = nlohmann::ordered_json::parse(ToJson(testing::SmallDevice()));
    change(json);
    return std::string(DeviceProfileFromJson(json.dump(), "test").status().message());
  };
  using ::testing::HasSubstr;
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_THAT(message([](auto& j) { j.erase("flash_depth"); }), HasSubstr("'flash_depth' is missing"));
  EXPECT_THAT(message([](auto& j) { j["flash_dept"] = 1; }), HasSubstr("'flash_dept' is not a field"));
  EXPECT_THAT(message([](auto& j) { j["flash"][0]["rate"] = 1; }), HasSubstr("'flash[0].rate' is not a field"));
  EXPECT_THAT(message([](auto& j) { j["n_cores"] = 0; }), HasSubstr("'n_cores'"));
  EXPECT_THAT(message([](auto& j) { j["n_cores"] = "two"; }), HasSubstr("'n_cores': expected"));
  EXPECT_THAT(message([](auto& j) { j["flash_share"] = 0; }), HasSubstr("'flash_share'"));
  EXPECT_THAT(message([](auto& j) { j["flash"][1]["bytes_per_s"] = -5; }), HasSubstr("'flash'"));
  EXPECT_THAT(message([](auto& j) { j["dram_read_bytes_per_s"][1]["n_cores"] = 1; }), HasSubstr("ascend"));
  EXPECT_THAT(message([](auto& j) { j["second"] = {{"name", "unit"}}; }), HasSubstr("second.dram_bytes_per_s"));
  EXPECT_THAT(message([](auto& j) { j["f32_flops"] = nlohmann::json::array(); }), HasSubstr("'f32_flops' is empty"));
  EXPECT_THAT(message([](auto& j) { j["flash_depth"] = -1; }), HasSubstr("0 to 2147483647"));
  EXPECT_THAT(message([](auto& j) { j["dram_bytes_per_s"] = 1e-300; }), HasSubstr("at least 1"));
  EXPECT_THAT(message([](auto& j) { j["int8_ops_per_s"][0]["per_s"] = 1e-300; }), HasSubstr("at least 1"));
  EXPECT_THAT(message([](auto& j) { j["memory_share"] = 1e-300; }), HasSubstr("'memory_share'"));
  EXPECT_EQ(DeviceProfileFromJson("{\"pantry_device\": 9}", "test").status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(DeviceProfileFromJson("[", "test").status().code(), StatusCode::kCorruption);
}

TEST(DeviceProfile, OfThisHostHasWhatDoctorMeasured) {
  HardwareProfile machine;
  machine.cpu_name = "cpu";
  machine.n_usable_cores = 3;
  machine.dram_read_bytes_per_s = {{1, 10e9}, {3, 25e9}};
  machine.disk.emplace().random = {{4096, 1, 5e7, 80}};
  const DeviceProfile device = DeviceOf(machine);
  EXPECT_TRUE(device.Validate().ok());
  EXPECT_EQ(device.n_cores, 3);
  EXPECT_EQ(device.Rates(3, 4096).memory_bytes_per_s, 25e9);
  ASSERT_EQ(device.Rates(3, 4096).disk.size(), 1u);
  EXPECT_EQ(device.Rates(3, 4096).disk[0].bytes_per_s, 5e7);
  EXPECT_EQ(device.sources.at("flash"), "pantry doctor");
  EXPECT_THAT(device.sources.at("wake_us"), ::testing::HasSubstr("not measured on this host"));
  const auto json = nlohmann::json::parse(ToJson(device));
  for (const auto& [field, value] : json.items()) {
    if (field == "pantry_device" || field == "name" || field == "sources") continue;
    EXPECT_TRUE(device.sources.contains(field)) << field;
  }
}

}  // namespace
}  // namespace pantry
