// SPDX-License-Identifier: Apache-2.0
#include "compute/expert_matmul.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/firing_gates.h"
#include "base/status.h"
#include "base/units.h"
#include "compute/product_chunks.h"

namespace pantry {
namespace {

// Outputs of gate and up are computed, activated and quantised in strips of whole units. A unit is a block of activations, and whole
// tiles of every kernel.
constexpr int64_t kUnit = kActivationBlock;
constexpr int64_t kPartAlignment = 64;  // bytes
constexpr int64_t kMostOutputs = NeuronPredictor::kMostAtOnce;
// Rows that are computed together, so that what a kernel makes of a tile's codes serves all of them, and rows * outputs of a strip: with those of
// up 64 KiB, which L2 keeps. A prompt of 512 tokens, smallthinker-4b on AMX: 4 % faster than 16 rows in 16 KiB; OLMoE, and AVX512-VNNI: the same.
constexpr int64_t kRowsTogether = 64;
constexpr int64_t kStripFloats = 8192;
// Bytes that come from memory cost a single row what the arithmetic of some more rows costs.
constexpr int64_t kRowsPerFetch = 3;
// Chunks of few rows (kSparseRows) are large: a chunk's gates are one stream, up another, or rows here and there, and each change costs more than a
// microsecond. 14336 neurons, 17 % firing, gate and up on two threads of Granite Rapids: chunks of 256 KiB 1.70 ms, 2 MiB 1.47, 4 MiB 1.42;
// all of them (--no-sparse) 2.23, 2.11, 2.11.
constexpr int64_t kMaxFewRowsBytes = 4 << 20;

int64_t PartBytes(const WeightMatrix& part) {
  return AlignUp(WeightMatrix::PackedBytes(*part.kernel, part.rows, part.cols), kPartAlignment);
}

// n_rows x n_cols of one form, laid out in `room`: ExpertRun::ScratchFloats(n_cols) floats for each row are enough.
ActivationRows RowsInRoom(ActivationFormat form, float* room, int64_t n_rows, int64_t n_cols) {
  auto* const bytes = reinterpret_cast<uint8_t*>(room);
  if (form == ActivationFormat::kQ8) return ActivationRows::InScratch(nullptr, n_rows, n_cols, bytes);
  ActivationRows rows = {.n_rows = n_rows, .n_cols = n_cols};
  if (form == ActivationFormat::kF32) rows.f32 = room;
  else rows.bf16 = reinterpret_cast<uint16_t*>(bytes);
  return rows;
}

// Brings a row from F32 into another form.
void Convert(const MatMulKernel& kernel, const ActivationRows& rows, int64_t row) {
  if (kernel.activation == ActivationFormat::kQ8) VectorOpsFor(kernel.isa).quantize_row(rows, row);
  if (kernel.activation == ActivationFormat::kBf16) RoundRowToBf16(rows, row);
}

int64_t StrideOf(const WeightMatrix& outputs) { return ExpertRun::ScratchFloats(outputs.rows); }

// Whether the rows of x that a task's picks are of follow each other.
bool IsRun(const ExpertRun& run, const ExpertTask& task) {
  const int32_t* const rows = run.pick_row + task.first_pick;
  for (int64_t i = 1; i < task.n_picks; ++i) {
    if (rows[i] != rows[0] + i) return false;
  }
  return true;
}

// These rows as one run of rows: in place where they are one.
ActivationRows InputOf(const ExpertRun& run, const ExpertTask& task) {
  if (IsRun(run, task)) return run.x.Rows(run.pick_row[task.first_pick], task.n_picks);
  return RowsInRoom(run.layout->shape.gate.kernel->activation,
                    run.partials + task.first_pick * StrideOf(run.layout->shape.down), task.n_picks, run.x.n_cols);
}

ActivationRows HiddenOf(const ExpertRun& run, const ExpertTask& task) {
  return RowsInRoom(run.layout->shape.down.kernel->activation,
                    run.ff + task.first_pick * StrideOf(run.layout->shape.gate), task.n_picks,
                    run.layout->shape.down.cols);
}

// Gathers the rows of tasks whose are no run.
void Gather(ThreadPool& pool, const ExpertRun& run, std::span<const ExpertTask> tasks) {
  if (std::ranges::all_of(tasks, [&](const ExpertTask& task) { return IsRun(run, task); })) return;
  const ActivationFormat form = run.layout->shape.gate.kernel->activation;
  pool.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t item, int) {
    const ExpertTask& task = tasks[static_cast<size_t>(item)];
    if (IsRun(run, task)) return;
    const ActivationRows gathered = InputOf(run, task);
    for (int64_t i = 0; i < task.n_picks; ++i) {
      CopyActivationRow(form, run.x.Rows(run.pick_row[task.first_pick + i], 1), gathered.Rows(i, 1));
    }
  });
}

// What a pick's predictor found in its row.
float* ReducedOf(const ExpertRun& run, int64_t pick) {
  return run.prediction->reduced + pick * run.prediction->most_rank;
}

// What the tasks' predictors look for in their rows. A single row goes through all of them as one product.
void ReduceRows(ThreadPool& pool, const ExpertRun& run, std::span<const ExpertTask> tasks) {
  if (std::ranges::all_of(tasks, [](const ExpertTask& task) { return task.predictor == nullptr; })) return;
  PANTRY_CHECK(run.prediction != nullptr && run.x.f32 != nullptr);
  if (run.x.n_rows > 1) {
    pool.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t item, int) {
      const ExpertTask& task = tasks[static_cast<size_t>(item)];
      for (int64_t pick = task.first_pick; task.predictor != nullptr && pick < task.first_pick + task.n_picks; ++pick)
        task.predictor->Reduce(run.x.Rows(run.pick_row[pick], 1), ReducedOf(run, pick));
    });
    return;
  }
  std::array<MatMulTask, kMaxMatMulTasks> products;
  size_t n = 0;
  const auto flush = [&] {
    if (n > 0) MatMul(pool, {products.data(), n}, run.x);
    n = 0;
  };
  for (const ExpertTask& task : tasks) {
    if (task.predictor == nullptr || task.predictor->rank() == 0) continue;
    products[n++] = {&task.predictor->v, ReducedOf(run, task.first_pick), task.predictor->rank()};
    if (n == products.size()) flush();
  }
  flush();
}

// Units of all tasks one after another, each with its cost, cut into equal shares of cost.
class Shares {
 public:
  Shares(const ThreadPool& pool, std::span<const ExpertTask> tasks, int64_t n_units, int64_t unit_bytes)
      : n_units_(n_units), n_tasks_(tasks.size()) {
    PANTRY_CHECK(n_tasks_ <= kMaxExpertTasks);
    int64_t n_rows = 0;
    for (size_t i = 0; i < n_tasks_; ++i) {
      first_cost_[i] = total_cost_;
      total_cost_ += n_units * UnitCost(tasks[i]);
      n_rows += tasks[i].n_picks;
    }
    const int64_t total_bytes = static_cast<int64_t>(n_tasks_) * n_units * unit_bytes;
    const int64_t mean_rows = n_rows / static_cast<int64_t>(n_tasks_);
    const int64_t max_bytes = mean_rows <= kSparseRows ? kMaxFewRowsBytes : kMaxChunkBytes;
    const int64_t round_bytes = ChunkBytes(total_bytes, mean_rows, pool.n_threads(), max_bytes) * pool.n_threads();
    n_shares_ = (total_bytes + round_bytes - 1) / round_bytes * pool.n_threads();
  }
  int64_t n_shares() const { return n_shares_; }

  // Calls body(task index, first unit, end unit) for the parts of a share.
  template <typename Body>
  void ForEach(int64_t share, std::span<const ExpertTask> tasks, const Body& body) const {
    const int64_t begin_cost = total_cost_ * share / n_shares_, end_cost = total_cost_ * (share + 1) / n_shares_;
    for (size_t i = 0; i < n_tasks_ && first_cost_[i] < end_cost; ++i) {
      const int64_t begin = UnitAt(begin_cost - first_cost_[i], UnitCost(tasks[i]));
      const int64_t end = UnitAt(end_cost - first_cost_[i], UnitCost(tasks[i]));
      if (begin < end) body(tasks[i], begin, end);
    }
  }

 private:
  static int64_t UnitCost(const ExpertTask& task) { return task.n_picks + kRowsPerFetch; }
  // The first unit that begins at `cost` or behind it; n_units if none does.
  int64_t UnitAt(int64_t cost, int64_t unit_cost) const {
    return std::clamp<int64_t>((cost + unit_cost - 1) / unit_cost, 0, n_units_);
  }

  int64_t n_units_;
  size_t n_tasks_;
  int64_t total_cost_ = 0;
  int64_t n_shares_ = 0;
  std::array<int64_t, kMaxExpertTasks> first_cost_;
};

// y[row, i] = outputs [begin, begin + n) of a matrix. `begin` is where a tile begins.
void Multiply(const WeightMatrix& w, int64_t begin, int64_t n, const ActivationRows& x, float* y, int64_t y_stride) {
  const int64_t tile = w.kernel->row_tile;
  w.kernel->compute(w.tiles + begin / tile * w.kernel->packed_tile_bytes(w.cols), n, w.cols, 0, (n + tile - 1) / tile,
                    x, y, y_stride);
}

// out[n] = the activation of gate[n] and up's rows from `at` on, which are computed where gate fires only. NaN fires.
void ActivateFiring(const ExpertRun& run, const ExpertTask& task, const WeightMatrix& up, int64_t at,
                    const ActivationRows& x, std::span<const float> gate, float* out) {
  std::array<int32_t, kMostOutputs> list;
  std::array<float, kMostOutputs> of_gate, of_up;
  size_t n = 0;
  for (size_t i = 0; i < gate.size(); ++i) {
    list[n] = static_cast<int32_t>(at) + static_cast<int32_t>(i);
    of_gate[n] = gate[i];
    n += FiringGates::Positive().Contain(gate[i]) ? 1 : 0;
  }
  const auto n_firing = static_cast<int64_t>(n);
  MultiplyListed(up, {list.data(), n}, x, of_up.data());
  for (size_t i = 0; task.bias.up != nullptr && i < n; ++i) of_up[i] += task.bias.up[list[i]];
  run.activation(of_gate.data(), of_up.data(), n_firing, of_up.data());
  std::fill_n(out, gate.size(), 0.0f);
  for (size_t i = 0; i < n; ++i) out[list[i] - at] = of_up[i];
}

// Outputs [begin, end) of gate and up, activated, in the form that down reads.
void ComputeHidden(const ExpertRun& run, const ExpertTask& task, int64_t begin, int64_t end) {
  const ExpertBlock block = run.layout->View(task.block);
  const ActivationRows x = InputOf(run, task), hidden = HiddenOf(run, task);
  const bool only_firing = run.layout->is_by_neuron() && task.n_picks <= kSparseRows;
  const bool only_predicted = task.predictor != nullptr && run.layout->has_gate_in_rows() && run.x.n_rows == 1;
  alignas(64) float gate[kStripFloats];
  alignas(64) float up[kStripFloats];
  for (int64_t row = 0; row < task.n_picks; row += kRowsTogether) {
    const int64_t n_rows = std::min(kRowsTogether, task.n_picks - row);
    const ActivationRows group = x.Rows(row, n_rows);
    const int64_t width = std::min(kMostOutputs, kStripFloats / n_rows / kUnit * kUnit);
    for (int64_t at = begin; at < end; at += width) {
      const int64_t n = std::min(width, end - at);
      if (!only_predicted) Multiply(block.gate, at, n, group, gate, n);
      if (!only_firing) Multiply(block.up, at, n, group, up, n);
      for (int64_t i = 0; i < n_rows; ++i) {
        if (only_predicted) {
          run.prediction->Count(n, task.predictor->ComputePredicted(ReducedOf(run, task.first_pick), block.gate,
                                                                    task.bias.gate, at, n, group, gate));
        } else if (task.bias.gate) {
          run.ops->add(gate + i * n, task.bias.gate + at, n);
        }
        if (task.predictor != nullptr && !only_predicted) {
          run.prediction->Count(n,
                                task.predictor->Mask(ReducedOf(run, task.first_pick + row + i), at, n, gate + i * n));
        }
        if (task.bias.up && !only_firing) run.ops->add(up + i * n, task.bias.up + at, n);
        ActivationRows piece = hidden.Piece(row + i, at, n);
        float* const out = hidden.f32 ? const_cast<float*>(piece.f32) : gate + i * n;
        if (only_firing) {
          ActivateFiring(run, task, block.up, at, group.Rows(i, 1), {gate + i * n, static_cast<size_t>(n)}, out);
        } else {
          run.activation(gate + i * n, up + i * n, n, out);
        }
        piece.f32 = out;
        Convert(*block.down.kernel, piece, 0);
      }
    }
  }
}

// Tiles [begin, end) of down.
void ComputePartials(const ExpertRun& run, const ExpertTask& task, int64_t begin, int64_t end) {
  const ExpertBlock block = run.layout->View(task.block);
  const ActivationRows hidden = HiddenOf(run, task);
  const int64_t tile = block.down.kernel->row_tile, stride = StrideOf(block.down);
  const int64_t first = begin * tile, n = std::min(end * tile, block.down.rows) - first;
  const int64_t row_bytes = hidden.n_cols * (hidden.q ? 1 : hidden.bf16 ? 2 : 4);
  const int64_t rows_per_pass = RowsPerPass(row_bytes);
  for (int64_t row = 0; row < task.n_picks; row += rows_per_pass) {
    const int64_t n_rows = std::min(rows_per_pass, task.n_picks - row);
    float* const y = run.partials + (task.first_pick + row) * stride + first;
    Multiply(block.down, first, n, hidden.Rows(row, n_rows), y, stride);
    for (int64_t i = 0; task.bias.down && i < n_rows; ++i) run.ops->add(y + i * stride, task.bias.down + first, n);
  }
}

}  // namespace

void CopyActivationRow(ActivationFormat form, const ActivationRows& from, const ActivationRows& to) {
  const auto n = static_cast<size_t>(from.n_cols);
  if (form == ActivationFormat::kF32) std::memcpy(const_cast<float*>(to.f32), from.f32, n * sizeof(float));
  if (form == ActivationFormat::kBf16) std::memcpy(to.bf16, from.bf16, n * sizeof(uint16_t));
  if (form != ActivationFormat::kQ8) return;
  std::memcpy(to.q, from.q, n);
  std::memcpy(to.scales, from.scales, n / kActivationBlock * sizeof(float));
  std::memcpy(to.scaled_sums, from.scaled_sums, n / kActivationBlock * sizeof(float));
  std::memcpy(to.sums, from.sums, n / kActivationSum * sizeof(int16_t));
}

ExpertLayout ExpertLayout::Of(const ExpertBlock& shape) {
  PANTRY_CHECK(shape.gate.rows == shape.up.rows && shape.gate.cols == shape.up.cols);
  PANTRY_CHECK(shape.gate.kernel->activation == shape.up.kernel->activation);
  PANTRY_CHECK(kUnit % shape.gate.kernel->row_tile == 0 && kUnit % shape.up.kernel->row_tile == 0);
  ExpertLayout layout = {.shape = shape};
  layout.up_offset = PartBytes(shape.gate);
  layout.down_offset = layout.up_offset + PartBytes(shape.up);
  layout.n_bytes = layout.down_offset + PartBytes(shape.down);
  return layout;
}

ExpertBlock ExpertLayout::View(const uint8_t* block) const {
  ExpertBlock view = shape;
  view.gate.tiles = block;
  view.up.tiles = block + up_offset;
  view.down.tiles = block + down_offset;
  return view;
}

void PrepareExpertRow(const ExpertLayout& layout, const ActivationRows& x, int64_t row) {
  Convert(*layout.shape.gate.kernel, x, row);
}

void ComputeExperts(ThreadPool& pool, const ExpertRun& run, std::span<const ExpertTask> tasks) {
  if (tasks.empty()) return;
  const ExpertBlock& shape = run.layout->shape;
  ReduceRows(pool, run, tasks);
  Gather(pool, run, tasks);

  const int64_t n_ff = shape.gate.rows, n_units = (n_ff + kUnit - 1) / kUnit;
  const Shares hidden(pool, tasks, n_units, (PartBytes(shape.gate) + PartBytes(shape.up)) / n_units);
  pool.ParallelFor(hidden.n_shares(), [&](int64_t share, int) {
    hidden.ForEach(share, tasks, [&](const ExpertTask& task, int64_t begin, int64_t end) {
      ComputeHidden(run, task, begin * kUnit, std::min(end * kUnit, n_ff));
    });
  });

  const int64_t n_tiles = shape.down.n_tiles();
  const Shares partials(pool, tasks, n_tiles, shape.down.kernel->packed_tile_bytes(shape.down.cols));
  pool.ParallelFor(partials.n_shares(), [&](int64_t share, int) {
    partials.ForEach(share, tasks, [&](const ExpertTask& task, int64_t begin, int64_t end) {
      ComputePartials(run, task, begin, end);
    });
  });
}

}  // namespace pantry
