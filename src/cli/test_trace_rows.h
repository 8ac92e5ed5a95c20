// SPDX-License-Identifier: Apache-2.0
// What viewers of a trace rely on, checked: for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pantry {

struct SliceSeen {
  int64_t begin;
  int64_t end;
  std::string name;
};

// The slices of each row, by its name, by begin. Every row must have a name, a slice must lie within the one before or after it, and a
// counter's times must ascend.
inline std::map<std::string, std::vector<SliceSeen>> RowsOf(const nlohmann::json& trace) {
  std::map<int, std::string> names;
  std::map<int, std::vector<SliceSeen>> slices;
  std::map<std::string, int64_t> counter_at;
  for (const nlohmann::json& event : trace) {
    EXPECT_EQ(event.at("pid"), 1);
    const std::string phase = event.at("ph");
    if (phase == "M" && event.at("name") == "thread_name") {
      EXPECT_TRUE(names.emplace(event.at("tid"), event.at("args").at("name")).second);
    } else if (phase == "X") {
      EXPECT_GE(event.at("dur"), 0);
      const int64_t begin = event.at("ts");
      slices[event.at("tid")].push_back({begin, begin + event.at("dur").get<int64_t>(), event.at("name")});
    } else if (phase == "C") {
      int64_t& before = counter_at[event.at("name")];
      EXPECT_LE(before, event.at("ts"));
      before = event.at("ts");
    }
  }
  std::map<std::string, std::vector<SliceSeen>> rows;
  for (auto& [row, of_row] : slices) {
    EXPECT_EQ(names.count(row), 1u) << row;
    std::sort(of_row.begin(), of_row.end(), [](const SliceSeen& a, const SliceSeen& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
    std::vector<int64_t> open;  // ends
    for (const SliceSeen& slice : of_row) {
      while (!open.empty() && open.back() <= slice.begin) open.pop_back();
      EXPECT_TRUE(open.empty() || slice.end <= open.back()) << names[row] << " " << slice.name << " " << slice.begin;
      open.push_back(slice.end);
    }
    rows[names[row]] = of_row;
  }
  return rows;
}

}  // namespace pantry
