// SPDX-License-Identifier: Apache-2.0
// CliOptions are all settings a person can give, with their defaults; option_table.h says how each is spelled.
//
// One aggregate for all verbs: a verb reads the fields that option_table.h allows it. Precedence of a value: flag, then environment
// (PANTRY_<FLAG>), then the model's own recommendation (general.sampling.*), then the default below.
// Threads: a value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "text/sampler.h"

namespace pantry {

// Numbers as llama-bench takes them: "512", "128,256", "1-8", "1-8+2", "1-8*2". The first one given replaces the default, more are added.
struct NumberList {
  std::vector<int64_t> values;
  bool is_default = true;
};

// Spellings follow llama.cpp's where it has the same setting, so that scripts and habits carry over.
struct CliOptions {
  std::string model;  // a path, or a name in the models folder

  // What the model is asked.
  std::string prompt;
  std::string file;  // read after `prompt`
  std::string system_prompt;
  std::string system_file;           // read after `system_prompt`
  std::optional<bool> conversation;  // use the chat template; unset: when the model has one
  bool interactive = false;          // go on chatting after the first prompt
  bool single_turn = false;          // leave the chat after one answer
  bool escape = false;         // read \n and the like in `prompt`; off, since a path or a formula may hold backslashes
  bool parse_special = false;  // read control tokens in text; off, since typed text must not end a turn
  std::string chat_template;   // Jinja source, or the name of a built-in one
  std::string chat_template_file;
  std::string chat_template_kwargs;  // a JSON object of further template variables

  // How the answer is written.
  int64_t predict = -1;  // tokens; -1: until the model ends
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool special = false;      // show control tokens
  int64_t seed = -1;         // -1: random
  SamplingOptions sampling;  // its seed is unused here

  // How it is computed.
  int64_t ctx_size = 0;  // positions; 0: the model's, cut to what memory allows
  int32_t threads = -1;  // -1: physical cores
  int32_t threads_batch = -1;
  int32_t batch_size = 2048;  // llama.cpp's names: tokens given to the engine at once ...
  int32_t ubatch_size = 512;  // ... and computed together; the smaller of the two counts
  KvType cache_type_k = KvType::kF16;
  KvType cache_type_v = KvType::kF16;
  std::optional<Isa> isa;

  // How much memory it takes, and what happens to the rest.
  std::string memory = "auto";          // of the whole process: a size, a share of what is available, or auto
  std::string stream = "auto";          // on, off, auto: experts come from the file where they do not fit
  std::string io = "auto";              // how they are read: DiskAccessName()
  bool sparse = true;                   // of ReLU networks, compute only what fires
  std::string sparsity;                 // of SiLU networks, so many neurons rest: ParseSparsity(); "": none
  std::string profile;                  // file of NeuronProfile; "": beside the model
  std::string predictor;                // file of PredictorFile; "": nothing is predicted
  bool lookahead = true;                // they are read before they are wanted
  bool warm_start = true;               // neurons that fire most are read before the first token
  std::string cache_policy;             // which experts stay: PolicyName(); "": the best measured
  std::string expert_policy = "exact";  // which experts run: ParseExpertPolicy()
  int32_t expert_policy_top = 0;        // how many of a router's best always do; 0: by the model
  int32_t expert_policy_skip = 0;       // first layers that are left alone
  bool expert_policy_prompts = false;   // prompts are not
  std::string neuron_policy = "exact";  // which neurons run: ParseNeuronPolicy()

  // plan.
  std::string sim_memory;  // available memory to plan for, instead of this machine's
  NumberList plan_prompts{{128, 512}};
  float min_speed = 0;  // tokens a second that are wanted; 0: any

  // sim.
  std::string sim_device = "host";  // or a file of DeviceProfile
  std::string sim_measure_host;     // file for a DeviceProfile of this machine, with what doctor does not know
  std::string sim_trace;            // a routing file, or "zipf:..." (sim_input.h); "": made up
  std::string sim_trace_out;        // file of TraceFile
  std::string sim_cache;            // bytes for blocks, instead of what --memory leaves
  int64_t sim_skip = 0;             // tokens, or prompts, before counting begins
  std::string sim_ablation;         // NeuronAblation()
  float sim_recall = 0.8f;          // of the next layer's experts, how many are guessed

  // profile.
  int64_t profile_tokens = 4096;
  std::string profile_out;             // file; "": beside the model
  std::string profile_report;          // file
  std::string predictor_kind = "mlp";  // of train: hot, svd, mlp
  float recall = 0.95f;                // likewise: of what fires, the share to predict

  // pack.
  bool force = false;    // an existing file is replaced
  bool measure = true;   // this machine, where nobody knows it yet
  bool use_pack = true;  // beside the model, where it streams
  bool verify = true;    // what was written is read back

  // What is said on standard error.
  bool verbose = false;
  int32_t verbosity = 2;  // 0 errors, 1 warnings, 2 also mode, progress and footer, 3 everything
  std::string log_file;
  std::string stats;          // file for a line of JSON about each run
  std::string trace;          // file of TraceFile
  std::string routing_trace;  // file of RoutingFileWriter
  bool no_color = false;

  // doctor.
  std::string disk;  // folder to write a test file in
  bool no_disk = false;

  // Single verbs.
  bool json = false;
  bool tensors = false;
  bool effective = false;
  bool no_bos = false;
  bool pieces = false;
  std::string template_file;
  std::string messages;
  std::vector<std::string> var;  // NAME=STRING
  std::string now;               // what the template's clock says
  int64_t chunks = -1;

  // eval tasks, eval kl.
  int64_t limit = -1;  // items of each file
  std::string task;    // TaskProtocolName(); "": what the fields say
  std::string prefix_file;
  std::string item_file;    // a line of JSON for each item
  std::string save_logits;  // KlFile to write
  std::string reference;    // KlFile to compare with

  // eval routing.
  std::string routing_policies = "all";                // ParseRoutingVariants()
  std::string routing_cache_shares = "0.25,0.5,0.75";  // of each layer's experts
  std::string routing_csv;                             // file
  std::string routing_html;                            // file
  std::string routing_replay;                          // file of RoutingFileWriter

  // bench: what to vary.
  NumberList n_prompt{{512}};
  NumberList n_gen{{128}};
  std::vector<std::string> prompt_gen;  // "P,N"
  NumberList n_depth{{0}};
  NumberList thread_counts;  // none: physical cores
  NumberList batch_sizes{{512}};
  NumberList ubatch_sizes;  // none: the batch is computed as one
  NumberList n_sequences{{1}};
  NumberList best_of;
  int32_t repetitions = 5;
  bool warmup = true;
  std::string tokens = "sampled";
  std::string output = "table";
  bool help = false;
};

}  // namespace pantry
