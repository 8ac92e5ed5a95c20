// SPDX-License-Identifier: Apache-2.0
// A tiny model in a folder of its own, with a text: for verbs that write beside the model.
#pragma once

#include <filesystem>
#include <string>

#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry::testing {

// Enough for windows of 64 tokens.
inline std::string TextOfJars() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += "A pantry is a room where food is kept, and jar number " + std::to_string(i) + " is mine. ";
  return text;
}

class ModelInFolder {
 public:
  explicit ModelInFolder(const std::string& name) {
    std::filesystem::copy_file(TestData("models/" + name + ".gguf"), model_);
  }
  // `words` with the text in windows of 64 tokens, and `more`.
  Outcome OnText(Args words, const Args& more) const {
    words.insert(words.end(), {"-f", text_.path(), "-c", "64"});
    words.insert(words.end(), more.begin(), more.end());
    return Execute(words);
  }
  Outcome Perplexity(const Args& more) const { return OnText({"eval", "perplexity", "-m", model_, "--json"}, more); }

 protected:
  const TemporaryFolder folder_;
  const std::string model_ = folder_.path() + "/tiny.gguf";
  const TemporaryFile text_{TextOfJars()};
};

}  // namespace pantry::testing
