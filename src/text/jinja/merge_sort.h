// SPDX-License-Identifier: Apache-2.0
// A stable sort for comparisons that may throw or contradict themselves (NaN is neither less nor greater): any answers give some order.
//
// std::sort may read out of bounds then, and std::stable_sort uses what newer compilers call deprecated.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace pantry::jinja {

template <typename T, typename Less>
void MergeSort(std::vector<T>* items, const Less& less) {
  std::vector<T> merged;
  for (size_t width = 1; width < items->size(); width *= 2) {
    merged.clear();
    merged.reserve(items->size());
    for (size_t begin = 0; begin < items->size(); begin += 2 * width) {
      size_t left = begin;
      const size_t middle = std::min(begin + width, items->size());
      size_t right = middle;
      const size_t end = std::min(begin + 2 * width, items->size());
      while (left < middle && right < end)
        merged.push_back(std::move((*items)[less((*items)[right], (*items)[left]) ? right++ : left++]));
      while (left < middle) merged.push_back(std::move((*items)[left++]));
      while (right < end) merged.push_back(std::move((*items)[right++]));
    }
    items->swap(merged);
  }
}

}  // namespace pantry::jinja
