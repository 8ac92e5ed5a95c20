// SPDX-License-Identifier: Apache-2.0
// Writes tests/llama_cpp_top1.golden: conversations as llama.cpp continues them greedily, and its most probable token at every position.
//
// Three lines per conversation: the number of prompt tokens, all tokens, and for each token the most probable next one, marked "!" where
// it leads by at least 0.5. Not part of the build: it needs llama.cpp's headers and libraries.
//   c++ -std=c++17 -O2 -I$LLAMA/include -I$LLAMA/ggml/include scripts/llama_cpp_top1.cc -L$LLAMA/build/bin -lllama -lggml -lggml-base
//   ./a.out SmolLM2-135M-Instruct.Q4_1.gguf > tests/llama_cpp_top1.golden
#include <llama.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace {

constexpr int kWindow = 256;
constexpr float kClearLead = 0.5f;

struct Llama {
  llama_context* context;
  const llama_vocab* vocabulary;
  int n_vocab;

  // Computes tokens from position 0 and keeps the logits of all.
  void Decode(const std::vector<llama_token>& tokens) {
    llama_memory_clear(llama_get_memory(context), true);
    const int n = static_cast<int>(tokens.size());
    llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; ++i) {
      batch.token[i] = tokens[i];
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    batch.n_tokens = n;
    llama_decode(context, batch);
    llama_batch_free(batch);
  }
  // The best token of a position and how far it leads.
  llama_token Best(int position, float* lead) {
    float* logits = llama_get_logits_ith(context, position);
    float* best = std::max_element(logits, logits + n_vocab);
    const float value = *best;
    *best = -1e30f;
    *lead = value - *std::max_element(logits, logits + n_vocab);
    *best = value;
    return static_cast<llama_token>(best - logits);
  }
};

void WriteConversation(Llama& llama, const std::string& question) {
  const std::string prompt =
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>\n<|im_start|>user\n" +
      question + "<|im_end|>\n<|im_start|>assistant\n";
  std::vector<llama_token> tokens(kWindow);
  const int n_prompt = llama_tokenize(llama.vocabulary, prompt.data(), static_cast<int>(prompt.size()), tokens.data(),
                                      kWindow, false, true);
  tokens.resize(n_prompt);
  llama.Decode(tokens);
  float lead = 0;
  while (static_cast<int>(tokens.size()) < kWindow) {
    llama_token next = llama.Best(-1, &lead);
    tokens.push_back(next);
    if (llama_vocab_is_eog(llama.vocabulary, next)) break;
    llama_decode(llama.context, llama_batch_get_one(&next, 1));
  }
  std::printf("%d\n", n_prompt);
  for (const llama_token token : tokens) std::printf("%d ", token);
  std::printf("\n");
  llama.Decode(tokens);
  for (int i = 0; i < static_cast<int>(tokens.size()); ++i) {
    const llama_token best = llama.Best(i, &lead);
    std::printf("%d%s ", best, lead >= kClearLead ? "!" : "");
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = kWindow;
  params.n_batch = kWindow;
  const llama_vocab* vocabulary = llama_model_get_vocab(model);
  Llama llama{llama_init_from_model(model, params), vocabulary, llama_vocab_n_tokens(vocabulary)};
  for (const char* question :
       {"What is the capital of France, and what is it known for?", "Explain photosynthesis to a child.",
        "Write a short story about a fox who learns to swim.", "How do I bake a simple loaf of bread?",
        "List five tips for sleeping better.", "Why is the sky blue?"}) {
    WriteConversation(llama, question);
  }
}
