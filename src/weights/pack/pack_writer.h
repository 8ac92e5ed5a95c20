// SPDX-License-Identifier: Apache-2.0
// WritePack() writes a model as a .pantry file: checks, resumes, writes, reads everything back, and only then gives the file its name.
//
// What is written lies in OUT.part until the end. Its checksums are its journal: they are stored as blocks are written, and a run that
// finds an OUT.part with the very head it would write keeps each block whose bytes have their checksums, whatever order the disk wrote
// them in and wherever the run before was killed; everything else is written again. So nothing that was not verified is ever trusted.
//
//   checking what is there (resumed runs) -> packing: read window k+1 and place its pieces | hash and write window k -> verifying -> named
//
// Memory: two windows of 32 MiB (or of the largest block), and a piece for each lane. Neither file stays in the page cache.
// Threads: called from one, works on several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/logger.h"
#include "base/status.h"
#include "io/output_file.h"
#include "weights/gguf/gguf_file.h"
#include "weights/pack/pack_plan.h"

namespace pantry {

struct PackOptions {
  bool verify = true;              // read everything back before the file gets its name
  int n_lanes = 8;                 // threads that read, place and check
  size_t window_bytes = 32 << 20;  // written at once
};

enum class PackStep : uint8_t { kChecking, kPacking, kVerifying };
// Called some times a second with the bytes done and to be done in this step. false: stop.
using PackProgress = std::function<bool(PackStep step, uint64_t n_done, uint64_t n_total)>;

struct PackReport {
  uint64_t file_bytes = 0;
  uint64_t kept_bytes = 0;  // of blocks that an earlier run had written
  uint32_t n_blocks = 0;
};

// kInvalidArgument when `out_path`, or its .part, is a file of the model itself.
Status CheckPackPath(const GgufFile& source, const std::string& out_path);

// kInvalidArgument: nothing to pack, packed already. kIoError: reading, writing, no room, the disk gives back other bytes than it got;
// kCancelled. Whenever it fails, OUT.part stays, and the next call with the same model and plan goes on from there.
Result<PackReport> WritePack(const GgufFile& source, const PackPlan& plan, OutputFile& out, const PackOptions& options,
                             Logger& log, const PackProgress& progress);

}  // namespace pantry
