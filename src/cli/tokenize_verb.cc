// SPDX-License-Identifier: Apache-2.0
// `pantry tokenize`: the token ids of a text, on one line. Needs the vocabulary of a model only, not its weights.
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "cli/flag_value.h"
#include "cli/model_path.h"
#include "cli/verbs.h"
#include "text/tokenizer.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {
namespace {

// Byte for byte: unlike a prompt, a text to be tokenised keeps the newline at its end.
Result<std::string> TextOf(const Invocation& invocation) {
  const CliOptions& options = invocation.options;
  const bool has_prompt = invocation.Given("--prompt");
  const bool has_file = invocation.Given("--file");
  if (has_prompt && has_file) return InvalidArgumentError("--prompt and --file exclude each other");
  if (has_prompt) return options.escape ? Unescape(options.prompt) : options.prompt;
  return has_file ? ReadWholeFile(options.file) : ReadStandardInput();
}

// A line per token: its id, a tab, its bytes as a JSON string.
std::string Pieces(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens) {
  std::string out;
  for (const TokenId token : tokens) {
    const nlohmann::json piece = tokenizer.TokenBytes(token, true);
    out += fmt::format("{}\t{}\n", token, piece.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  return out;
}

}  // namespace

Status TokenizeVerb(VerbContext& context) {
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          Tokenizer::FromMetadata(file->metadata(), context.console));
  PANTRY_ASSIGN_OR_RETURN(const std::string text, TextOf(context.invocation));
  const CliOptions& options = context.options();
  const std::vector<TokenId> tokens =
      tokenizer->Encode(text, {.add_special = !options.no_bos, .parse_special = options.parse_special});
  if (options.pieces) return context.output.Write(Pieces(*tokenizer, tokens));
  return context.output.Write(fmt::format("{}\n", fmt::join(tokens, " ")));
}

}  // namespace pantry
