/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a model one question and prints the answer as it comes.
 *
 *   cc -std=c11 -I include examples/c/hello.c -L build/dev/src/engine -lpantry -o hello && ./hello model.gguf "Why is the sky blue?"
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pantry/pantry.h"

enum { kMaxPromptTokens = 4096 };

static int Fail(const pantry_error* error) {
  fprintf(stderr, "error: %s\n", error->message);
  return 1;
}

static bool PrintText(void* user, int32_t token, const char* text, size_t n_bytes) {
  (void)user;
  (void)token;
  fwrite(text, 1, n_bytes, stdout);
  fflush(stdout);
  return true; /* false would end the answer */
}

static void PrintLog(void* user, int level, const char* line) {
  (void)user;
  if (level >= 2) fprintf(stderr, "warning: %s\n", line);
}

/* The question as JSON, with the characters escaped that need it. The caller frees it. */
static char* MessagesJson(const char* question) {
  static const char head[] = "[{\"role\": \"user\", \"content\": \"";
  static const char tail[] = "\"}]";
  char* json = malloc(sizeof(head) + sizeof(tail) + 6 * strlen(question));
  if (json == NULL) return NULL;
  char* out = json + sprintf(json, "%s", head);
  for (const char* c = question; *c != '\0'; ++c) {
    if ((unsigned char)*c < 0x20 || *c == '"' || *c == '\\') {
      out += sprintf(out, "\\u%04x", (unsigned)(unsigned char)*c);
    } else {
      *out++ = *c;
    }
  }
  strcpy(out, tail);
  return json;
}

static int Ask(const pantry_engine* engine, pantry_session* session, const char* question) {
  static int32_t prompt[kMaxPromptTokens];
  size_t n_prompt = 0;
  pantry_error error;

  char* json = MessagesJson(question);
  if (json == NULL) return 1;
  pantry_code code = pantry_render_chat(engine, json, strlen(json), prompt, kMaxPromptTokens, &n_prompt, &error);
  free(json);
  if (code == PANTRY_NOT_FOUND) { /* no chat template: let the model go on with the bare text */
    code =
        pantry_tokenize(engine, question, strlen(question), true, false, prompt, kMaxPromptTokens, &n_prompt, &error);
  }
  if (code != PANTRY_OK) return Fail(&error);

  pantry_generate_options options;
  pantry_generate_options_init(&options, sizeof(options));
  options.max_tokens = 64;
  pantry_generate_result result = {.size = sizeof(result)};
  if (pantry_generate(session, prompt, n_prompt, &options, PrintText, NULL, &result, &error) != PANTRY_OK) {
    return Fail(&error);
  }
  fprintf(stderr, "\n%" PRId64 " tokens after a prompt of %" PRId64 "\n", result.n_generated, result.n_prompt);
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL.gguf QUESTION\n", argv[0]);
    return 2;
  }
  pantry_error error;
  pantry_engine_options options;
  pantry_engine_options_init(&options, sizeof(options));
  options.on_log = PrintLog;

  pantry_engine* engine = NULL;
  if (pantry_engine_open(argv[1], &options, &engine, &error) != PANTRY_OK) return Fail(&error);
  pantry_session* session = NULL;
  if (pantry_session_new(engine, NULL, &session, &error) != PANTRY_OK) {
    pantry_engine_close(engine);
    return Fail(&error);
  }
  const int exit_code = Ask(engine, session, argv[2]);
  pantry_session_free(session);
  pantry_engine_close(engine);
  return exit_code;
}
