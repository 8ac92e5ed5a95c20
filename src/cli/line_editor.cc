// SPDX-License-Identifier: Apache-2.0
#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cwchar>
#include <filesystem>
#include <system_error>

#include "cli/interrupt.h"

namespace pantry {
namespace {

constexpr int kHistoryLines = 1000;

// One character from the terminal. libedit's own reader starts over after a signal; this one lets Ctrl-C through.
int ReadCharacter(EditLine*, wchar_t* out) {
  std::mbstate_t state = {};
  for (;;) {
    char byte = 0;
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (n < 0 && errno == EINTR && !Interrupted()) continue;
    if (n <= 0) return static_cast<int>(n);
    const size_t length = std::mbrtowc(out, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;  // more bytes belong to this character
    if (length == static_cast<size_t>(-1)) *out = L'?';
    return 1;
  }
}

}  // namespace

struct LineEditor::Impl {
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event = {};
  std::string history_file;
  std::string prompt;

  static char* Prompt(EditLine* edit) {
    void* data = nullptr;
    el_get(edit, EL_CLIENTDATA, &data);
    return static_cast<Impl*>(data)->prompt.data();
  }
};

LineEditor::LineEditor(const std::string& history_file) : impl_(std::make_unique<Impl>()) {
  impl_->history_file = history_file;
  impl_->history = history_init();
  history(impl_->history, &impl_->event, H_SETSIZE, kHistoryLines);
  history(impl_->history, &impl_->event, H_SETUNIQUE, 1);
  if (!history_file.empty()) history(impl_->history, &impl_->event, H_LOAD, history_file.c_str());  // absent at first
  impl_->edit = el_init("pantry", stdin, stderr, stderr);
  el_set(impl_->edit, EL_CLIENTDATA, impl_.get());
  el_set(impl_->edit, EL_PROMPT, &Impl::Prompt);
  el_set(impl_->edit, EL_EDITOR, "emacs");
  el_set(impl_->edit, EL_SIGNAL, 0);
  el_set(impl_->edit, EL_GETCFN, &ReadCharacter);
  el_set(impl_->edit, EL_HIST, history, impl_->history);
  el_set(impl_->edit, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_set(impl_->edit, EL_BIND, "^W", "ed-delete-prev-word", nullptr);
  el_set(impl_->edit, EL_BIND, "\\e[1;5D", "ed-prev-word", nullptr);  // Ctrl and an arrow
  el_set(impl_->edit, EL_BIND, "\\e[1;5C", "em-next-word", nullptr);
  el_set(impl_->edit, EL_BIND, "\\e[3~", "ed-delete-next-char", nullptr);
  el_source(impl_->edit, nullptr);  // the user's ~/.editrc
}

LineEditor::~LineEditor() {
  el_end(impl_->edit);
  history_end(impl_->history);
}

LineEvent LineEditor::Read(const std::string& prompt, std::string& line) {
  impl_->prompt = prompt;
  int n = 0;
  const char* text = el_gets(impl_->edit, &n);
  if (Interrupted()) {
    std::fputs("\n", stderr);
    el_reset(impl_->edit);
    return LineEvent::kInterrupt;
  }
  if (text == nullptr || n <= 0) return LineEvent::kEnd;
  line.assign(text, static_cast<size_t>(n));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return LineEvent::kLine;
}

void LineEditor::AddToHistory(const std::string& line) {
  if (line.empty()) return;
  history(impl_->history, &impl_->event, H_ENTER, line.c_str());
  if (impl_->history_file.empty()) return;
  std::error_code error;  // a history that cannot be kept is no reason to complain
  std::filesystem::create_directories(std::filesystem::path(impl_->history_file).parent_path(), error);
  history(impl_->history, &impl_->event, H_SAVE, impl_->history_file.c_str());
}

}  // namespace pantry
