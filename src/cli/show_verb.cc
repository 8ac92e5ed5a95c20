// SPDX-License-Identifier: Apache-2.0
// `pantry show`: what a model file holds, and with --effective the settings a run would use and where each came from.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>

#include "base/units.h"
#include "cli/flag_value.h"
#include "cli/model_path.h"
#include "cli/model_settings.h"
#include "cli/verbs.h"
#include "text/tokenizer.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/gguf_file.h"
#include "weights/gguf/pack_table.h"
#include "weights/model_shape.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kValueChars = 70;      // of a metadata value in the table
constexpr size_t kJsonArrayItems = 64;  // longer arrays (vocabularies) are given by type and count

// Everything that both forms of output show.
struct Shown {
  const GgufFile* file = nullptr;
  Result<ModelShape> shape = InternalError("not read");
  Result<std::unique_ptr<Tokenizer>> tokenizer = InternalError("not read");
  std::string_view chat_template;
};

std::string Dims(const TensorInfo& tensor) {
  std::string out;
  for (const int64_t dim : tensor.dims) out += fmt::format("{}{}", out.empty() ? "" : " x ", dim);
  return out;
}

int64_t ParameterCount(const GgufFile& file) {
  int64_t n = 0;
  for (const TensorInfo& tensor : file.tensors()) n += tensor.n_elements();
  return n;
}

std::map<std::string, int64_t> CountTypes(const GgufFile& file) {
  std::map<std::string, int64_t> counts;
  for (const TensorInfo& tensor : file.tensors()) ++counts[std::string(TensorTypeName(tensor.type))];
  return counts;
}

// What a file says, on one line.
std::string Plain(std::string_view text) { return Printable(text, SIZE_MAX); }

std::string Row(std::string_view name, std::string_view value) {
  return fmt::format("  {:<16} {}\n", name, Plain(value));
}

std::string ModelText(const Shown& shown) {
  const GgufFile& file = *shown.file;
  std::string types;
  for (const auto& [name, count] : CountTypes(file))
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", count, name);
  std::string out = "model\n" + Row("file", file.path());
  out += Row("format", fmt::format("GGUF v{}, {} in {} file{}", file.version(),
                                   FormatBytes(static_cast<int64_t>(file.total_bytes())), file.shards().size(),
                                   file.shards().size() == 1 ? "" : "s"));
  if (const PackTable* pack = file.pack()) {
    out += Row("packed", fmt::format("{} blocks for {}", pack->n_blocks(), IsaName(pack->layout())));
  }
  out += Row("tensors", fmt::format("{} ({})", file.tensors().size(), types));
  out += Row("parameters", fmt::format("{:.1f} M", static_cast<double>(ParameterCount(file)) * 1e-6));
  if (!shown.shape.ok()) return out + Row("runs here", fmt::format("no: {}", shown.shape.status().message()));
  const ModelShape& shape = *shown.shape;
  out += Row("name", shape.name) + Row("architecture", shape.architecture);
  const std::string feed_forward = shape.n_ff > 0 ? fmt::format(", feed-forward {}", shape.n_ff) : "";
  out += Row("layers", fmt::format("{} (width {}{})", shape.n_layers, shape.n_embd, feed_forward));
  out += Row("heads",
             fmt::format("{} of width {}, {} for keys and values", shape.n_heads, shape.head_dim, shape.n_kv_heads));
  out += Row("context", fmt::format("{} trained", shape.n_ctx_train));
  if (shape.has_experts()) {
    const std::string shared =
        shape.n_ff_shared > 0 ? fmt::format(", and always one of width {}", shape.n_ff_shared) : "";
    out += Row("experts", fmt::format("{} of width {} in a layer, {} used per token{}", shape.n_experts,
                                      shape.n_ff_expert, shape.n_experts_used, shared));
  }
  return out;
}

std::string TokenizerText(const Shown& shown) {
  if (!shown.tokenizer.ok()) return "tokenizer\n" + Row("none", shown.tokenizer.status().message());
  const Tokenizer& tokenizer = **shown.tokenizer;
  const auto token = [&](TokenId id) {
    return id == kNoToken ? "none" : fmt::format("{} {}", id, tokenizer.TokenText(id));
  };
  std::string ends;
  for (const TokenId id : tokenizer.end_of_generation())
    ends += fmt::format("{}{}", ends.empty() ? "" : ", ", token(id));
  std::string out = "tokenizer\n" + Row("kind", tokenizer.kind());
  if (!tokenizer.pre_tokenizer().empty()) out += Row("pre-tokenizer", tokenizer.pre_tokenizer());
  out += Row("vocabulary", fmt::format("{} tokens", tokenizer.n_vocab()));
  out += Row("BOS", token(tokenizer.bos()) + (tokenizer.adds_bos() ? ", added" : ", not added"));
  out += Row("EOS", token(tokenizer.eos()) + (tokenizer.adds_eos() ? ", added" : ", not added"));
  return out + Row("ends an answer", ends.empty() ? "none" : ends);
}

std::string Human(const Shown& shown, bool with_tensors) {
  std::string out = ModelText(shown) + "\n" + TokenizerText(shown) + "\nchat template\n";
  out += shown.chat_template.empty()
             ? "  none\n"
             : fmt::format("{}{}", PrintableText(shown.chat_template), shown.chat_template.ends_with('\n') ? "" : "\n");
  out += "\nmetadata\n";
  for (const Metadata::Entry& entry : shown.file->metadata().entries()) {
    if (entry.key == "tokenizer.chat_template") continue;  // shown in full above
    out += fmt::format("  {:<40} {}\n", Plain(entry.key), FormatMetadataValue(entry.value, kValueChars));
  }
  if (!with_tensors) return out;
  out += "\ntensors\n";
  for (const TensorInfo& tensor : shown.file->tensors()) {
    out += fmt::format("  {:<36} {:<7} {:<20} {:>10}  file {} offset {}\n", Plain(tensor.name),
                       TensorTypeName(tensor.type), Dims(tensor), FormatBytes(static_cast<int64_t>(tensor.n_bytes)),
                       tensor.shard + 1, tensor.offset);
  }
  return out;
}

Json ToJson(const MetadataValue& value) {
  const auto* array = std::get_if<std::unique_ptr<MetadataArray>>(&value.value);
  if (array == nullptr) {
    return std::visit(
        [](const auto& v) -> Json {
          if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::unique_ptr<MetadataArray>>) return nullptr;
          else return v;
        },
        value.value);
  }
  const MetadataArray& items = **array;
  if (items.size() > kJsonArrayItems || !items.nested.empty()) {
    return {{"array_of", MetadataTypeName(items.element_type)}, {"count", items.size()}};
  }
  if (!items.strings.empty()) return items.strings;
  if (!items.integers.empty()) return items.integers;
  return items.floats;
}

Json AsJson(const Shown& shown, bool with_tensors) {
  const GgufFile& file = *shown.file;
  Json out = {{"path", file.path()},
              {"gguf_version", file.version()},
              {"bytes", file.total_bytes()},
              {"n_files", file.shards().size()},
              {"n_tensors", file.tensors().size()},
              {"n_parameters", ParameterCount(file)},
              {"tensor_types", CountTypes(file)}};
  if (const PackTable* pack = file.pack()) {
    out["pack"] = {
        {"layout", IsaName(pack->layout())}, {"n_blocks", pack->n_blocks()}, {"n_groups", pack->groups().size()}};
  }
  if (shown.shape.ok()) {
    const ModelShape& shape = *shown.shape;
    out["shape"] = {{"architecture", shape.architecture},
                    {"name", shape.name},
                    {"n_layers", shape.n_layers},
                    {"n_embd", shape.n_embd},
                    {"n_ff", shape.n_ff},
                    {"n_heads", shape.n_heads},
                    {"n_kv_heads", shape.n_kv_heads},
                    {"head_dim", shape.head_dim},
                    {"n_ctx_train", shape.n_ctx_train},
                    {"n_experts", shape.n_experts},
                    {"n_experts_used", shape.n_experts_used},
                    {"n_ff_expert", shape.n_ff_expert},
                    {"n_ff_shared", shape.n_ff_shared}};
  } else {
    out["unsupported"] = shown.shape.status().message();
  }
  if (shown.tokenizer.ok()) {
    const Tokenizer& tokenizer = **shown.tokenizer;
    out["tokenizer"] = {{"kind", tokenizer.kind()},         {"pre", tokenizer.pre_tokenizer()},
                        {"n_vocab", tokenizer.n_vocab()},   {"bos", tokenizer.bos()},
                        {"eos", tokenizer.eos()},           {"adds_bos", tokenizer.adds_bos()},
                        {"adds_eos", tokenizer.adds_eos()}, {"end_of_generation", tokenizer.end_of_generation()}};
  }
  out["chat_template"] = shown.chat_template.empty() ? Json(nullptr) : Json(shown.chat_template);
  for (const Metadata::Entry& entry : file.metadata().entries()) {
    if (entry.key != "tokenizer.chat_template") out["metadata"][entry.key] = ToJson(entry.value);
  }
  if (!with_tensors) return out;
  out["tensors"] = Json::array();
  for (const TensorInfo& tensor : file.tensors()) {
    out["tensors"].push_back({{"name", tensor.name},
                              {"type", TensorTypeName(tensor.type)},
                              {"dims", tensor.dims},
                              {"file", tensor.shard},
                              {"offset", tensor.offset},
                              {"bytes", tensor.n_bytes}});
  }
  return out;
}

template <typename T>
Json SettingToJson(const T& field) {
  if constexpr (std::is_same_v<T, bool> || std::is_integral_v<T>) {
    return field;
  } else if constexpr (std::is_floating_point_v<T>) {
    return Json::parse(FormatField(field), nullptr, false);  // 0.8 and not the double next to the float
  } else {
    return FormatField(field);
  }
}

// Settings of a run, from the table of flags.
std::string EffectiveText(const Invocation& invocation, Json& json) {
  std::string out;
  ForEachField(invocation.options, [&](const Flag& flag, const auto& field) {
    if ((flag.verbs & kRun) == 0 || (flag.verbs & kShow) == 0 || FlagName(flag) == "--help") return;
    const std::string_view source = ValueSourceName(invocation.SourceOf(FlagName(flag)));
    out += fmt::format("  {:<22} {:<24} {}\n", FlagName(flag), FormatField(field), source);
    json[std::string(FlagName(flag).substr(2))] = {{"value", SettingToJson(field)}, {"source", source}};
  });
  return out;
}

}  // namespace

Status ShowVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  Shown shown;
  shown.file = file.get();
  shown.shape = ParseModelShape(file->metadata());
  shown.tokenizer = Tokenizer::FromMetadata(file->metadata(), context.console);
  PANTRY_ASSIGN_OR_RETURN(shown.chat_template, file->metadata().GetStringOr("tokenizer.chat_template", ""));
  PANTRY_RETURN_IF_ERROR(TakeModelSettings(file->metadata(), invocation));

  const CliOptions& options = context.options();
  Json effective;
  const std::string effective_text = EffectiveText(invocation, effective);
  if (options.json) {
    Json json = AsJson(shown, options.tensors);
    if (options.effective) json["effective"] = std::move(effective);
    return context.output.Write(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (options.effective) return context.output.Write("settings of a run, and where each comes from\n" + effective_text);
  return context.output.Write(Human(shown, options.tensors));
}

}  // namespace pantry
