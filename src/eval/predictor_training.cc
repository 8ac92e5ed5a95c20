// SPDX-License-Identifier: Apache-2.0
#include "eval/predictor_training.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

#include "base/units.h"
#include "eval/firing_recorder.h"
#include "eval/observed_text.h"
#include "weights/profile/neuron_profile.h"
#include "weights/quant/dequantize.h"
#include "weights/quant/half.h"

namespace pantry {
namespace {

// Rows that a network is trained on at most, and half as many that are held back: the gain from more than some thousands is small.
constexpr int64_t kMostRows = 4096;
constexpr int64_t kLeastRows = 64;
constexpr float kMostHalf = 65504;  // the largest number of F16

std::string GateName(const ModelShape& shape, int64_t layer) {
  return fmt::format("blk.{}.ffn_gate{}.weight", layer, shape.has_experts() ? "_exps" : "");
}

Status CheckGatesAreInRows(const GgufFile& file, const ModelShape& shape) {
  for (int64_t layer = 0; layer < shape.n_layers; ++layer) {
    const std::string name = GateName(shape, layer);
    const TensorInfo* const tensor = file.FindTensor(name);
    if (tensor == nullptr) return UnsupportedError("{}: there is no tensor '{}' to learn from", file.path(), name);
    if (!tensor->in_blocks()) continue;
    return UnsupportedError(
        "{}: a pack, whose tensor '{}' does not lie row by row; train with the GGUF file that it was "
        "made of, and -o {}",
        file.path(), name, PredictorFile::PathBeside(file.path()));
  }
  return OkStatus();
}

// A network's gate as the file has it, row by row.
class GateOf {
 public:
  // REQUIRES: CheckGatesAreInRows().
  static Result<GateOf> Read(const GgufFile& file, const ModelShape& shape, int64_t layer, int64_t expert) {
    const TensorInfo* const tensor = file.FindTensor(GateName(shape, layer));
    GateOf gate(tensor->type, tensor->dims[0]);
    gate.bytes_.resize(static_cast<size_t>(tensor->dims[1] * gate.row_bytes()));
    PANTRY_RETURN_IF_ERROR(file.ReadTensor(*tensor, static_cast<uint64_t>(expert) * gate.bytes_.size(), gate.bytes_));
    return gate;
  }
  int64_t row_bytes() const { return RowBytes(type_, n_inputs_); }
  void Row(int64_t neuron, float* out) const {
    DequantizeRow(type_, bytes_.data() + neuron * row_bytes(), n_inputs_, out);
  }

 private:
  GateOf(TensorType type, int64_t n_inputs) : type_(type), n_inputs_(n_inputs) {}
  TensorType type_;
  int64_t n_inputs_;
  std::vector<uint8_t> bytes_;
};

std::vector<uint16_t> ToF16(const std::vector<float>& numbers) {
  std::vector<uint16_t> halves(numbers.size());
  std::ranges::transform(numbers, halves.begin(),
                         [](float x) { return F32ToF16(std::clamp(x, -kMostHalf, kMostHalf)); });
  return halves;
}

PredictorFile::Network AsNetwork(const TrainedPredictor& trained) {
  PredictorFile::Network network;
  network.recall = static_cast<float>(trained.quality.recall);
  network.density = static_cast<float>(trained.quality.density);
  network.true_share = static_cast<float>(trained.quality.true_share);
  if (!trained.predictor) return network;
  const LowRankPredictor& predictor = *trained.predictor;
  network.rank = static_cast<int32_t>(predictor.rank);
  network.bias = predictor.bias;
  network.v = ToF16(predictor.v);
  std::vector<float> by_neuron(predictor.u.size());
  for (int64_t k = 0; k < predictor.rank; ++k) {
    for (int64_t i = 0; i < predictor.n_neurons; ++i) {
      by_neuron[static_cast<size_t>(i * predictor.rank + k)] =
          predictor.u[static_cast<size_t>(k * predictor.n_neurons + i)];
    }
  }
  network.u = ToF16(by_neuron);
  return network;
}

struct Recorded {
  FiringRecorder train, held_out;
};

// How many rows of each network can be kept, at most n_tokens and kMostRows. What a row takes: itself in F16 for every network, and in F32
// for each that is trained at once, both by half more for what is held back; beside them lie gates, fits and Adam's numbers of those, and
// the predictors that are found, twice as they are written.
Result<int64_t> RowsThatFit(const GgufFile& gguf, const PredictorFile& file, const ModelShape& shape, int64_t n_threads,
                            int64_t n_tokens, const PredictorTrainingOptions& options) {
  constexpr int64_t kMatricesOfAFit =
      16;  // of a predictor in F32: directions, fits, gradients, moments, the best so far
  const int64_t n_networks = int64_t{file.n_layers} * file.n_networks, n_at_once = std::min(n_threads, n_networks);
  const int64_t width = int64_t{file.n_inputs} + file.n_neurons, most_rank = options.train.most_rank;
  const TensorInfo& gate = *gguf.FindTensor(GateName(shape, 0));
  const int64_t of_predictor = width * most_rank + 2 * file.n_neurons;  // numbers
  const int64_t fixed_bytes =
      n_at_once * (file.n_neurons * RowBytes(gate.type, gate.dims[0]) + kMatricesOfAFit * 4 * of_predictor) +
      n_networks * 2 * 2 * of_predictor;
  // The scores of what fires are sorted in F32, too: at most all of what is held back.
  const int64_t row_bytes =
      3 * width * (2 * n_networks + 4 * n_at_once) / 2 + 2 * n_at_once * 4 * (file.n_neurons + most_rank);
  const int64_t n_wanted = std::min(kMostRows, n_tokens), n_least = std::min(kLeastRows, n_tokens);
  const int64_t n_rows = std::min(n_wanted, (options.room_bytes - fixed_bytes) / row_bytes);
  if (n_rows >= n_least) return n_rows;
  return Status(StatusCode::kOutOfBudget,
                fmt::format("training {} networks of {} neurons takes {} beside the model for {} tokens of each, and "
                            "there are {}. Options: more --memory, fewer --threads",
                            n_networks, file.n_neurons, FormatBytes(fixed_bytes + n_least * row_bytes), n_least,
                            FormatBytes(std::max<int64_t>(options.room_bytes, 0))));
}

size_t WindowsToLearnFrom(const ObservedText& windows) { return windows.n() - std::max<size_t>(1, windows.n() / 5); }

Status Record(Engine& engine, const ObservedText& windows, const PredictorTrainingOptions& options,
              const TrainingCallbacks& callbacks, Recorded& recorded) {
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options.session()));
  const size_t n_train = WindowsToLearnFrom(windows);
  const auto n_tokens = static_cast<int64_t>(windows.tokens.size());
  const auto asking = [&](size_t first) -> std::function<bool(int64_t)> {
    if (!callbacks.on_token) return {};
    return [&, first](int64_t n_done) {
      return callbacks.on_token(static_cast<int64_t>(first * windows.length) + n_done, n_tokens);
    };
  };
  const auto at_window = [&](size_t i) {
    return i == 1 && !recorded.train.has_heard() ? SilentNeurons(engine.shape()) : OkStatus();
  };
  PANTRY_RETURN_IF_ERROR(windows.Read(engine, *session, 0, n_train, recorded.train, at_window, asking(0)));
  return windows.Read(engine, *session, n_train, windows.n(), recorded.held_out, at_window, asking(n_train));
}

}  // namespace

Status PredictorTrainingOptions::Validate() const {
  PANTRY_RETURN_IF_ERROR(ObservedTextOptions::Validate(kLeastTokens, kLeastWindow));
  return train.Validate();
}

Result<TrainedPredictors> TrainPredictors(Engine& engine, std::string_view text,
                                          const PredictorTrainingOptions& options, const TrainingCallbacks& callbacks) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const ModelShape& shape = engine.shape();
  if (!shape.gates_by_relu()) {
    return UnsupportedError("the model's neurons do not gate by ReLU: none of them rests. See --sparsity");
  }
  TrainedPredictors trained;
  PredictorFile& file = trained.file;
  file.model = shape.name;
  file.n_layers = shape.n_layers;
  file.n_networks = std::max(shape.n_experts, 1);
  file.n_inputs = shape.n_embd;
  file.n_neurons = shape.n_neurons();
  file.recall = options.train.recall;
  PANTRY_ASSIGN_OR_RETURN(file.weights, NormsHash(engine.file()));
  PANTRY_RETURN_IF_ERROR(CheckGatesAreInRows(engine.file(), shape));
  PANTRY_ASSIGN_OR_RETURN(const ObservedText windows,
                          ObservedText::Cut(engine, text, std::min(options.n_ctx, options.max_tokens / 5),
                                            options.max_tokens, PredictorTrainingOptions::kLeastTokens));
  if (windows.n() < 2)
    return InvalidArgumentError(
        "the text is one window: a part must be held back. Use a longer text, or a smaller --ctx-size");
  file.n_tokens = static_cast<int64_t>(windows.tokens.size());
  const auto n_to_learn = static_cast<int64_t>(WindowsToLearnFrom(windows) * windows.length);
  PANTRY_ASSIGN_OR_RETURN(trained.most_rows,
                          RowsThatFit(engine.file(), file, shape, engine.pool().n_threads(), n_to_learn, options));
  trained.is_short_of_memory = trained.most_rows < std::min(kMostRows, n_to_learn);
  const auto recorder = [&](int64_t most_rows) {
    return FiringRecorder(file.n_layers, file.n_networks, file.n_inputs, file.n_neurons, most_rows);
  };
  Recorded recorded = {recorder(trained.most_rows), recorder(trained.most_rows / 2)};
  PANTRY_RETURN_IF_ERROR(Record(engine, windows, options, callbacks, recorded));

  const int64_t n_networks = int64_t{file.n_layers} * file.n_networks;
  file.networks.resize(static_cast<size_t>(n_networks));
  trained.tried.resize(static_cast<size_t>(n_networks));
  std::atomic<int64_t> n_done = 0;
  std::atomic<bool> is_cancelled = false;
  std::mutex mutex;  // guards status
  Status status;
  engine.pool().ParallelFor(n_networks, [&](int64_t i, int thread) {
    const auto keep_going = [&, thread] {
      if (thread == 0 && callbacks.on_network && !callbacks.on_network(n_done, n_networks)) is_cancelled = true;
      return !is_cancelled;
    };
    const auto train = [&]() -> Status {
      if (!keep_going()) return CancelledError("stopped while predictors were trained");
      PANTRY_ASSIGN_OR_RETURN(const GateOf gate,
                              GateOf::Read(engine.file(), shape, i / file.n_networks, i % file.n_networks));
      const auto row = [&](int64_t neuron, float* out) { gate.Row(neuron, out); };
      PANTRY_ASSIGN_OR_RETURN(const TrainedPredictor predictor,
                              TrainPredictor(recorded.train.Samples(i), recorded.held_out.Samples(i), GateRow(row),
                                             static_cast<double>(gate.row_bytes()), options.train, keep_going));
      file.networks[static_cast<size_t>(i)] = AsNetwork(predictor);
      trained.tried[static_cast<size_t>(i)] = predictor.tried;
      return OkStatus();
    };
    const Status one = train();
    ++n_done;
    if (one.ok()) return;
    is_cancelled = true;
    const std::lock_guard lock(mutex);
    if (status.ok() || status.code() == StatusCode::kCancelled) status = one;
  });
  PANTRY_RETURN_IF_ERROR(status);
  return trained;
}

}  // namespace pantry
