// SPDX-License-Identifier: Apache-2.0
// A TransformerModel is what the architectures of this folder share around their forward pass: loading, workspace, argument checks.
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

class TransformerModel : public Model {
 public:
  // Names every tensor of the model to `loader`; errors stay in the loader.
  virtual void Bind(WeightLoader& loader) = 0;
  // Called once when the weights are in memory: the place for tables that depend on them.
  virtual Status Prepare() = 0;

  Status LoadWeights(WeightLoader& loader, Isa isa, ThreadPool& pool, Logger& log, const LoadProgress& progress);

  Result<std::unique_ptr<Workspace>> MakeWorkspace(int64_t max_tokens) const override;
  int64_t WorkspaceBytes(int64_t max_tokens) const override { return ForwardWorkspaceBytes(shape_, max_tokens); }

 protected:
  explicit TransformerModel(ModelShape shape) {
    shape_ = std::move(shape);
    if (shape_.has_experts()) experts_.resize(static_cast<size_t>(shape_.n_layers));
  }
  const ExpertLayer& ExpertsOf(int32_t layer) const { return experts_[static_cast<size_t>(layer)]; }
  // Everything about the arguments of Forward() that can be wrong.
  Status CheckRun(const ForwardRun& run, const Workspace& workspace) const;
  Status CheckPart(const RunPart& part) const;
  // Positions that a layer attends to; 0: all.
  int64_t WindowOf(size_t layer) const;
  // Frequency factors of a file divide, so each must be a positive number. `factors` may be null.
  static Status CheckRopeFactors(std::string_view tensor, const float* factors, int64_t n);

 private:
  AlignedBuffer weights_;
  bool needs_source_ = false;   // experts, or the matrices of layers, are not among the weights
  bool needs_neurons_ = false;  // but those of layers' neurons
  bool needs_rows_ = false;     // nor is the embedding
};

// The architectures, one file each.
std::unique_ptr<TransformerModel> MakeLlama(ModelShape shape);
std::unique_ptr<TransformerModel> MakeQwen2(ModelShape shape);
std::unique_ptr<TransformerModel> MakeQwen3(ModelShape shape);
std::unique_ptr<TransformerModel> MakeDeepSeek2(ModelShape shape);
std::unique_ptr<TransformerModel> MakeGptOss(ModelShape shape);
std::unique_ptr<TransformerModel> MakeMixtral(ModelShape shape);
std::unique_ptr<TransformerModel> MakeOlmoe(ModelShape shape);
std::unique_ptr<TransformerModel> MakePhiMoe(ModelShape shape);
std::unique_ptr<TransformerModel> MakeQwen2Moe(ModelShape shape);
std::unique_ptr<TransformerModel> MakeQwen3Moe(ModelShape shape);
std::unique_ptr<TransformerModel> MakeSmallThinker(ModelShape shape);
std::unique_ptr<TransformerModel> MakePhi3(ModelShape shape);
std::unique_ptr<TransformerModel> MakeGemma2(ModelShape shape);
std::unique_ptr<TransformerModel> MakeGemma3(ModelShape shape);

}  // namespace pantry
