// SPDX-License-Identifier: Apache-2.0
// Templates from hostile model files: any bytes may come. Whatever parses is rendered with a small conversation.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/jinja/program.h"
#include "text/jinja/unicode.h"
#include "text/messages.h"

namespace {

constexpr std::string_view kConversation =
    R"({"messages": [{"role": "user", "content": "Hi \u00e9 <|x|>"}, {"role": "assistant", "content": null, "tool_calls":
    [{"function": {"name": "f", "arguments": {"a": 1, "b": [1.5, true]}}}]}], "tools": [{"n": {"m": "x"}}], "n": 7, "add_generation_prompt": true})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pantry::jinja;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto program = Program::Parse(source);
  if (!program.ok()) {
    if (program.status().message().empty()) std::abort();
    return 0;
  }
  Limits limits;  // so that an input takes milliseconds
  limits.max_steps = 100'000;
  limits.max_live_bytes = int64_t{16} << 20;
  const auto bind = [](Evaluator& evaluator) {
    const auto conversation = pantry::ReadConversation(kConversation, evaluator.heap());
    if (!conversation.ok()) std::abort();
    for (const auto& [key, value] : conversation->dict().entries)
      evaluator.SetVariable(std::string(key.bytes()), value);
    evaluator.SetVariable("bos_token", evaluator.heap().String("<s>"));
  };
  const auto text = (*program)->Render(bind, 1736942400, limits);
  if (!text.ok()) return 0;
  if (!IsValidUtf8(text->bytes())) std::abort();
  size_t begin = 0;
  for (const auto& run : text->runs()) {
    if (run.end <= begin || (begin > 0 && run.is_input == (&run)[-1].is_input)) std::abort();
    begin = run.end;
  }
  if (begin != text->size()) std::abort();
  return 0;
}
