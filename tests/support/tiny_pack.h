// SPDX-License-Identifier: Apache-2.0
// A tiny model as a .pantry file in a folder of its own.
#pragma once

#include <fstream>
#include <string>

#include "engine/pack_plan.h"
#include "io/output_file.h"
#include "support/temporary_files.h"
#include "support/tiny_engine.h"
#include "weights/pack/pack_writer.h"

namespace pantry::testing {

class TinyPack {
 public:
  explicit TinyPack(const std::string& name, NeuronPacking neurons = NeuronPacking::kWhereWorthIt)
      : path_(folder_.path() + "/" + name + ".pantry") {
    NullLogger log;
    const auto file = OpenGguf(TinyModel(name));
    const auto plan = PlanPack(*file, BestIsa(), neurons);
    PANTRY_CHECK(plan.ok());
    const auto out = OpenOutputFile(path_, false);
    PANTRY_CHECK(out.ok());
    const auto report = WritePack(*file, *plan, **out, {}, log, {});
    PANTRY_CHECK(report.ok());
  }
  const std::string& path() const { return path_; }
  void FlipBit(uint64_t at) const {
    std::fstream bytes(path_, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(static_cast<std::streamoff>(at));
    const auto flipped = static_cast<char>(bytes.get() ^ 1);
    bytes.seekp(static_cast<std::streamoff>(at));
    bytes.put(flipped);
  }

 private:
  TemporaryFolder folder_;
  std::string path_;
};

}  // namespace pantry::testing
