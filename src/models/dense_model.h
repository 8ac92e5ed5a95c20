// SPDX-License-Identifier: Apache-2.0
// A DenseModel is what the architectures of this folder share around their forward pass: loading, workspace, argument checks.
//
// An architecture adds two functions: Bind() names its tensors, Forward() is its arithmetic, written out in a straight line with the
// steps of forward_pass.h. What differs between architectures is visible there and nowhere else.
// Threads: as Model.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "models/model.h"
#include "models/weight_loader.h"
#include "sys/aligned_buffer.h"

namespace pantry {

class DenseModel : public Model {
 public:
  // Names every tensor of the model to `loader`; errors stay in the loader.
  virtual void Bind(WeightLoader& loader) = 0;
  // Called once when the weights are in memory: the place for tables that depend on them.
  virtual Status Prepare() = 0;

  Status LoadWeights(WeightLoader& loader, Isa isa, ThreadPool& pool, Logger& log, const LoadProgress& progress);

  Result<std::unique_ptr<Workspace>> MakeWorkspace(int64_t max_tokens) const override;
  int64_t WorkspaceBytes(int64_t max_tokens) const override { return ForwardWorkspaceBytes(shape_, max_tokens); }

 protected:
  explicit DenseModel(ModelShape shape) { shape_ = std::move(shape); }
  // Everything about the arguments of Forward() that can be wrong.
  Status CheckRun(const ForwardRun& run, const Workspace& workspace) const;
  // Positions that a layer attends to; 0: all.
  int64_t WindowOf(size_t layer) const;
  // Frequency factors of a file divide, so each must be a positive number. `factors` may be null.
  static Status CheckRopeFactors(std::string_view tensor, const float* factors, int64_t n);

 private:
  AlignedBuffer weights_;
};

// The architectures, one file each.
std::unique_ptr<DenseModel> MakeLlama(ModelShape shape);
std::unique_ptr<DenseModel> MakeQwen2(ModelShape shape);
std::unique_ptr<DenseModel> MakeQwen3(ModelShape shape);
std::unique_ptr<DenseModel> MakePhi3(ModelShape shape);
std::unique_ptr<DenseModel> MakeGemma2(ModelShape shape);
std::unique_ptr<DenseModel> MakeGemma3(ModelShape shape);

}  // namespace pantry
