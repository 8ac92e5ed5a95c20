// SPDX-License-Identifier: Apache-2.0
#include "models/weight_loader.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/units.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

constexpr int64_t kAlignment = 64;
constexpr size_t kMaxNamesInWarning = 4;
constexpr size_t kMaxNameChars = 100;  // of a tensor, in messages

}  // namespace

int32_t WeightLoader::LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  int32_t layer = -1;
  if (name.starts_with(kPrefix)) std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return layer;
}

// The tensor, or null with status_ set. `dims` in GGUF order.
const TensorInfo* WeightLoader::Want(const std::string& name, const std::vector<int64_t>& dims) {
  if (!status_.ok()) return nullptr;
  const TensorInfo* tensor = file_.FindTensor(name);
  if (tensor == nullptr) {
    status_ = CorruptionError(
        "{}: tensor '{}' is missing; expected one of dims [{}]. The file is incomplete or not of the architecture it "
        "names",
        file_.path(), name, fmt::join(dims, ", "));
    return nullptr;
  }
  const auto without_ones = [](std::vector<int64_t> sizes) {
    while (sizes.size() > 1 && sizes.back() == 1) sizes.pop_back();
    return sizes;
  };
  if (without_ones(tensor->dims) != without_ones(dims)) {
    status_ = CorruptionError("{}: tensor '{}' has the wrong dims: expected [{}], found [{}]", file_.path(), name,
                              fmt::join(dims, ", "), fmt::join(tensor->dims, ", "));
    return nullptr;
  }
  if (!TraitsOf(tensor->type).is_weight) {
    status_ = UnsupportedError("{}: tensor '{}' has type {}, which is no weight format", file_.path(), name,
                               TensorTypeName(tensor->type));
    return nullptr;
  }
  wanted_.insert(tensor);
  return tensor;
}

bool WeightLoader::CanLie(const std::string& name, WeightOrder order) const {
  const TensorInfo* tensor = file_.FindTensor(name);
  if (tensor == nullptr || tensor->in_blocks() || tensor->dims.size() < 2) return false;
  const bool is_left_in_file = in_file_ != nullptr && !leaves_neurons() && LayerOf(name) >= 0;
  if (is_left_in_file && left_ == Left::kLayers) return false;
  const MatMulKernel* kernel = FindMatMulKernel(tensor->type, isa_, order);
  if (kernel == nullptr) return false;
  return tensor->dims[1] % kernel->row_tile == 0;
}

bool WeightLoader::CanLieByNeuron(const std::string& gate, const std::string& up, const std::string& down) const {
  return may_lie_by_neuron_ && CanLie(gate, WeightOrder::kRows) && CanLie(up, WeightOrder::kRows) &&
         CanLie(down, WeightOrder::kColumns);
}

const MatMulKernel* WeightLoader::WantKernel(const TensorInfo& tensor, WeightOrder order) {
  const MatMulKernel* kernel = FindMatMulKernel(tensor.type, isa_, order);
  const MatMulKernel* packed =
      tensor.in_blocks() ? FindMatMulKernel(tensor.type, file_.pack()->layout(), order) : kernel;
  const bool lies_as_wanted =
      packed == kernel || (packed != nullptr && kernel != nullptr && packed->pack_tile == kernel->pack_tile);
  if (!lies_as_wanted) {
    const std::string_view packed_for = IsaName(file_.pack()->layout());
    status_ = UnsupportedError(
        "{}: it was packed for the kernels of {}, and these are {}'s. Options: --isa {} where the CPU has it, or pack "
        "the GGUF file again on this machine",
        file_.path(), packed_for, IsaName(isa_), packed_for);
    return nullptr;
  }
  if (kernel == nullptr) {
    status_ = UnsupportedError("{}: tensor '{}' has type {}, and there is no matrix kernel for it", file_.path(),
                               tensor.name, TensorTypeName(tensor.type));
  }
  return kernel;
}

void WeightLoader::RefuseBlocks(const TensorInfo& tensor) {
  status_ = UnsupportedError(
      "{}: tensor '{}' lies in blocks, where this version of Pantry never has it; pack the GGUF file again",
      file_.path(), Printable(tensor.name, kMaxNameChars));
}

void WeightLoader::LoadLastGroup(const uint8_t** tiles) {
  const WeightPlacer::Group& group = blocks_.groups().back();
  loaded_groups_.push_back({blocks_.groups().size() - 1, Reserve(group.n_blocks * group.block_bytes), tiles});
}

Status WeightLoader::EndBinding() {
  PANTRY_RETURN_IF_ERROR(status_);
  if (file_.pack() == nullptr) return OkStatus();
  if (file_.pack()->has_neurons() && !leaves_neurons()) {
    return status_ = UnsupportedError("{}: it is packed neuron by neuron and can only be streamed", file_.path());
  }
  WeightPlacer& blocks = in_file_ != nullptr ? *in_file_ : blocks_;
  return status_ = blocks.ReadFrom(*file_.pack()).WithContext(file_.path());
}

int64_t WeightLoader::Reserve(int64_t n_bytes) {
  const int64_t offset = n_bytes_;
  n_bytes_ += AlignUp(n_bytes, kAlignment);
  return offset;
}

void WeightLoader::Matrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out, WeightOrder order) {
  const TensorInfo* tensor = Want(name, {cols, rows});
  const MatMulKernel* kernel = tensor != nullptr ? WantKernel(*tensor, order) : nullptr;
  if (kernel == nullptr) return;
  *out = {.kernel = kernel, .rows = rows, .cols = cols};
  const bool may_be_left = left_ == Left::kLayers && LayerOf(name) >= 0 && !leaves_neurons();
  if (tensor->in_blocks() && !may_be_left) return RefuseBlocks(*tensor);
  const bool is_left = may_be_left && in_file_ != nullptr;
  if (is_left || tensor->in_blocks()) {
    (is_left ? in_file_ : &blocks_)->AddMatrix(LayerOf(name), *tensor, out);
    if (!is_left) LoadLastGroup(&out->tiles);
    bindings_.push_back({tensor, kernel, rows, cols, 1, kInBlocks, 0, nullptr, nullptr});
    return;
  }
  const int64_t offset = Reserve(WeightMatrix::PackedBytes(*kernel, rows, cols));
  bindings_.push_back({tensor, kernel, rows, cols, 1, offset, 0, &out->tiles, nullptr});
}

void WeightLoader::Rows(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out) {
  if (in_file_ == nullptr) return Matrix(name, rows, cols, out);
  const TensorInfo* tensor = Want(name, {cols, rows});
  const MatMulKernel* kernel = tensor != nullptr ? WantKernel(*tensor) : nullptr;
  if (kernel == nullptr) return;
  if (tensor->in_blocks()) return RefuseBlocks(*tensor);
  *out = {.kernel = kernel, .rows = rows, .cols = cols};
  in_file_->AddRows(*tensor, AlignUp(WeightMatrix::PackedBytes(*kernel, rows, cols), kAlignment));
  bindings_.push_back({tensor, kernel, rows, cols, 1, kInBlocks, 0, nullptr, nullptr});
}

NeuronLayout WeightLoader::LayNeurons(const TensorInfo& up, const WeightMatrix& up_shape,
                                      const WeightMatrix& down_shape, const WeightMatrix& gate_shape) {
  const ActivationFormat form = gate_shape.kernel->activation;
  if (up_shape.kernel->activation != form || down_shape.kernel->activation != form) {
    status_ = UnsupportedError("{}: tensor '{}' and the gate beside it cannot be multiplied with the same rows",
                               file_.path(), up.name);
    return {};
  }
  if (!leaves_neurons()) return NeuronLayout::InMemory(up_shape, down_shape);
  const NeuronLayout layout = NeuronLayout::InPack(up_shape, down_shape);
  const NeuronLayout* const others = in_file_->neurons();
  if (others != nullptr && (others->bundle_bytes != layout.bundle_bytes || others->n_neurons() != up_shape.rows)) {
    status_ = UnsupportedError(
        "{}: the neurons of '{}' take {} bytes each, those of layers before {}: only models whose layers are alike can "
        "be packed neuron by neuron (--no-sparse packs them in matrices)",
        file_.path(), up.name, layout.bundle_bytes, others->bundle_bytes);
  }
  return layout;
}

void WeightLoader::Neurons(const std::string& up_name, const std::string& down_name, int64_t n_ff, int64_t n_embd,
                           const WeightMatrix& gate, NeuronLayer* out) {
  const TensorInfo* const up = Want(up_name, {n_embd, n_ff});
  const TensorInfo* const down = Want(down_name, {n_ff, n_embd});
  if (!status_.ok()) return;
  const MatMulKernel* const up_kernel = WantKernel(*up, WeightOrder::kRows);
  const MatMulKernel* const down_kernel = WantKernel(*down, WeightOrder::kColumns);
  if (!status_.ok()) return;
  out->layout = LayNeurons(*up, {.kernel = up_kernel, .rows = n_ff, .cols = n_embd},
                           {.kernel = down_kernel, .rows = n_embd, .cols = n_ff}, gate);
  if (!status_.ok()) return;
  if (!leaves_neurons()) {
    const int64_t at = Reserve(out->layout.n_bytes());
    out->in_memory = true;
    ++n_by_neuron_;
    bindings_.push_back({up, up_kernel, n_ff, n_embd, 1, at, 0, &out->scales, nullptr, &out->layout});
    bindings_.push_back({down, down_kernel, n_embd, n_ff, 1, at, 0, nullptr, nullptr, &out->layout});
    return;
  }
  in_file_->AddNeurons(LayerOf(up_name), out->layout, *up, *down);
  if (up->in_blocks()) {
    const int64_t at = Reserve(out->layout.scales_bytes);
    loaded_scales_.push_back({in_file_->groups().size() - 1, out->layout.scales_bytes, at, &out->scales});
  }
  bindings_.push_back({up, up_kernel, n_ff, n_embd, 1, kInBlocks, 0, nullptr, nullptr});
  bindings_.push_back({down, down_kernel, n_embd, n_ff, 1, kInBlocks, 0, nullptr, nullptr});
}

void WeightLoader::Stack(const std::string& name, int64_t n, int64_t rows, int64_t cols, WeightStack* out) {
  const TensorInfo* tensor = Want(name, {cols, rows, n});
  const MatMulKernel* kernel = tensor != nullptr ? WantKernel(*tensor) : nullptr;
  if (kernel == nullptr) return;
  *out = {{.kernel = kernel, .rows = rows, .cols = cols},
          AlignUp(WeightMatrix::PackedBytes(*kernel, rows, cols), kAlignment)};
  bindings_.push_back(
      {tensor, kernel, rows, cols, n, Reserve(n * out->stride), out->stride, &out->first.tiles, nullptr});
}

void WeightLoader::Numbers(const std::string& name, const std::vector<int64_t>& dims, const float** out) {
  const TensorInfo* tensor = Want(name, dims);
  if (tensor == nullptr) return;
  const int64_t offset = Reserve(tensor->n_elements() * static_cast<int64_t>(sizeof(float)));
  bindings_.push_back({tensor, nullptr, tensor->n_rows(), tensor->row_elements(), 1, offset, 0, nullptr, out});
}

void WeightLoader::Vector(const std::string& name, int64_t n, const float** out) { Numbers(name, {n}, out); }

// Files of old converters have a tensor for each expert, some others gate and up in one.
void WeightLoader::CheckExpertsAreStacked(const std::string& block) {
  for (const char* other : {"ffn_gate.0.weight", "ffn_gate_up_exps.weight"}) {
    if (!status_.ok() || file_.FindTensor(block + other) == nullptr) continue;
    status_ = UnsupportedError(
        "{}: tensor '{}{}': this version reads experts from 'ffn_gate_exps', 'ffn_up_exps' and 'ffn_down_exps' only; "
        "convert the model again with a current converter",
        file_.path(), block, other);
  }
}

void WeightLoader::Experts(const std::string& block, int64_t n_experts, int64_t n_embd, int64_t n_ff, ExpertLayer* out,
                           bool by_neuron) {
  CheckExpertsAreStacked(block);
  const TensorInfo* const gate = Want(block + "ffn_gate_exps.weight", {n_embd, n_ff, n_experts});
  const TensorInfo* const up = Want(block + "ffn_up_exps.weight", {n_embd, n_ff, n_experts});
  const TensorInfo* const down = Want(block + "ffn_down_exps.weight", {n_ff, n_embd, n_experts});
  if (!status_.ok()) return;
  bool one_by_one = by_neuron && leaves_neurons();
  if (gate->in_blocks()) {
    const PackOrder order = file_.pack()->groups()[static_cast<size_t>(gate->pack_group)].order;
    if (order != PackOrder::kTiles && !by_neuron) return RefuseBlocks(*gate);
    by_neuron = order != PackOrder::kTiles;
    one_by_one = order == PackOrder::kGateAndNeurons;
    if (one_by_one && !leaves_neurons()) return;                      // EndBinding() says why
    if (!one_by_one && leaves_neurons()) return RefuseBlocks(*gate);  // as those of other layers
  } else {
    by_neuron = by_neuron && CanLieByNeuron(gate->name, up->name, down->name);
  }
  const ExpertBlock shape = {
      {.kernel = WantKernel(*gate, gate_order(by_neuron && !gate->in_blocks())), .rows = n_ff, .cols = n_embd},
      {.kernel = WantKernel(*up, by_neuron ? WeightOrder::kRows : WeightOrder::kTiles), .rows = n_ff, .cols = n_embd},
      {.kernel = WantKernel(*down, by_neuron ? WeightOrder::kColumns : WeightOrder::kTiles),
       .rows = n_embd,
       .cols = n_ff}};
  if (!status_.ok()) return;
  if (shape.gate.kernel->activation != shape.up.kernel->activation) {
    status_ =
        UnsupportedError("{}: tensor '{}' has type {} and '{}' {}: they cannot be multiplied with the same rows",
                         file_.path(), gate->name, TensorTypeName(gate->type), up->name, TensorTypeName(up->type));
    return;
  }
  for (const auto& [part, n, bias] : {std::tuple("gate", n_ff, &out->biases.gate),
                                      {"up", n_ff, &out->biases.up},
                                      {"down", n_embd, &out->biases.down}}) {
    const std::string name = fmt::format("{}ffn_{}_exps.bias", block, part);
    if (file_.FindTensor(name) != nullptr) Numbers(name, {n, n_experts}, bias);
  }
  if (!status_.ok()) return;
  out->layout = ExpertLayout::Of(shape);
  out->n_experts = static_cast<int32_t>(n_experts);
  if (one_by_one) return ExpertNeurons(LayerOf(block), *gate, *up, *down, out);
  if (gate->in_blocks() && left_ != Left::kExperts) return RefuseBlocks(*gate);
  const bool is_left = left_ == Left::kExperts && in_file_ != nullptr;
  if (is_left || gate->in_blocks()) {
    (is_left ? in_file_ : &blocks_)->AddExperts(LayerOf(block), out->n_experts, out->layout, *gate, *up, *down);
    if (!is_left) LoadLastGroup(&out->blocks);
    bindings_.push_back({gate, shape.gate.kernel, n_ff, n_embd, n_experts, kInBlocks, 0, nullptr, nullptr});
    bindings_.push_back({up, shape.up.kernel, n_ff, n_embd, n_experts, kInBlocks, 0, nullptr, nullptr});
    bindings_.push_back({down, shape.down.kernel, n_embd, n_ff, n_experts, kInBlocks, 0, nullptr, nullptr});
    return;
  }
  const int64_t stride = out->layout.n_bytes, at = Reserve(n_experts * stride);
  bindings_.push_back({gate, shape.gate.kernel, n_ff, n_embd, n_experts, at, stride, &out->blocks, nullptr});
  bindings_.push_back(
      {up, shape.up.kernel, n_ff, n_embd, n_experts, at + out->layout.up_offset, stride, nullptr, nullptr});
  bindings_.push_back(
      {down, shape.down.kernel, n_embd, n_ff, n_experts, at + out->layout.down_offset, stride, nullptr, nullptr});
}

void WeightLoader::ExpertNeurons(int32_t layer, const TensorInfo& gate, const TensorInfo& up, const TensorInfo& down,
                                 ExpertLayer* out) {
  const ExpertBlock& shape = out->layout.shape;
  const bool has_biases = out->biases.gate != nullptr || out->biases.up != nullptr || out->biases.down != nullptr;
  if (has_biases || !out->layout.is_by_neuron()) {
    status_ =
        UnsupportedError("{}: the experts of '{}' cannot lie neuron by neuron, as those of other layers do: they {}",
                         file_.path(), gate.name, has_biases ? "have biases" : "are in formats without kernels for it");
    return;
  }
  if (ExpertRun::ScratchFloats(shape.down.rows) != shape.down.rows) {
    status_ = UnsupportedError(
        "{}: '{}' has {} rows; experts are read neuron by neuron where these are a multiple of 16, "
        "and 64 or more",
        file_.path(), down.name, shape.down.rows);
    return;
  }
  out->neurons = LayNeurons(up, shape.up, shape.down, shape.gate);
  if (!status_.ok()) return;
  out->neurons_at = WeightPlacer::NeuronsAt(shape.gate);
  in_file_->AddExpertNeurons(layer, out->n_experts, shape.gate, out->neurons, gate, up, down);
  for (const auto& [tensor, part] : {std::pair(&gate, &shape.gate), {&up, &shape.up}, {&down, &shape.down}}) {
    bindings_.push_back({tensor, part->kernel, part->rows, part->cols, out->n_experts, kInBlocks, 0, nullptr, nullptr});
  }
}

void WeightLoader::OptionalMatrix(const std::string& name, int64_t rows, int64_t cols, WeightMatrix* out) {
  if (file_.FindTensor(name) != nullptr) Matrix(name, rows, cols, out);
}

void WeightLoader::OptionalVector(const std::string& name, int64_t n, const float** out) {
  if (file_.FindTensor(name) != nullptr) Vector(name, n, out);
}

void WeightLoader::ForEachMatrix(
    const std::function<void(const std::string&, const WeightMatrix&, int64_t)>& visit) const {
  for (const Binding& binding : bindings_) {
    if (binding.kernel != nullptr) visit(binding.tensor->name, binding.matrix(), binding.n_matrices);
  }
}

// A tensor without a place in the arithmetic is worth a warning; a bias certainly has one, and without it every answer is wrong.
Status WeightLoader::CheckUnused(Logger& log) const {
  std::vector<std::string> names;
  size_t n_unused = 0;
  for (const TensorInfo& tensor : file_.tensors()) {
    if (wanted_.contains(&tensor)) continue;
    if (tensor.name.starts_with("blk.") && tensor.name.ends_with(".bias")) {
      return UnsupportedError(
          "{}: tensor '{}' is a bias that this version does not know in a model of this architecture; it would "
          "compute wrong results without it",
          file_.path(), Printable(tensor.name, kMaxNameChars));
    }
    if (++n_unused <= kMaxNamesInWarning) names.push_back(Printable(tensor.name, kMaxNameChars));
  }
  if (n_unused == 0) return OkStatus();
  log.Warning("{}: {} tensor{} not used by this architecture: {}{}", file_.path(), n_unused,
              n_unused == 1 ? " is" : "s are", fmt::join(names, ", "), n_unused > names.size() ? ", ..." : "");
  return OkStatus();
}

}  // namespace pantry
