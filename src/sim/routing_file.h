// SPDX-License-Identifier: Apache-2.0
// A routing file is a recording of what a model's routers chose: lines of JSON, a header and then one line for each layer of each run.
//
//   {"pantry_routing":1,"model":"...","first_layer":1,"n_layers":26,"n_experts":64,"n_used":6,"ranked":true,"block_bytes":[5767168,...]}
//   {"t":0,"n":7,"layer":1,"experts":[0,3,17,...],"counts":[1,5,2,...]}     a prompt of 7 tokens: all that were chosen, and by how many
//   {"t":7,"n":1,"layer":1,"experts":[17,4,40,3,9,61],"logits":"mpmZPw..."} a token
//
// "t" counts the tokens that were computed since the recording began, whatever conversation they belong to; lines of one run share it. Layers
// and experts are numbered as in the model: the first of the n_layers that have experts is first_layer. Where "ranked" is true, a single
// token's experts are in the order of its router's liking, else and in a prompt they ascend. "counts" may be missing. "experts" are those that
// ran; "logits", which may be missing, too, are what the router said of all n_experts: numbers of 32 bits, little-endian, in base64 without
// padding. "block_bytes" are those of an expert of each layer, or [] where they are not known. Whoever reads it skips members he does not know.
// A file whose end is missing (the program was stopped) is whole up to its last line break.
// Threads: thread-compatible.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/logger.h"
#include "base/routing_observer.h"
#include "base/status.h"
#include "residency/cache/block_info.h"
#include "sim/routing_trace.h"

namespace pantry {

struct RoutingHeader {
  std::string model;
  int32_t first_layer = 0;
  int32_t n_layers = 0;  // that have experts
  int32_t n_experts = 0;
  int32_t n_used = 0;
  bool is_ranked = false;
  std::vector<int64_t> block_bytes;  // [n_layers], or none
};

class RoutingFileWriter final : public RoutingObserver {
 public:
  // Begins the file anew. `log` must outlive the writer: it is told once if a line cannot be written, and nothing is recorded any more.
  static Result<std::unique_ptr<RoutingFileWriter>> Create(const std::string& path, Logger& log);

  void Begin(const RoutingHeader& header);  // before anything else
  void Routed(int32_t layer, int64_t n_tokens, std::span<const float> logits, std::span<const int32_t> chosen) override;
  // The same where only the set is known.
  void Wanted(int32_t layer, std::span<const int32_t> experts) { Add(layer, experts, {}, {}); }
  // The run of `n_tokens` whose layers were told has succeeded: its lines are written, and in the file at once. Those of a run that did not
  // come so far are dropped when the next one begins.
  void EndRun(int64_t n_tokens);

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  struct Line {
    int32_t layer;
    size_t end;         // in experts_ and counts_
    size_t logits_end;  // in logits_
  };
  RoutingFileWriter(std::string path, std::FILE* file, Logger& log) : path_(std::move(path)), log_(log), file_(file) {}
  void Add(int32_t layer, std::span<const int32_t> experts, std::span<const int32_t> counts,
           std::span<const float> logits);
  void ForgetLines();
  void Write();

  std::string path_;
  Logger& log_;
  std::unique_ptr<std::FILE, CloseFile> file_;  // null after an error
  int64_t n_tokens_ = 0;                        // of the runs before
  std::vector<int32_t> picks_of_;               // by expert; scratch
  std::vector<int32_t> union_;                  // scratch
  std::vector<Line> lines_;                     // of the run at hand
  std::vector<int32_t> experts_;                // of all of them
  std::vector<int32_t> counts_;                 // likewise, or 0
  std::vector<float> logits_;
  fmt::memory_buffer text_;
};

struct RecordedRouting {
  RoutingHeader header;
  std::vector<BlockInfo>
      blocks;  // of a cache that is to replay it: block of (layer, expert) = (layer - first_layer) * n_experts + expert
  RoutingTrace trace;  // an event's blocks ascend, as the engine demands them
};

// kNotFound, kIoError; kCorruption names the line. Blocks whose size is not known count as a page.
Result<RecordedRouting> ReadRoutingTrace(const std::string& path);
Result<RecordedRouting> ParseRoutingTrace(std::string_view text, std::string_view origin);

}  // namespace pantry
