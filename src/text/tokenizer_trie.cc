// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_trie.h"

#include <utility>

namespace pantry {

int32_t TokenTrie::Child(int32_t node, uint8_t byte) const {
  if (edges_.empty()) return kNoNode;
  for (size_t i = Hash(node, byte) & mask_;; i = (i + 1) & mask_) {
    const Edge& edge = edges_[i];
    if (edge.parent == node && edge.byte == byte) return edge.child;
    if (edge.parent == kNoNode) return kNoNode;
  }
}

void TokenTrie::Grow() {
  const std::vector<Edge> old = std::exchange(edges_, std::vector<Edge>(edges_.empty() ? 64 : 2 * edges_.size()));
  mask_ = edges_.size() - 1;
  for (const Edge& edge : old) {
    if (edge.parent == kNoNode) continue;
    size_t i = Hash(edge.parent, edge.byte) & mask_;
    while (edges_[i].parent != kNoNode) i = (i + 1) & mask_;
    edges_[i] = edge;
  }
}

void TokenTrie::Add(std::string_view text, TokenId token) {
  if (text.empty()) return;
  first_bytes_[static_cast<uint8_t>(text[0])] = true;
  int32_t node = kRoot;
  for (const char c : text) {
    const uint8_t byte = static_cast<uint8_t>(c);
    int32_t child = Child(node, byte);
    if (child == kNoNode) {
      if (2 * (tokens_.size() + 1) > edges_.size()) Grow();
      child = static_cast<int32_t>(tokens_.size());
      tokens_.push_back(kNoToken);
      size_t i = Hash(node, byte) & mask_;
      while (edges_[i].parent != kNoNode) i = (i + 1) & mask_;
      edges_[i] = {node, child, byte};
    }
    node = child;
  }
  if (tokens_[node] == kNoToken) tokens_[node] = token;
}

TokenTrie::Match TokenTrie::Longest(std::string_view text) const {
  Match best;
  int32_t node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = Child(node, static_cast<uint8_t>(text[i]));
    if (node == kNoNode) break;
    if (tokens_[node] != kNoToken) best = {tokens_[node], i + 1};
  }
  return best;
}

}  // namespace pantry
