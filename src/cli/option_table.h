// SPDX-License-Identifier: Apache-2.0
// The table of flags: how each field of CliOptions is spelled, which verbs know it, and what help says about it.
//
// Parsing, environment twins, help, shell completion and `show --effective` all walk this one table with ForEachField().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/options.h"

namespace pantry {

enum Verb : uint32_t {
  kNoVerb = 0,
  kRun = 1,
  kShow = 2,
  kTokenize = 4,
  kTemplate = 8,
  kEval = 16,
  kVersion = 32,
  kHelp = 64,
  kCompletion = 128,
  kBench = 256,
  kDoctor = 512,
  kPlan = 1024,
  kPack = 2048,
  kSim = 4096,
  kProfile = 8192,
};
inline constexpr uint32_t kModelVerbs =
    kRun | kShow | kTokenize | kTemplate | kEval | kBench | kDoctor | kPlan | kPack | kSim | kProfile;
inline constexpr uint32_t kEveryVerb = kModelVerbs | kVersion | kHelp | kCompletion;

struct Flag {
  std::string_view names;  // every spelling; the first long one is the flag's name and gives the environment twin
  std::string_view value;  // what stands for the value in help; "": a switch
  uint32_t verbs;
  std::string_view group;  // heading in help
  std::string_view help;
  // Spellings that switch it off. gcc warns of rows without it unless it has an initialiser.
  std::string_view off_names = {};  // NOLINT(readability-redundant-member-init)
};

inline const std::string kIsaHelp = "force an instruction set: " + IsaNames(", ");

// Rows of different verbs may share spellings; no verb has a spelling twice.
// Calls visit(const Flag&, field&) for every field. `Options` is CliOptions or const CliOptions.
template <typename Options, typename Visit>
void ForEachField(Options& o, Visit&& visit) {
  constexpr uint32_t kPrompting = kRun | kShow;  // show: for --effective
  constexpr uint32_t kComputing = kRun | kEval | kShow;
  visit(Flag{"-m, --model", "PATH", kModelVerbs, "Model",
             "GGUF or .pantry file, or a name in the models folder; of a sharded model, the first shard"},
        o.model);

  visit(Flag{"-p, --prompt", "TEXT", kRun | kTokenize, "Prompt",
             "the prompt; without -p and -f: standard input, or a chat on a terminal"},
        o.prompt);
  visit(Flag{"-f, --file", "FILE", kRun | kTokenize | kEval | kProfile, "Prompt",
             "read the text from FILE (after that of -p)"},
        o.file);
  visit(Flag{"-sys, --system-prompt", "TEXT", kRun, "Prompt", "the system message"}, o.system_prompt);
  visit(Flag{"-sysf, --system-prompt-file", "FILE", kRun, "Prompt", "read the system message from FILE"},
        o.system_file);
  visit(Flag{"-cnv, --conversation", "", kRun, "Prompt", "use the model's chat template (the default where it has one)",
             "-no-cnv, --no-cnv, --no-conversation"},
        o.conversation);
  visit(Flag{"-i, --interactive", "", kRun, "Prompt", "go on chatting after the first prompt"}, o.interactive);
  visit(Flag{"-st, --single-turn", "", kRun, "Prompt", "leave the chat after one answer"}, o.single_turn);
  visit(Flag{"-e, --escape", "", kRun | kTokenize, "Prompt", "read \\n, \\t, \\\\ and \\\" in the text of -p",
             "--no-escape"},
        o.escape);
  visit(Flag{"--parse-special", "", kRun | kTokenize, "Prompt",
             "read control tokens such as <|im_end|> in the text (run: with --no-cnv)"},
        o.parse_special);
  visit(Flag{"--chat-template", "JINJA", kRun, "Prompt",
             "use this template instead of the model's: Jinja text, or 'chatml'"},
        o.chat_template);
  visit(Flag{"--chat-template-file", "FILE", kRun, "Prompt", "read the template from FILE"}, o.chat_template_file);
  visit(Flag{"--chat-template-kwargs", "JSON", kRun, "Prompt",
             "further template variables, e.g. '{\"enable_thinking\": false}'"},
        o.chat_template_kwargs);

  visit(Flag{"-n, --predict, --n-predict", "N", kPrompting, "Answer",
             "tokens to write at most; -1: until the model ends"},
        o.predict);
  visit(Flag{"--stop, -r, --reverse-prompt", "TEXT", kRun, "Answer",
             "end the answer where TEXT would appear; may be given several times"},
        o.stop);
  visit(Flag{"--ignore-eos", "", kRun, "Answer", "go on after the model wants to end"}, o.ignore_eos);
  visit(Flag{"-sp, --special", "", kRun, "Answer", "show control tokens in the answer"}, o.special);

  visit(Flag{"-s, --seed", "N", kPrompting, "Sampling", "the same seed gives the same text; -1: random"}, o.seed);
  visit(Flag{"--temp, --temperature", "X", kPrompting, "Sampling",
             "0: always the most probable token; higher: more varied"},
        o.sampling.temperature);
  visit(Flag{"--top-k", "N", kPrompting, "Sampling", "choose among the N most probable; 0: all"}, o.sampling.top_k);
  visit(Flag{"--top-p", "X", kPrompting, "Sampling", "choose among the smallest set with probability X; 1: all"},
        o.sampling.top_p);
  visit(Flag{"--min-p", "X", kPrompting, "Sampling", "drop tokens less probable than X times the best; 0: off"},
        o.sampling.min_p);
  visit(Flag{"--typical, --typical-p", "X", kPrompting, "Sampling", "locally typical sampling; 1: off"},
        o.sampling.typical_p);
  visit(Flag{"--repeat-penalty", "X", kPrompting, "Sampling", "make recent tokens less probable; 1: off"},
        o.sampling.repeat_penalty);
  visit(Flag{"--repeat-last-n", "N", kPrompting, "Sampling", "tokens that penalties look back on; 0: off, -1: all"},
        o.sampling.repeat_last_n);
  visit(Flag{"--presence-penalty", "X", kPrompting, "Sampling", "subtracted once for a token that occurred"},
        o.sampling.presence_penalty);
  visit(Flag{"--frequency-penalty", "X", kPrompting, "Sampling", "subtracted for every occurrence"},
        o.sampling.frequency_penalty);
  visit(Flag{"-l, --logit-bias", "ID±B", kRun, "Sampling",
             "add B to token ID's logit, e.g. 198-2.5 or 198-inf; may be given several times"},
        o.sampling.logit_bias);

  visit(Flag{"-c, --ctx-size", "N", kComputing | kPlan | kSim | kProfile, "Computing",
             "context in tokens; 0: the model's, cut to what memory allows (eval: 512)"},
        o.ctx_size);
  visit(Flag{"-t, --threads", "N", kComputing | kPlan | kSim | kProfile, "Computing", "threads; -1: physical cores"},
        o.threads);
  visit(Flag{"-tb, --threads-batch", "N", kComputing, "Computing", "threads for the prompt; no effect here beside -t"},
        o.threads_batch);
  visit(Flag{"-b, --batch-size", "N", kComputing | kPlan, "Computing", "tokens of the prompt handed over at once"},
        o.batch_size);
  visit(Flag{"-ub, --ubatch-size", "N", kComputing | kPlan, "Computing",
             "tokens of the prompt computed together (never more than -b)"},
        o.ubatch_size);
  visit(Flag{"-ctk, --cache-type-k", "TYPE", kComputing | kBench | kPlan, "Computing",
             "number format of cached keys: f32, f16, q8_0, q4_0"},
        o.cache_type_k);
  visit(Flag{"-ctv, --cache-type-v", "TYPE", kComputing | kBench | kPlan, "Computing",
             "number format of cached values: f32, f16, q8_0, q4_0"},
        o.cache_type_v);
  visit(Flag{"--sparse", "", kComputing | kBench | kPack, "Computing",
             "of models whose neurons gate by ReLU compute, and pack, single neurons: the same answer, sooner (on)",
             "--no-sparse"},
        o.sparse);
  visit(
      Flag{
          "--sparsity", "SHARE", kComputing | kBench | kProfile, "Computing",
          "with a little less quality, of models whose neurons gate by SiLU let so many rest: 30% or 0.3; by a profile "
          "(CATS). profile: the share that counts as resting (50%)"},
      o.sparsity);
  visit(Flag{"--profile", "FILE", kComputing | kBench | kPlan, "Computing",
             "what 'pantry profile' wrote, for --sparsity, --warm-start and plans; by default MODEL.profile"},
        o.profile);
  visit(
      Flag{"--predictor", "FILE", kComputing | kBench, "Computing",
           "with a little less quality, of models whose neurons gate by ReLU compute only the gates that are predicted "
           "to fire, by what 'pantry profile train' wrote; in eval for all tokens, else where a single token is "
           "computed"},
      o.predictor);
  visit(Flag{"--isa", "NAME", kComputing | kBench | kPlan | kPack | kProfile, "Computing", kIsaHelp}, o.isa);

  visit(Flag{"--memory, --memory-gb", "SIZE", kComputing | kBench | kPlan | kSim | kProfile, "Memory",
             "for the whole process: 6G, 512M, 60% of what is available, or auto (70%)"},
        o.memory);
  visit(Flag{"--stream", "auto|on|off", kComputing | kBench | kPlan | kSim | kProfile, "Memory",
             "read experts from the file while running: where they do not fit, always, never"},
        o.stream);
  visit(Flag{"--io", "WAY", kComputing | kBench | kProfile, "Memory",
             "how they are read: auto, io_uring, pread, page-cache"},
        o.io);
  visit(Flag{"--lookahead", "", kComputing | kBench, "Memory",
             "read what the next layers will want while this one is computed (on)", "--no-lookahead"},
        o.lookahead);
  visit(Flag{"--warm-start", "", kComputing | kBench, "Memory",
             "where single neurons or experts that gate by ReLU are streamed, read what is used most before the first "
             "token, by the model's profile (on)",
             "--no-warm-start"},
        o.warm_start);
  visit(Flag{"--use-pack", "", kRun | kPlan, "Memory",
             "where weights stream from the disk, read the .pantry file beside the model, if it is faster (on)",
             "--no-use-pack"},
        o.use_pack);
  visit(Flag{"--measure", "", kPlan | kSim, "Memory",
             "measure this machine for some seconds, where that was not done yet (on)", "--no-measure"},
        o.measure);
  visit(Flag{"--cache-policy", "NAME", kComputing | kBench | kSim, "Memory",
             "which experts stay in memory: lru, lfu, lrfu, cycle; lfu:32 and the like: a use counts half after 32 "
             "tokens; belady, which knows the future: sim only"},
        o.cache_policy);
  visit(Flag{"--expert-policy", "POLICY", kComputing | kBench | kSim, "Memory",
             "which experts of a streamed model run: exact, or with a little less quality rather those in memory: "
             "cache-prior:0.2, max-rank:M, cumulative:P, margin:D, factor:F, drop:F, or auto:1% while it waits for the "
             "disk"},
        o.expert_policy);
  visit(Flag{"--expert-policy-top", "J", kComputing | kBench | kSim, "Memory",
             "a token's J best experts always run; 0: 1 of two, else 2"},
        o.expert_policy_top);
  visit(Flag{"--expert-policy-skip", "N", kComputing | kBench | kSim, "Memory", "leave the first N layers exact"},
        o.expert_policy_skip);
  visit(Flag{"--expert-policy-prompts", "", kComputing | kBench | kSim, "Memory", "for the tokens of prompts, too"},
        o.expert_policy_prompts);
  visit(Flag{"--neuron-policy", "POLICY", kComputing | kBench, "Memory",
             "which neurons of a pack of single neurons run for a token: exact, or with a little less quality of those "
             "that are not in memory only such as fire strongly: cache-prior:0.1 (0 to 1)"},
        o.neuron_policy);
  visit(Flag{"--cache", "SIZE", kSim, "Memory", "of blocks, instead of what --memory leaves for them"}, o.sim_cache);
  visit(Flag{"--device", "host|FILE", kSim, "Simulation", "this machine as doctor measured it, or a device profile"},
        o.sim_device);
  visit(Flag{"--measure-host", "FILE", kSim, "Simulation",
             "instead of simulating, measure with the model's file what doctor does not, and write a device profile"},
        o.sim_measure_host);
  visit(Flag{"--trace", "FILE|zipf:..", kSim, "Simulation",
             "which experts are wanted: recorded by run --routing-trace, or made up (zipf:tokens=256,seed=1)"},
        o.sim_trace);
  visit(Flag{"--skip", "N", kSim, "Simulation",
             "runs (a prompt, or a token) before counting begins, while the cache fills"},
        o.sim_skip);
  visit(Flag{"--guess-recall", "X", kSim, "Simulation", "share of the next layer's experts that are guessed; 0: none"},
        o.sim_recall);
  visit(Flag{"--ablation", "powerinfer2", kSim, "Simulation",
             "a published experiment instead of a run: neurons of a 7B model on a phone's flash, step by step; "
             "powerinfer2-sensitivity: what its constants change (minutes)"},
        o.sim_ablation);
  visit(Flag{"--trace-out", "FILE", kSim, "Simulation",
             "draw reading, waiting and computing in FILE, for ui.perfetto.dev or chrome://tracing"},
        o.sim_trace_out);
  visit(Flag{"--min-speed", "TOK/S", kPlan, "Memory",
             "of a model whose neurons rest: say how much memory makes it so fast"},
        o.min_speed);
  visit(Flag{"--sim-memory", "SIZE", kPlan, "Memory", "plan as if so much memory were available"}, o.sim_memory);

  visit(Flag{"-p, --n-prompt", "LIST", kPlan, "Prompts", "tokens of the prompts to plan for"}, o.plan_prompts);
  visit(Flag{"-p, --n-prompt", "LIST", kBench, "Tests", "tokens of a prompt to read; 0: no such test"}, o.n_prompt);
  visit(Flag{"-n, --n-gen", "LIST", kBench, "Tests", "tokens to generate; 0: no such test"}, o.n_gen);
  visit(Flag{"-pg, --prompt-gen", "P,N", kBench, "Tests",
             "read P tokens and generate N in one test; may be given several times"},
        o.prompt_gen);
  visit(Flag{"-d, --n-depth, --depth", "LIST", kBench, "Tests", "tokens in the context before a test begins"},
        o.n_depth);
  visit(Flag{"-t, --threads", "LIST", kBench, "Tests", "threads; none given: physical cores"}, o.thread_counts);
  visit(Flag{"-b, --batch-size", "LIST", kBench, "Tests", "tokens of a prompt computed together"}, o.batch_sizes);
  visit(Flag{"-ub, --ubatch-size", "LIST", kBench, "Tests", "the same; the smaller of the two counts"}, o.ubatch_sizes);
  visit(Flag{"-np, --parallel, -npl", "LIST", kBench, "Tests",
             "sequences to generate together, a token of each at a time; they share the prompt"},
        o.n_sequences);
  visit(Flag{"--best-of", "LIST", kBench, "Tests",
             "generate N sequences together of which one ends after another, evenly over the tokens of -n"},
        o.best_of);
  visit(Flag{"-r, --repetitions", "N", kBench, "Tests", "times each test is run; the median counts"}, o.repetitions);
  visit(Flag{"--warmup", "", kBench, "Tests", "a short run before each test that is not timed (on)", "--no-warmup"},
        o.warmup);
  visit(
      Flag{"--tokens", "sampled|random", kBench, "Tests",
           "sampled: read English, generate what the model says at temperature 1; random: random ids, as llama-bench"},
      o.tokens);

  visit(Flag{"--tensors", "", kShow, "Output", "list the tensors too"}, o.tensors);
  visit(Flag{"--effective", "", kShow, "Output", "list every setting, its value and where that came from"},
        o.effective);
  visit(Flag{"--json", "", kShow | kEval | kBench | kDoctor | kPlan | kSim | kProfile, "Output", "print JSON"}, o.json);
  visit(Flag{"-n, --n-tokens", "N", kProfile, "Prompt", "tokens of the text to read, spread over it"},
        o.profile_tokens);
  visit(Flag{"-o, --profile-out", "FILE", kProfile, "Output", "write the profile to FILE; by default MODEL.profile"},
        o.profile_out);
  visit(Flag{"--kind", "hot|svd|mlp", kProfile, "Training",
             "train: from how often each neuron fires, from the leading directions of the gates, or these trained on "
             "(mlp)"},
        o.predictor_kind);
  visit(Flag{"--recall", "SHARE", kProfile, "Training",
             "train: of the neurons that fire, so many are to be predicted (0.95)"},
        o.recall);
  visit(Flag{"--report", "FILE", kProfile, "Output", "write a page with heat maps and a table to FILE"},
        o.profile_report);
  visit(Flag{"-o, --output", "FORMAT", kBench, "Output", "table, md, csv, json or jsonl"}, o.output);
  visit(Flag{"--no-bos", "", kTokenize, "Output", "do not add the tokens that the model puts around a text"}, o.no_bos);
  visit(Flag{"--pieces", "", kTokenize, "Output", "one token a line, with its text"}, o.pieces);
  visit(Flag{"--template-file", "FILE", kTemplate, "Template", "a Jinja template, instead of a model's"},
        o.template_file);
  visit(Flag{"--messages", "FILE", kTemplate, "Template",
             "the conversation: JSON with messages, tools, add_generation_prompt; -: standard input"},
        o.messages);
  visit(Flag{"--var", "NAME=STRING", kTemplate, "Template",
             "a template variable such as bos_token; may be given several times"},
        o.var);
  visit(Flag{"--now", "TIME", kTemplate, "Template", "what the template's clock says: 'YYYY-MM-DD HH:MM:SS'"}, o.now);
  visit(Flag{"--chunks", "N", kEval, "Evaluation", "windows to score; -1: all (routing: 20)"}, o.chunks);
  visit(Flag{"--limit", "N", kEval, "Evaluation", "tasks: items of each file, from its beginning; -1: all"}, o.limit);
  visit(Flag{"--task", "NAME", kEval, "Evaluation",
             "tasks: how items are asked and judged: choice, triviaqa, gsm8k, gsm8k_cot, rolling; by default as their "
             "fields say"},
        o.task);
  visit(Flag{"--prefix-file", "FILE", kEval, "Evaluation", "tasks: examples that gsm8k_cot puts before each question"},
        o.prefix_file);
  visit(Flag{"--out", "FILE", kEval, "Evaluation", "tasks: write each item's scores to FILE, a line of JSON each"},
        o.item_file);
  visit(Flag{"--save-logits", "FILE", kEval, "Evaluation", "kl: write the model's probabilities to FILE, as reference"},
        o.save_logits);
  visit(Flag{"--reference", "FILE", kEval, "Evaluation", "kl: compare with the probabilities in FILE"}, o.reference);
  visit(Flag{"--policies", "LIST", kEval, "Evaluation",
             "routing: what to try, with values (cache-prior:0.2) or without (several values): max-rank, cumulative, "
             "margin, cache-prior, factor, drop, prune, replace, leave-out; or all"},
        o.routing_policies);
  visit(Flag{"--cache-shares", "LIST", kEval, "Evaluation",
             "routing: shares of each layer's experts that caches hold, such as 0.25,0.5"},
        o.routing_cache_shares);
  visit(Flag{"--csv", "FILE", kEval, "Evaluation", "routing: write the rows to FILE"}, o.routing_csv);
  visit(Flag{"--html", "FILE", kEval, "Evaluation", "routing: write a page of charts to FILE"}, o.routing_html);
  visit(Flag{"--replay", "FILE", kEval, "Evaluation",
             "routing: try them on a recording of --routing-trace, without a model and so without perplexity"},
        o.routing_replay);

  visit(Flag{"--force", "", kPack, "Output", "replace the file where it exists"}, o.force);
  visit(Flag{"--verify", "", kPack, "Output", "read everything back before the file gets its name (on)", "--no-verify"},
        o.verify);

  visit(Flag{"--disk", "DIR", kDoctor, "Disk",
             "measure the disk of folder DIR, with a test file of 1 GiB that is gone afterwards"},
        o.disk);
  visit(Flag{"--no-disk", "", kDoctor, "Disk", "do not measure a disk"}, o.no_disk);

  visit(Flag{"--stats", "FILE", kComputing | kBench, "Messages",
             "write what each token or part of a prompt cost to FILE, a line of JSON each"},
        o.stats);
  visit(Flag{"--trace", "FILE", kComputing | kBench, "Messages",
             "draw reading, waiting and computing in FILE, for ui.perfetto.dev or chrome://tracing"},
        o.trace);
  visit(Flag{"--routing-trace, --trace-routing", "FILE", kComputing | kBench, "Messages",
             "record which experts each token chose in FILE, a line of JSON each layer"},
        o.routing_trace);
  visit(Flag{"-v, --verbose", "", kModelVerbs, "Messages", "say everything"}, o.verbose);
  visit(Flag{"-lv, --verbosity", "N", kModelVerbs, "Messages",
             "0 errors, 1 warnings, 2 also progress and figures, 3 everything"},
        o.verbosity);
  visit(Flag{"--log-file", "FILE", kModelVerbs, "Messages", "append all messages to FILE"}, o.log_file);
  visit(Flag{"--no-color", "", kModelVerbs, "Messages", "no colours (as NO_COLOR does)"}, o.no_color);
  visit(Flag{"-h, --help", "", kEveryVerb, "Messages", "show this"}, o.help);
}

}  // namespace pantry
