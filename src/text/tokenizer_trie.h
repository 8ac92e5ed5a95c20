// SPDX-License-Identifier: Apache-2.0
// A TokenTrie finds the tokens that a text begins with, byte by byte: special tokens in a prompt, pieces in a unigram lattice.
//
// Edges lie in one hash table from (node, byte) to node, so a vocabulary of a quarter of a million pieces takes some tens of MB and a
// step costs one lookup. A text that begins with no token is told after one byte, mostly.
// Threads: immutable once filled.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/strong_id.h"

namespace pantry {

class TokenTrie {
 public:
  static constexpr int32_t kRoot = 0;
  static constexpr int32_t kNoNode = -1;
  struct Match {
    TokenId token = kNoToken;
    size_t n_bytes = 0;
  };

  TokenTrie() : tokens_(1, kNoToken) {}
  // The first token of a text stays. Empty texts are ignored.
  void Add(std::string_view text, TokenId token);
  bool empty() const { return tokens_.size() == 1; }

  int32_t Child(int32_t node, uint8_t byte) const;  // kNoNode where no token continues
  TokenId TokenAt(int32_t node) const { return tokens_[node]; }
  // The longest token that `text` begins with.
  Match Longest(std::string_view text) const;
  bool MayBeginWith(uint8_t byte) const { return first_bytes_[byte]; }

 private:
  struct Edge {
    int32_t parent = kNoNode;
    int32_t child = kNoNode;
    uint8_t byte = 0;
  };
  static size_t Hash(int32_t node, uint8_t byte) {
    const uint64_t key = ((static_cast<uint64_t>(node) << 8) | byte) * 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(key ^ (key >> 32));
  }
  void Grow();
  std::vector<Edge> edges_;  // a power of two, at most half full
  size_t mask_ = 0;
  std::vector<TokenId> tokens_;  // [nodes]
  std::array<bool, 256> first_bytes_{};
};

}  // namespace pantry
