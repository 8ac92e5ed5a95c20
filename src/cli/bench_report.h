// SPDX-License-Identifier: Apache-2.0
// A BenchReport writes the results of `pantry bench` as a table for people, Markdown, CSV or JSON.
//
// Text goes out piece by piece, so that a long run shows what is done: Begin() once, Row() for each result, End() once, also after a
// cancelled run. Beside tok/s stands what that means for the machine: bytes and operations a second, and their share of its measured
// limits. "-" and null: there is no such figure, never a guess.
// Threads: thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "eval/speed.h"
#include "sys/hardware_profile.h"

namespace pantry {

enum class BenchFormat : uint8_t { kTable, kMarkdown, kCsv, kJson, kJsonLines };
Result<BenchFormat> ParseBenchFormat(std::string_view name);  // kInvalidArgument lists the names

struct BenchModel {
  std::string name;  // what the file calls it, else the file's name
  std::string file;  // without its folder
  std::string architecture;
  std::string type;  // number format of most of its bytes: "Q4_1"
  int64_t n_params = 0;
  int64_t n_bytes = 0;  // of its tensors in the file
  int64_t weight_bytes = 0;
  ModelCost cost;
};

// What all results have in common.
struct BenchSetup {
  std::string version;  // of pantry
  BenchModel model;
  HardwareProfile machine;  // its rates may be missing
  std::string isa;
  std::string k_type;
  std::string v_type;
  std::string tokens;
  std::string expert_policy;  // "": exact
  std::string neuron_policy;  // likewise
};

// A result as rates, and as shares (0..1) of what the machine can do with so many threads; negative: not known.
struct BenchRates {
  double gb_per_s = 0;  // bytes read; 1e9
  double gops = 0;      // operations of matrices
  double dram_share = -1;
  double int8_share = -1;     // of the machine's int8 peak, by the operations on 8-bit activations
  double f32_share = -1;      // of its F32 peak, by the other ones
  double compute_share = -1;  // both: the time they would take at the peaks, of the time that passed
};
BenchRates RatesOf(const SpeedResult& result, const HardwareProfile& machine);

class BenchReport {
 public:
  BenchReport(BenchFormat format, BenchSetup setup) : format_(format), setup_(std::move(setup)) {}
  std::string Begin() const;
  std::string Row(const SpeedResult& result, int64_t peak_rss_bytes);
  std::string End() const;

 private:
  BenchFormat format_;
  BenchSetup setup_;
  std::vector<std::string> json_rows_;
};

}  // namespace pantry
