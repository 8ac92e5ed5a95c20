// SPDX-License-Identifier: Apache-2.0
// Runs a program, `pantry` unless told otherwise, to its end, as a user would: streams, signals, environment, memory.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace pantry::testing {

using Args = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

struct Outcome {
  int exit_code = -1;  // or minus the signal that ended it
  std::string out;
  std::string err;
  int64_t peak_bytes = 0;  // resident
};

struct Surroundings {
  std::string input;     // standard input
  Variables variables;   // added to an environment that holds PATH and HOME only
  std::string out_path;  // standard output goes here instead of to Outcome::out
  std::string err_path;  // likewise
  // Called while the program runs, which gets its input afterwards.
  std::function<void(pid_t child)> on_start;
  bool close_out = false;   // nobody reads standard output
  std::string group_procs;  // the cgroup.procs of a control group that it joins first
  std::string program = std::string(PANTRY_BINARY_DIR) + "/bin/pantry";
};

// `pantry run`: a story of so many tokens, the same each time.
inline Args RunArgs(const std::string& model, int n_tokens) {
  return {"run", "-m",       model, "-p", "Once upon a time", "-n", std::to_string(n_tokens), "--temp", "1", "--seed",
          "3",   "--no-cnv", "-t",  "2",  "--ignore-eos"};
}

inline std::string Drain(int fd) {
  std::string text;
  char buffer[1 << 14];
  ssize_t n = 0;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<size_t>(n));
  close(fd);
  return text;
}

inline Outcome Execute(const Args& args, const Surroundings& setup = {}) {
  int in[2];
  int out[2];
  int err[2];
  EXPECT_EQ(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  const auto redirect = [&](int to, int pipe_end, const std::string& path) {
    if (path.empty()) posix_spawn_file_actions_adddup2(&actions, pipe_end, to);
    else posix_spawn_file_actions_addopen(&actions, to, path.c_str(), O_WRONLY | O_NOCTTY, 0);
  };
  redirect(1, out[1], setup.out_path);
  redirect(2, err[1], setup.err_path);

  Args words = {setup.program};
  std::string program = setup.program;
  if (!setup.group_procs.empty()) {
    program = "/bin/sh";
    words = {"sh", "-c", "echo $$ > '" + setup.group_procs + "' && exec \"$0\" \"$@\"", setup.program};
  }
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const char* path = std::getenv("PATH");
  Args variables = {"HOME=/dev/null", std::string("PATH=") + (path != nullptr ? path : "/usr/bin:/bin")};
  for (const auto& [name, value] : setup.variables) variables.emplace_back(name).append("=").append(value);
  std::vector<char*> envp;
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);

  Outcome outcome;
  if (setup.close_out) close(out[0]);
  pid_t child = 0;
  const int error = posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  close(err[1]);
  EXPECT_EQ(error, 0) << program;
  if (error != 0) return outcome;
  std::thread err_reader([&] { outcome.err = Drain(err[0]); });
  std::thread out_reader([&] {
    if (!setup.close_out) outcome.out = Drain(out[0]);
  });
  if (setup.on_start) setup.on_start(child);
  (void)!write(in[1], setup.input.data(), setup.input.size());
  close(in[1]);
  out_reader.join();
  err_reader.join();
  int status = 0;
  rusage usage = {};
  wait4(child, &status, 0, &usage);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome.peak_bytes = int64_t{usage.ru_maxrss} * 1024;
  return outcome;
}

}  // namespace pantry::testing
