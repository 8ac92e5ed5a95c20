// SPDX-License-Identifier: Apache-2.0
// The merge loop of byte-pair encoding: neighbouring symbols become one, the best pair of the whole word first, until none can merge.
//
// Shared by byte-level BPE (a pair's key is the rank of its merge) and SentencePiece BPE (minus the score of the merged piece).
// Symbols form a linked list over an array, candidate pairs a heap; a candidate that a merge beside it made stale is recognised when it
// is popped. O(n log n) for a word of n symbols, however repetitive.
// Threads: a MergeBuffers belongs to one thread at a time.
// Source: Sennrich et al. 2016; Kudo and Richardson 2018 for the heap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace pantry {

// Bytes [begin, end) of the word. begin == end once it has been merged into its left neighbour.
struct MergeSymbol {
  uint32_t begin = 0;
  uint32_t end = 0;
  int32_t id = -1;
  int32_t previous = -1;  // index into the symbols, -1 at either end
  int32_t next = -1;
};

// What a pair of neighbours may become. The lowest key goes first, the leftmost among equals.
struct MergeChoice {
  double key = 0;
  int32_t id = -1;  // of the merged symbol; -1: the two do not merge
};

struct MergeCandidate {
  double key;
  int32_t left;  // index of the left symbol
  uint32_t end;  // where the pair ended when it was found; differs once the right symbol has grown
  int32_t id;
};

struct MergeBuffers {
  std::vector<MergeSymbol> symbols;
  std::vector<MergeCandidate> heap;

  void AddSymbol(uint32_t begin, uint32_t end, int32_t id) {
    const int32_t index = static_cast<int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({begin, end, id, index - 1, -1});
  }
};

// Merges buffers.symbols until `choose(left, right)` (a MergeChoice of two MergeSymbols) finds nothing more. What is left is the list
// that starts at symbol 0 and follows `next`.
template <typename Choose>
void MergePairs(MergeBuffers& buffers, const Choose& choose) {
  std::vector<MergeSymbol>& symbols = buffers.symbols;
  std::vector<MergeCandidate>& heap = buffers.heap;
  const auto later = [](const MergeCandidate& a, const MergeCandidate& b) {
    return a.key > b.key || (a.key == b.key && a.left > b.left);
  };
  const auto consider = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return false;
    const MergeSymbol& right = symbols[symbols[left].next];
    const MergeChoice choice = choose(symbols[left], right);
    if (choice.id < 0) return false;
    heap.push_back({choice.key, left, right.end, choice.id});
    return true;
  };
  heap.clear();
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) consider(i);
  std::make_heap(heap.begin(), heap.end(), later);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const MergeCandidate best = heap.back();
    heap.pop_back();
    MergeSymbol& left = symbols[best.left];
    // A left symbol only grows by taking its right neighbour, so "alive, and the pair still ends there" means "unchanged".
    if (left.begin == left.end || left.next < 0 || symbols[left.next].end != best.end) continue;
    MergeSymbol& right = symbols[left.next];
    left.end = right.end;
    left.id = best.id;
    left.next = right.next;
    right.begin = right.end;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    if (consider(left.previous)) std::push_heap(heap.begin(), heap.end(), later);
    if (consider(best.left)) std::push_heap(heap.begin(), heap.end(), later);
  }
}

// A table from (left symbol, right symbol) to the rank of their merge and the symbol they become.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;
    int32_t result = -1;
  };

  void Reserve(size_t n_merges);
  // The first merge of a pair stays. REQUIRES: ids >= 0.
  void Add(int32_t left, int32_t right, int32_t rank, int32_t result);
  MergeChoice Find(int32_t left, int32_t right) const {
    if (slots_.empty()) return {};
    const uint64_t key = Key(left, right);
    for (size_t i = Hash(key) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return {static_cast<double>(slots_[i].merge.rank), slots_[i].merge.result};
      if (slots_[i].key == kEmpty) return {};
    }
  }
  size_t size() const { return size_; }

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static uint64_t Key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  }
  static size_t Hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;  // Fibonacci hashing; the high bits are the good ones
    return static_cast<size_t>(key ^ (key >> 32));
  }
  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t mask_ = 0;
  size_t size_ = 0;
};

}  // namespace pantry
