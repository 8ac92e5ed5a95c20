// SPDX-License-Identifier: Apache-2.0
#include "cli/foreign_flags.h"

namespace pantry {
namespace {

using enum ForeignArity;
using enum ForeignKind;

constexpr ForeignFlag kFlags[] = {
    {"--mlock", kNone, kNoEffect, "weights lie in memory that Pantry owns, not in the page cache"},
    {"--mmap", kNone, kNoEffect, "weights are read into memory that Pantry owns, never mapped"},
    {"--no-mmap", kNone, kNoEffect, "weights are never mapped"},
    {"--load-mode", kOne, kNoEffect, "weights are always read into memory that Pantry owns"},
    {"-dio, --direct-io, --no-direct-io", kNone, kNoEffect, "this version reads a model once, when it starts"},
    {"-ngl, --gpu-layers, --n-gpu-layers", kOne, kNoEffect, "everything is computed on the CPU"},
    {"-sm, --split-mode", kOne, kNoEffect, "everything is computed on the CPU"},
    {"-mg, --main-gpu", kOne, kNoEffect, "everything is computed on the CPU"},
    {"-ts, --tensor-split", kOne, kNoEffect, "everything is computed on the CPU"},
    {"-dev, --device", kOne, kNoEffect, "everything is computed on the CPU"},
    {"-cmoe, --cpu-moe", kNone, kNoEffect, "everything is computed on the CPU"},
    {"-ncmoe, --n-cpu-moe", kOne, kNoEffect, "everything is computed on the CPU"},
    {"-nkvo, --no-kv-offload", kNone, kNoEffect, "everything is computed on the CPU"},
    {"-fit, --fit", kOptional, kNoEffect, "the context is always cut to what memory allows"},
    {"-fa, --flash-attn", kOptional, kNoEffect, "attention always runs in tiles with an online softmax"},
    {"--numa", kOne, kNoEffect, "threads are placed by the system"},
    {"--prio", kOne, kNoEffect, "threads keep the priority they were started with"},
    {"--poll", kOne, kNoEffect, "threads wait as suits the number of cores"},
    {"--jinja", kNone, kNoEffect, "chat templates are always run as Jinja"},
    {"--no-jinja", kNone, kNoEffect, "chat templates are always run as Jinja"},
    {"-cb, --cont-batching", kNone, kNoEffect, "there is one conversation"},
    {"--no-context-shift", kNone, kNoEffect, "a full context is never shifted"},
    {"--no-warmup, --warmup", kNone, kNoEffect, "there is no warm-up run"},
    {"--no-display-prompt, --display-prompt", kNone, kNoEffect, "only the answer is printed"},
    {"--simple-io", kNone, kNoEffect, "output is plain whenever it is not a terminal"},
    {"--no-perf, --perf", kNone, kNoEffect, "figures go to standard error; -lv 1 hides them"},
    {"-co, --color, --log-colors", kOptional, kNoEffect, "colours are used on terminals; --no-color switches them off"},
    {"--check-tensors", kNone, kNoEffect, "the table of contents is always checked in full"},
    {"--offline", kNone, kNoEffect, "nothing is ever downloaded by this program"},
    {"--log-disable", kNone, kNoEffect, "messages go to standard error; -lv 0 keeps errors only"},

    {"-hf, -hfr, --hf-repo, -hff, --hf-file", kOne, kLater, "download the .gguf file yourself and give its path to -m"},
    {"--cache, --io-threads, --dense", kOne, kLater, "--memory divides itself; --stream and --io say the rest"},
    {"--n-expert-used", kOne, kLater, "models run exactly as they were trained"},
    {"--grammar, --grammar-file, -j, --json-schema, -jf, --json-schema-file", kOne, kLater,
     "ask for the format in the prompt"},
    {"--samplers, --sampler-seq, --sampling-seq", kOne, kLater,
     "the order is top-k, typical, top-p, min-p, temperature"},
    {"--dynatemp-range, --dynatemp-exp, --xtc-probability, --xtc-threshold, --mirostat, --mirostat-lr, --mirostat-ent, "
     "--dry-multiplier, --dry-base, --dry-allowed-length, --dry-penalty-last-n, --top-nsigma, --top-n-sigma",
     kOne, kLater, "use --temp, --top-k, --top-p, --min-p or --typical"},
    {"-rea, --reasoning, --reasoning-budget, --reasoning-format", kOne, kLater,
     "pass what the template understands, e.g. --chat-template-kwargs '{\"enable_thinking\": false}'"},
    {"--lora, --lora-scaled, --control-vector, --mmproj, -md, --model-draft", kOne, kLater, "run the model by itself"},
    {"--log-jsonl", kOptional, kLater, "--log-file writes plain lines"},
    {"--host, --port, --api-key, --api-key-file, -np, --parallel", kOne, kLater, "there is no server yet"},
};

constexpr std::string_view kLaterVerbs[] = {"serve",    "pull",    "list",   "rm",
                                            "quantize", "convert", "repack", "bench-disk"};

}  // namespace

std::span<const ForeignFlag> ForeignFlags() { return kFlags; }
std::span<const std::string_view> LaterVerbs() { return kLaterVerbs; }

}  // namespace pantry
