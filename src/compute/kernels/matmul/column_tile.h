// SPDX-License-Identifier: Apache-2.0
// The sizes of column_layout.h that kernels share with it. Plain constants: files compiled for an instruction set include this.
#pragma once

namespace pantry::matmul {

inline constexpr int kColumnRows = 256;                    // rows of a tile
inline constexpr int kColumnScaleBytes = 2 * kColumnRows;  // of a block of 32 columns of a tile

}  // namespace pantry::matmul
