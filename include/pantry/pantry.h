/* SPDX-License-Identifier: Apache-2.0 */
/* The C door to Pantry: load a model, talk to it, read its numbers.
 *
 *   pantry_engine   a loaded model: weights, tokenizer, chat template, threads
 *   pantry_session  one conversation on it: the tokens computed so far and their cache
 *
 * Errors are values. Every function that can fail returns a pantry_code and, where `error` is not NULL, fills it with the code and a
 * sentence that says what failed, where, why and how to mend it. There is no global state and nothing is printed.
 * Text is UTF-8 with a length, and need not end in a zero byte unless it says "zero-terminated".
 * Threads: any number of engines; the sessions of one engine run one at a time. An engine may be closed before its sessions: it lives
 * until the last of them is freed.
 * Growth: options begin with `size`. The _init functions take sizeof the struct as the caller knows it and fill in the defaults. Later
 * versions add fields at the end; a library accepts the options of every older header, and those of a newer one as long as the fields
 * that it does not know are zero. */
#ifndef PANTRY_PANTRY_H_
#define PANTRY_PANTRY_H_

/* NOLINTBEGIN(readability-identifier-naming,modernize-*): C names. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(PANTRY_BUILDING_SHARED) && defined(__GNUC__)
#define PANTRY_API __attribute__((visibility("default")))
#else
#define PANTRY_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pantry_engine pantry_engine;
typedef struct pantry_session pantry_session;

typedef enum pantry_code {
  PANTRY_OK = 0,
  PANTRY_INVALID_ARGUMENT = 1, /* the caller's request is wrong */
  PANTRY_NOT_FOUND = 2,        /* a file, a tensor, a key is not there */
  PANTRY_CORRUPTION = 3,       /* the model file contradicts its format */
  PANTRY_IO_ERROR = 4,
  PANTRY_OUT_OF_BUDGET = 5,   /* it does not fit in memory */
  PANTRY_UNSUPPORTED = 6,     /* well-formed, but nothing this version can run */
  PANTRY_CANCELLED = 7,       /* a callback asked to stop */
  PANTRY_INTERNAL = 8,        /* a bug in Pantry */
  PANTRY_BUFFER_TOO_SMALL = 9 /* the count that came back says how much is needed */
} pantry_code;

typedef struct pantry_error {
  pantry_code code;
  char message[512]; /* zero-terminated, cut to whole characters; empty when code is PANTRY_OK */
} pantry_error;

PANTRY_API const char* pantry_version(void); /* "0.1.0" */

/* ---- engine ---- */

typedef struct pantry_engine_options {
  size_t size;       /* sizeof(pantry_engine_options) */
  int32_t n_threads; /* 0: the physical cores this process may use */
  const char* isa;   /* "scalar", "avx2", "avx512-vnni", ...; NULL: the best this CPU runs */
  /* While weights are read, on the calling thread. Returns false to cancel. NULL: none. */
  bool (*on_progress)(void* user, int64_t n_bytes_done, int64_t n_bytes_total);
  /* Lines for a person (level 1: information, 2: warning), zero-terminated, on the calling thread. NULL: dropped. */
  void (*on_log)(void* user, int level, const char* line);
  void* user; /* passed to both; must live as long as the engine */
  /* Bytes that the whole process may take; what does not fit of the model is read while running. 0: by itself, as `pantry run` does. */
  int64_t memory_bytes;
  /* What memory is planned for: pantry_session_options' n_ctx and n_batch of the session to come. 0: the defaults. */
  int64_t n_ctx;
  int32_t n_batch;
  /* "exact" (NULL), "cache-prior:0.2", "auto:1%", ...: which experts of a streamed model run; see `pantry help run`. */
  const char* expert_policy;
  /* "exact" (NULL) or "cache-prior:0.1": which neurons of a pack of single neurons run; see `pantry help run`. */
  const char* neuron_policy;
} pantry_engine_options;

PANTRY_API void pantry_engine_options_init(pantry_engine_options* options, size_t size); /* size: sizeof(*options) */

/* Opens a GGUF file (the first shard suffices) and loads its weights. `options` may be NULL. */
PANTRY_API pantry_code pantry_engine_open(const char* path, const pantry_engine_options* options,
                                          pantry_engine** engine, pantry_error* error);
PANTRY_API void pantry_engine_close(pantry_engine* engine); /* NULL is fine */

PANTRY_API int32_t pantry_vocabulary_size(const pantry_engine* engine);
PANTRY_API int32_t pantry_trained_context(const pantry_engine* engine); /* positions the model was trained on */
PANTRY_API bool pantry_is_end_of_generation(const pantry_engine* engine, int32_t token);

/* ---- text and tokens ---- */

/* Writes the ids of `text` to tokens[0 .. capacity) and their number to n_tokens, also when they do not fit (PANTRY_BUFFER_TOO_SMALL).
 * add_special: put BOS (and EOS) where the model has them. parse_special: read "<|im_end|>" and the like as control tokens; never
 * switch it on for text that a user typed. */
PANTRY_API pantry_code pantry_tokenize(const pantry_engine* engine, const char* text, size_t n_bytes, bool add_special,
                                       bool parse_special, int32_t* tokens, size_t capacity, size_t* n_tokens,
                                       pantry_error* error);

/* Writes the text of tokens to text[0 .. capacity), a zero byte after it where there is room, and its length to n_bytes.
 * special: show control tokens as text. */
PANTRY_API pantry_code pantry_detokenize(const pantry_engine* engine, const int32_t* tokens, size_t n_tokens,
                                         bool special, char* text, size_t capacity, size_t* n_bytes,
                                         pantry_error* error);

/* Renders a conversation with the model's own chat template and tokenises it as pantry_tokenize() does. `messages_json` is an array of
 * {"role": ..., "content": ...}, or an object with "messages" and, if wanted, "tools" and "add_generation_prompt". Text in messages
 * never becomes a control token. PANTRY_NOT_FOUND when the model has no template. */
PANTRY_API pantry_code pantry_render_chat(const pantry_engine* engine, const char* messages_json, size_t n_bytes,
                                          int32_t* tokens, size_t capacity, size_t* n_tokens, pantry_error* error);

/* ---- session ---- */

typedef struct pantry_session_options {
  size_t size;         /* sizeof(pantry_session_options) */
  int64_t n_ctx;       /* positions; 0: the model's, cut to what memory allows */
  int32_t n_batch;     /* tokens of a prompt computed together; 512 */
  const char* kv_type; /* "f16" (NULL), "q8_0", "q4_0", "f32" */
} pantry_session_options;

PANTRY_API void pantry_session_options_init(pantry_session_options* options, size_t size); /* size: sizeof(*options) */

PANTRY_API pantry_code pantry_session_new(pantry_engine* engine, const pantry_session_options* options,
                                          pantry_session** session, pantry_error* error);
PANTRY_API void pantry_session_free(pantry_session* session); /* NULL is fine */

PANTRY_API int64_t pantry_session_context(const pantry_session* session);  /* positions there are */
PANTRY_API int64_t pantry_session_n_tokens(const pantry_session* session); /* positions computed */

/* Computes tokens after those that are there. `on_prompt` (or NULL) as in pantry_generate_options; when it returns false the code is
 * PANTRY_CANCELLED and what was computed stays. */
PANTRY_API pantry_code pantry_feed(pantry_session* session, const int32_t* tokens, size_t n_tokens,
                                   bool (*on_prompt)(void* user, int64_t n_done, int64_t n_total), void* user,
                                   pantry_error* error);
/* Forgets all positions from n_tokens on. */
PANTRY_API void pantry_truncate(pantry_session* session, int64_t n_tokens);
/* Forgets what differs from `prompt` and returns how many of its first tokens need not be fed again (at most n_tokens - 1). */
PANTRY_API int64_t pantry_reuse_prefix(pantry_session* session, const int32_t* prompt, size_t n_tokens);
/* The logits of the last token fed, one per token of the vocabulary; valid until the session is used again. NULL when there are none. */
PANTRY_API const float* pantry_logits(const pantry_session* session, size_t* n_logits);

/* ---- generation ---- */

typedef struct pantry_sampling {
  size_t size;             /* sizeof(pantry_sampling) */
  float temperature;       /* 0.8; 0: always the most probable token */
  int32_t top_k;           /* 40; 0: all */
  float top_p;             /* 0.95; 1: all */
  float min_p;             /* 0.05; 0: off */
  float typical_p;         /* 1: off */
  float repeat_penalty;    /* 1: off */
  int32_t repeat_last_n;   /* 64; 0: off, -1: all */
  float presence_penalty;  /* 0 */
  float frequency_penalty; /* 0 */
  uint64_t seed;           /* 0; the same seed gives the same answer */
} pantry_sampling;

PANTRY_API void pantry_sampling_init(pantry_sampling* sampling, size_t size); /* size: sizeof(*sampling) */

typedef struct pantry_generate_options {
  size_t size;                     /* sizeof(pantry_generate_options) */
  const pantry_sampling* sampling; /* NULL: the defaults */
  int64_t max_tokens;              /* -1: until the model ends or the context is full */
  const char* const* stop;         /* zero-terminated texts that end the answer and are not part of it */
  size_t n_stop;
  bool ignore_eos; /* never let the model end the answer */
  /* Called after each batch of the prompt with the tokens done and to do, and `user` of pantry_generate(). Returns false to cancel.
   * NULL: a prompt is computed to its end. */
  bool (*on_prompt)(void* user, int64_t n_done, int64_t n_total);
} pantry_generate_options;

PANTRY_API void pantry_generate_options_init(pantry_generate_options* options,
                                             size_t size); /* size: sizeof(*options) */

typedef enum pantry_stop_reason {
  PANTRY_STOP_END = 0, /* the model ended its answer */
  PANTRY_STOP_TEXT = 1,
  PANTRY_STOP_MAX_TOKENS = 2,
  PANTRY_STOP_CONTEXT_FULL = 3,
  PANTRY_STOP_CANCELLED = 4
} pantry_stop_reason;

typedef struct pantry_generate_result {
  size_t size; /* set by the caller: sizeof(pantry_generate_result) */
  pantry_stop_reason stop_reason;
  int64_t n_prompt;    /* tokens of the prompt, */
  int64_t n_cached;    /* of them computed before, */
  int64_t n_generated; /* tokens of the answer */
  int64_t prefill_us;
  int64_t decode_us;
  int64_t first_token_us; /* from the call to the first token */
} pantry_generate_result;

/* Called for each token of the answer with the text that became certain: whole characters, possibly none (n_bytes 0), `text`
 * zero-terminated; at the end once more with `token` -1 if text was held back. Returns false to cancel, for instance because another
 * thread raised a flag. */
typedef bool (*pantry_on_token)(void* user, int32_t token, const char* text, size_t n_bytes);

/* Answers a prompt: the whole conversation so far, of which the session recomputes only what it does not hold. Cancelling is not an
 * error. `options`, `on_token` and `result` may be NULL. */
PANTRY_API pantry_code pantry_generate(pantry_session* session, const int32_t* prompt, size_t n_tokens,
                                       const pantry_generate_options* options, pantry_on_token on_token, void* user,
                                       pantry_generate_result* result, pantry_error* error);

/* ---- figures ---- */

/* What running took since the engine was opened. A model that is in memory as a whole has zeros, and a negative budget where there is none. */
typedef struct pantry_stream_figures {
  size_t size;          /* set by the caller: sizeof(pantry_stream_figures) */
  int64_t budget_bytes; /* of the process */
  int64_t cache_bytes;  /* of it, for blocks of weights */
  int64_t n_demanded;   /* blocks that were wanted, */
  int64_t n_hits;       /* of them in memory, */
  int64_t n_late;       /* of them on their way */
  int64_t bytes_read;
  int64_t wait_us;    /* that nothing could be computed because of the disk */
  int64_t n_picks;    /* experts that routers chose where an expert policy might have changed that, */
  int64_t n_agreed;   /* of them run */
  double weight_kept; /* mean share of the routers' weight that went to what ran; 1 without a policy */
  double
      excess_kl; /* nats that the gates are farther from the routers' softmax than exact routing's, mean; 0 without a policy */
} pantry_stream_figures;

PANTRY_API pantry_code pantry_get_stream_figures(pantry_engine* engine, pantry_stream_figures* figures,
                                                 pantry_error* error);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(readability-identifier-naming,modernize-*) */

#endif /* PANTRY_PANTRY_H_ */
