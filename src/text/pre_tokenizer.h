// SPDX-License-Identifier: Apache-2.0
// A PreTokenizer cuts text into the words inside which byte-level BPE may merge, as the model's own tokenizer does.
//
// GGUF names the rules (tokenizer.ggml.pre) but does not hold them; pre_tokenizer.inc does: the regular expressions that the models
// publish in their tokenizer.json, run by PCRE2 one after the other, each inside the words that the one before left.
// Bytes that are not UTF-8 become words of their own. Time is linear in the text for every set of rules; should PCRE2 give up on a text
// nonetheless, the rest of that stretch stays one word.
// Threads: immutable; Split() from any thread.
// Source: the tokenizer.json files of the models named in pre_tokenizer.inc.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/logger.h"
#include "base/status.h"

namespace pantry {

class PreTokenizer {
 public:
  // The rules called `name`. "" and unknown names get a fallback and a warning that says which.
  static Result<std::unique_ptr<PreTokenizer>> Create(std::string_view name, Logger& log);
  // Every name that Create() knows.
  static std::vector<std::string_view> Names();
  ~PreTokenizer();

  // Where each word of `text` ends, ascending; the last one is text.size(). Empty for an empty text.
  void Split(std::string_view text, std::vector<size_t>& ends) const;

  const std::string& name() const { return name_; }  // of the rules in use
  // A word that is a token is that token, whatever the merges say.
  bool ignores_merges() const { return ignores_merges_; }
  bool adds_bos() const { return adds_bos_; }  // unless the file says otherwise

 private:
  struct Step;
  struct Matcher;
  PreTokenizer();
  std::string name_;
  bool ignores_merges_ = false;
  bool adds_bos_ = false;
  std::vector<Step> steps_;
};

}  // namespace pantry
