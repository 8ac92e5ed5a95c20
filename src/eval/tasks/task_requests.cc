// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/task_requests.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace pantry {
namespace {

// As the tokenizer encodes a text that begins a document; what it would put at the end of one is left out.
std::vector<TokenId> EncodeText(const Tokenizer& tokenizer, std::string_view text, bool with_bos) {
  std::vector<TokenId> tokens = tokenizer.Encode(text, EncodeOptions{.add_special = false});
  if (with_bos && tokenizer.adds_bos()) tokens.insert(tokens.begin(), tokenizer.bos());
  return tokens;
}

TokenId FirstToken(const Tokenizer& tokenizer) {
  return tokenizer.bos() != kNoToken ? tokenizer.bos() : tokenizer.eos();
}

std::string_view WithoutSpacesAtEnd(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\n\r\f\v");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

TokenSequence ChoiceSequence(const Tokenizer& tokenizer, const std::string& context, const std::string& choice) {
  TokenSequence sequence;
  sequence.tokens = EncodeText(tokenizer, context + " " + choice, true);
  sequence.n_context = EncodeText(tokenizer, WithoutSpacesAtEnd(context), true).size();
  if (sequence.n_context == 0 && FirstToken(tokenizer) != kNoToken) {
    sequence.tokens.insert(sequence.tokens.begin(), FirstToken(tokenizer));
    sequence.n_context = 1;
  }
  return sequence;
}

TaskRequest ChoiceRequest(const Tokenizer& tokenizer, const TaskItem& item) {
  TaskRequest request;
  for (size_t i = 0; i < item.choices.size(); ++i) {
    TokenSequence sequence = ChoiceSequence(tokenizer, item.context_of(i), item.choices[i]);
    if (sequence.n_context == 0) request.impossible = "its context is empty, and the model has no token to begin with";
    else if (sequence.n_context >= sequence.tokens.size())
      request.impossible = fmt::format("choice {} adds no token", i);
    request.n_positions = std::max(request.n_positions, static_cast<int64_t>(sequence.tokens.size()) - 1);
    request.sequences.push_back(std::move(sequence));
  }
  return request;
}

TaskRequest RollingRequest(const Tokenizer& tokenizer, const TaskItem& item) {
  TaskRequest request;
  TokenSequence sequence{EncodeText(tokenizer, item.text, false), 1};
  if (FirstToken(tokenizer) == kNoToken) request.impossible = "the model has no token to begin a text with";
  else sequence.tokens.insert(sequence.tokens.begin(), FirstToken(tokenizer));
  if (sequence.tokens.size() < 2) request.impossible = "its text has no tokens";
  request.n_positions = static_cast<int64_t>(sequence.tokens.size()) - 1;
  request.sequences.push_back(std::move(sequence));
  return request;
}

TaskRequest PromptRequest(const Tokenizer& tokenizer, const TaskItem& item) {
  TaskRequest request;
  TokenSequence sequence{EncodeText(tokenizer, item.text, true), 0};
  sequence.n_context = sequence.tokens.size();
  if (sequence.tokens.empty()) request.impossible = "its prompt has no tokens";
  request.n_positions = static_cast<int64_t>(sequence.tokens.size()) + kMostAnswerTokens;
  request.sequences.push_back(std::move(sequence));
  return request;
}

const std::vector<TokenId>& FirstSequence(const TaskRequest& request) { return request.sequences.front().tokens; }

// Whether the second has most of its context from the first.
bool SharesMost(const TaskRequest& a, const TaskRequest& b) {
  return 2 * CommonPrefix(FirstSequence(a), FirstSequence(b)) > b.sequences.front().n_context;
}

}  // namespace

size_t CommonPrefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const size_t most = std::min(a.size(), b.size());
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(most), b.begin()).first -
                             a.begin());
}

void GroupByPrefix(std::vector<TaskRequest>& requests) {
  std::sort(requests.begin(), requests.end(), [](const TaskRequest& a, const TaskRequest& b) {
    return std::tie(FirstSequence(a), a.item) < std::tie(FirstSequence(b), b.item);
  });
  std::vector<std::vector<TaskRequest>> groups;
  for (TaskRequest& request : requests) {
    if (groups.empty() || !SharesMost(groups.back().back(), request)) groups.emplace_back();
    groups.back().push_back(std::move(request));
  }
  const auto first_item = [](const std::vector<TaskRequest>& group) {
    return std::min_element(group.begin(), group.end(), [](const auto& a, const auto& b) { return a.item < b.item; })
        ->item;
  };
  std::sort(groups.begin(), groups.end(), [&](const auto& a, const auto& b) { return first_item(a) < first_item(b); });
  requests.clear();
  for (std::vector<TaskRequest>& group : groups) std::move(group.begin(), group.end(), std::back_inserter(requests));
}

TaskRequests MakeRequests(const Tokenizer& tokenizer, const TaskFile& file) {
  TaskRequests made;
  for (size_t i = 0; i < file.items.size(); ++i) {
    const TaskItem& item = file.items[i];
    TaskRequest request = file.protocol == TaskProtocol::kChoice    ? ChoiceRequest(tokenizer, item)
                          : file.protocol == TaskProtocol::kRolling ? RollingRequest(tokenizer, item)
                                                                    : PromptRequest(tokenizer, item);
    request.item = i;
    made.most_positions = std::max(made.most_positions, request.n_positions);
    made.requests.push_back(std::move(request));
  }
  GroupByPrefix(made.requests);
  return made;
}

}  // namespace pantry
