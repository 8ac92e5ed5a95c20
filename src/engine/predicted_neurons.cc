// SPDX-License-Identifier: Apache-2.0
#include "engine/predicted_neurons.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/units.h"
#include "engine/find_profile.h"
#include "io/reader.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/profile/neuron_profile.h"
#include "weights/profile/predictor_file.h"

namespace pantry {
namespace {

constexpr size_t kMaxNameChars = 100;
constexpr int64_t kAlignment = 64;  // of a matrix's tiles

std::string HowToMakeOne(const GgufFile& file) {
  return HowToProfile(file, "profile train", PredictorFile::PathBeside(std::string(file.path())));
}

Result<PredictorFile> ReadPredictors(const std::string& path, const GgufFile& file) {
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path);
  if (reader.status().code() == StatusCode::kNotFound) {
    return NotFoundError("--predictor: there is no file '{}'. {}", path, HowToMakeOne(file));
  }
  if (!reader.ok()) return reader.status();
  return PredictorFile::Read(**reader);
}

Status CheckIsOf(const PredictorFile& predictors, const std::string& path, const GgufFile& file,
                 const ModelShape& shape) {
  PANTRY_ASSIGN_OR_RETURN(const uint64_t weights, NormsHash(file));
  const int32_t n_networks = std::max(shape.n_experts, 1);
  const int32_t n_neurons = shape.n_neurons();
  const bool is_same_shape = predictors.n_layers == shape.n_layers && predictors.n_networks == n_networks &&
                             predictors.n_inputs == shape.n_embd && predictors.n_neurons == n_neurons;
  if (is_same_shape && predictors.weights == weights) return OkStatus();
  return InvalidArgumentError(
      "{}: predictors of another model, '{}' ({} layers of {} networks of {} neurons; this one is '{}', {} of {} of "
      "{}{}). {}",
      path, Printable(predictors.model, kMaxNameChars), predictors.n_layers, predictors.n_networks,
      predictors.n_neurons, Printable(shape.name, kMaxNameChars), shape.n_layers, n_networks, n_neurons,
      is_same_shape ? ", with other weights" : "", HowToMakeOne(file));
}

// Where a network's parts lie, from `at` on; `memory` null: only how much they take.
int64_t Place(const PredictorFile& file, const PredictorFile::Network& from, const MatMulKernel& kernel,
              uint8_t* memory, NeuronPredictor* to) {
  if (!from.has_predictor()) return 0;
  int64_t at = 0;
  const auto matrix = [&](const std::vector<uint16_t>& halves, int64_t rows, int64_t cols) {
    WeightMatrix placed = {.kernel = &kernel, .rows = rows, .cols = cols};
    if (memory != nullptr) {
      PackRows(kernel, reinterpret_cast<const uint8_t*>(halves.data()), 2 * cols, rows, cols, memory + at);
      placed.tiles = memory + at;
    }
    at += AlignUp(WeightMatrix::PackedBytes(kernel, rows, cols), kAlignment);
    return placed;
  };
  if (from.rank > 0) {
    to->v = matrix(from.v, from.rank, file.n_inputs);
    to->u = matrix(from.u, file.n_neurons, from.rank);
  }
  if (memory != nullptr) {
    std::memcpy(memory + at, from.bias.data(), from.bias.size() * sizeof(float));
    to->bias = reinterpret_cast<const float*>(memory + at);
  }
  return at + AlignUp(static_cast<int64_t>(from.bias.size() * sizeof(float)), kAlignment);
}

}  // namespace

PredictedNeurons::Counts PredictedNeurons::Counts::operator-(const Counts& before) const {
  Counts since;
  since.n_neurons = n_neurons - before.n_neurons;
  since.n_gates = n_gates - before.n_gates;
  since.n_predicted = n_predicted - before.n_predicted;
  since.n_firing = n_firing - before.n_firing;
  since.n_missed = n_missed - before.n_missed;
  return since;
}

Result<std::unique_ptr<PredictedNeurons>> PredictedNeurons::Load(const PredictorOptions& options, const GgufFile& file,
                                                                 const ModelShape& shape, Isa isa, Logger& log) {
  if (options.file.empty()) return {nullptr};
  if (!shape.gates_by_relu()) {
    log.Warning("--predictor: no effect here because the model's neurons do not gate by ReLU: none of them rests");
    return {nullptr};
  }
  PANTRY_ASSIGN_OR_RETURN(const PredictorFile predictors, ReadPredictors(options.file, file));
  PANTRY_RETURN_IF_ERROR(CheckIsOf(predictors, options.file, file, shape));
  const MatMulKernel& kernel = *FindMatMulKernel(TensorType::kF16, isa);
  auto predicted = std::unique_ptr<PredictedNeurons>(new PredictedNeurons());
  predicted->networks_.resize(predictors.networks.size());
  int64_t n_bytes = 0;
  PredictorRun& run = predicted->run_;
  for (const PredictorFile::Network& network : predictors.networks) {
    NeuronPredictor unused;
    n_bytes += Place(predictors, network, kernel, nullptr, &unused);
    run.most_rank = std::max<int64_t>(run.most_rank, network.rank);
  }
  if (n_bytes == 0) {
    log.Warning("--predictor: no effect here because '{}' found no network worth predicting", options.file);
    return {nullptr};
  }
  PANTRY_ASSIGN_OR_RETURN(predicted->memory_, AlignedBuffer::Allocate(static_cast<size_t>(n_bytes)));
  uint8_t* memory = predicted->memory_.data();
  for (size_t i = 0; i < predictors.networks.size(); ++i) {
    memory += Place(predictors, predictors.networks[i], kernel, memory, &predicted->networks_[i]);
  }
  predicted->wanted_recall_ = predictors.recall;
  predicted->n_used_ = std::max(shape.n_experts_used, 1);
  run.networks = predicted->networks_;
  run.n_networks = predictors.n_networks;
  run.all_rows = options.all_rows;
  return predicted;
}

PredictorRun& PredictedNeurons::BeginRun(int64_t n_tokens) {
  const int64_t n_rows = run_.all_rows ? n_tokens : 1;
  const auto n_needed = static_cast<size_t>(n_rows * n_used_ * run_.most_rank);
  if (reduced_.size() < n_needed) reduced_.resize(n_needed);
  run_.reduced = reduced_.data();
  return run_;
}

PredictedNeurons::Counts PredictedNeurons::counts() const {
  Counts counts;
  counts.n_neurons = run_.n_neurons;
  counts.n_gates = run_.n_gates;
  counts.n_predicted = run_.n_predicted;
  counts.n_firing = run_.n_firing;
  counts.n_missed = run_.n_missed;
  return counts;
}

void SayWherePredictingSavesNothing(const Model& model, Logger& log) {
  const std::span<const ExpertLayer> experts = model.experts();
  const auto n_layers = static_cast<int64_t>(model.shape().n_layers);
  const int64_t n_in_rows =
      experts.empty() ? model.layers_by_neuron() : std::ranges::count_if(experts, [](const ExpertLayer& layer) {
        return layer.layout && layer.layout.has_gate_in_rows();
      });
  if (n_in_rows == n_layers) return;
  log.Warning(
      "--predictor: costs quality and saves no time in {}, whose gates do not lie one by one: those of Q4_0 and Q8_0 "
      "do whose model's width is a multiple of 256, of a GGUF file (no pack), without --no-sparse",
      n_in_rows == 0 ? "any layer" : fmt::format("{} of {} layers", n_layers - n_in_rows, n_layers));
}

}  // namespace pantry
