// SPDX-License-Identifier: Apache-2.0
// What goes wrong while a model is streamed: a clear error or a slower answer, never a wrong token, a crash or a hang.
//
// In this process on tiny models, whose logits are compared bit for bit with a resident run's; and as a user meets it, by the program on a
// model that may be absent.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/memory_watch.h"
#include "io/faulty_queue.h"
#include "io/simulated_queue.h"
#include "support/breakable_queue.h"
#include "support/limited_group.h"
#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using testing::Args;
using testing::BreakableQueue;
using testing::Execute;
using ::testing::HasSubstr;
using testing::LimitedGroup;
using ::testing::Not;
using testing::OpenGguf;
using testing::OpenTinyEngine;
using testing::Outcome;
using testing::StreamSetup;
using testing::Surroundings;
using testing::TemporaryFolder;
using testing::TinyModel;

constexpr size_t kTokens = 100;
constexpr size_t kHead = 40;  // before something happens
const SteadyClock kClock;

// Until the engine asks them, the tests of these two are skipped.
template <typename Stream>
concept WatchesMemory =
    requires(Stream stream, std::unique_ptr<MemoryWatch> watch) { stream.WatchMemory(std::move(watch)); };
template <typename Stream>
concept NoticesChanges = requires(const Stream stream) {
  { stream.EndRun() } -> std::same_as<Status>;
};

// ---- in this process -----------------------------------------------------------------------------------------------------------------

// A copy of a tiny model that a test may spoil, and a session on it that streams.
class FaultTest : public ::testing::TestWithParam<std::string> {
 protected:
  FaultTest() : path_(folder_.path() + "/model.gguf") {
    std::filesystem::copy_file(TinyModel(GetParam()), path_);
    // Long ago, so that a write in the same tick of the file system's clock shows as well.
    std::filesystem::last_write_time(path_, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
    const auto resident = OpenTinyEngine(path_, nullptr, log_);
    tokens_ = testing::RandomTokens(*resident, kTokens);
    const auto session = NewSession(*resident);
    EXPECT_TRUE(session->Feed(tokens_).ok());
    expected_.assign(session->logits().begin(), session->logits().end());
  }
  static std::unique_ptr<Session> NewSession(Engine& engine) {
    SessionOptions options;
    options.n_ctx = 128;
    options.n_batch = 7;
    return engine.NewSession(options).value();
  }
  // False: this system cannot.
  bool Open(StreamSetup setup) {
    engine_ = OpenTinyEngine(path_, &setup, log_);
    if (engine_ != nullptr) session_ = NewSession(*engine_);
    return engine_ != nullptr;
  }
  Status FeedHead() { return session_->Feed(std::span(tokens_).first(kHead)); }
  Status FeedRest() { return session_->Feed(std::span(tokens_).subspan(session_->tokens().size())); }
  void ExpectFailure(const Status& status, StatusCode code) {
    EXPECT_EQ(status.code(), code) << status.ToString();
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
    EXPECT_TRUE(session_->logits().empty());
    EXPECT_LT(session_->tokens().size(), kTokens);
  }
  void ExpectSameBits() {
    EXPECT_EQ(session_->tokens().size(), kTokens);
    ASSERT_EQ(session_->logits().size(), expected_.size());
    EXPECT_EQ(std::memcmp(session_->logits().data(), expected_.data(), expected_.size() * sizeof(float)), 0);
  }

  RecordingLogger log_;
  const TemporaryFolder folder_;
  const std::string path_;
  std::vector<TokenId> tokens_;
  std::vector<float> expected_;  // logits after all tokens
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
};
INSTANTIATE_TEST_SUITE_P(Models, FaultTest, ::testing::Values("tiny-qwen3moe", "tiny-qwen3moe-quantized", "tiny-llama"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::unique_ptr<BlockReader> ReaderOf(const GgufFile& file, std::unique_ptr<DiskQueue> queue, const Clock& clock,
                                      int max_retries = 3) {
  BlockReaderOptions options;
  options.max_retries = max_retries;
  return std::make_unique<BlockReader>(file.Readers(), std::move(queue), options, clock);
}

TEST_P(FaultTest, ReadErrorInTheMiddleIsToldAndTheSessionGoesOnOnceTheDiskDoes) {
  const auto file = OpenGguf(path_);
  bool is_broken = false;
  auto queue = std::make_unique<BreakableQueue>(OpenPreadQueue(file->Readers(), 8).value(), is_broken);
  ASSERT_TRUE(Open({.cache_share = 0, .reader = ReaderOf(*file, std::move(queue), kClock)}));
  ASSERT_TRUE(FeedHead().ok());
  for (int round = 0; round < 3; ++round) {
    is_broken = true;
    ExpectFailure(FeedRest(), StatusCode::kIoError);
    EXPECT_GE(session_->tokens().size(), kHead);
    is_broken = false;
    ASSERT_TRUE(session_->Feed(std::span(tokens_).subspan(session_->tokens().size(), 10)).ok());
  }
  ASSERT_TRUE(FeedRest().ok());
  ExpectSameBits();
}

TEST_P(FaultTest, ShortReadsGiveTheSameBits) {
  const auto file = OpenGguf(path_);
  auto queue =
      std::make_unique<FaultyQueue>(OpenPreadQueue(file->Readers(), 8).value(), DiskFaults{.short_share = 0.8});
  const FaultyQueue& faulty = *queue;
  ASSERT_TRUE(Open({.cache_share = 0, .reader = ReaderOf(*file, std::move(queue), kClock, 100)}));
  const Status status = FeedRest();
  ASSERT_TRUE(status.ok()) << status.ToString();
  ExpectSameBits();
  EXPECT_GT(faulty.n_faults(), 100);
}

TEST_P(FaultTest, DiskTenTimesSlowerGivesTheSameBits) {
  const auto file = OpenGguf(path_);
  int64_t took_us[2] = {};
  for (const int slower : {1, 10}) {
    const SimulatedDisk disk = {
        .latency_us = 60 * slower, .us_per_transfer = 5 * slower, .bytes_per_s = 2.5e9 / slower};
    SimulatedClock clock;
    auto queue = std::make_unique<SimulatedQueue>(file->Readers(), disk, clock);
    ASSERT_TRUE(Open({.cache_share = 0, .reader = ReaderOf(*file, std::move(queue), clock), .clock = &clock}));
    ASSERT_TRUE(FeedRest().ok());
    ExpectSameBits();
    took_us[slower == 10] = clock.NowUs();
    session_.reset();
    engine_.reset();  // before its clock
  }
  EXPECT_GT(took_us[1], 8 * took_us[0]);
}

TEST_P(FaultTest, FileThatIsCutIsAnErrorAndNoMore) {
  for (const DiskAccess access : {DiskAccess::kUring, DiskAccess::kPread, DiskAccess::kPageCache}) {
    SCOPED_TRACE(DiskAccessName(access));
    std::filesystem::copy_file(TinyModel(GetParam()), path_, std::filesystem::copy_options::overwrite_existing);
    if (!Open({.cache_share = 0, .access = access})) continue;
    ASSERT_TRUE(FeedHead().ok());
    std::filesystem::resize_file(path_, 4096);
    for (int round = 0; round < 2; ++round) {
      const Status status = FeedRest();
      EXPECT_FALSE(status.ok());
      ExpectFailure(status, status.code() == StatusCode::kIoError ? StatusCode::kIoError : StatusCode::kCorruption);
      EXPECT_EQ(session_->tokens().size(), kHead);
    }
  }
}

// As a download does it: written beside and renamed. The open file stays what it was.
TEST_P(FaultTest, NewFileUnderTheNameChangesNothing) {
  ASSERT_TRUE(Open({.cache_share = 0}));
  ASSERT_TRUE(FeedHead().ok());
  std::ofstream(path_ + ".new") << "another file";
  std::filesystem::rename(path_ + ".new", path_);
  ASSERT_TRUE(FeedRest().ok());
  ExpectSameBits();
}

template <typename Stream>
bool AsksForChanges(const Stream&) {
  return NoticesChanges<Stream>;
}

TEST_P(FaultTest, FileThatIsWrittenToIsAnErrorWhateverIsRead) {
  for (const double cache_share : {0.0, 1.0}) {  // with 1, nothing is read any more
    SCOPED_TRACE(cache_share);
    ASSERT_TRUE(Open({.cache_share = cache_share}));
    if (!AsksForChanges(*engine_->stream())) GTEST_SKIP() << "the engine does not ask io/file_changes.h yet";
    ASSERT_TRUE(FeedHead().ok());
    const auto middle = static_cast<std::streamoff>(std::filesystem::file_size(path_) / 2);
    std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary).seekp(middle) << "not a weight";
    for (int round = 0; round < 2; ++round) {
      const Status status = FeedRest();
      ExpectFailure(status, StatusCode::kCorruption);
      EXPECT_THAT(std::string(status.message()), HasSubstr("start again"));
      EXPECT_EQ(session_->tokens().size(), kHead);
    }
  }
}

// A control group that shrinks to a size of the test's choosing, with nothing but the cache in it.
class ShrinkingGroup final : public MemorySource {
 public:
  explicit ShrinkingGroup(const int64_t& limit_bytes) : limit_bytes_(limit_bytes) {}
  MemoryReading Read() override {
    MemoryReading reading;
    reading.group_limit_bytes = limit_bytes_;
    return reading;
  }

 private:
  const int64_t& limit_bytes_;
};

template <typename Stream>
bool Watch(Stream& stream, std::unique_ptr<MemoryWatch> watch) {
  if constexpr (WatchesMemory<Stream>) stream.WatchMemory(std::move(watch));
  return WatchesMemory<Stream>;
}

TEST_P(FaultTest, CacheThatShrinksGivesTheSameBits) {
  ASSERT_TRUE(Open({.cache_share = 1}));
  const int64_t whole = engine_->stream()->cache_bytes();
  const int64_t least = WeightStream::LeastCacheBytes(engine_->stream()->placer());
  int64_t limit_bytes = whole;
  SimulatedClock clock;
  if (!Watch(*engine_->stream(),
             std::make_unique<MemoryWatch>(CacheBounds{.wanted_bytes = whole, .floor_bytes = least}, clock, log_,
                                           std::make_unique<ShrinkingGroup>(limit_bytes)))) {
    GTEST_SKIP() << "the engine does not ask engine/memory_watch.h yet";
  }
  ASSERT_TRUE(FeedHead().ok());
  EXPECT_EQ(engine_->stream()->cache_bytes(), whole);
  for (const int64_t limit : {whole / 2, int64_t{1}}) {
    limit_bytes = limit;
    for (int i = 0; i < 10; ++i) {  // what is being read at one look is asked back at the next
      clock.AdvanceTo(clock.NowUs() + MemoryWatch::kIntervalUs);
      ASSERT_TRUE(session_->Feed(std::span(tokens_).subspan(session_->tokens().size(), 1)).ok());
    }
    EXPECT_LE(engine_->stream()->cache_bytes(), std::max(limit, least));
  }
  ASSERT_TRUE(FeedRest().ok());
  ExpectSameBits();
  const auto is_warning = [](const auto& line) { return line.first == LogLevel::kWarning; };
  EXPECT_EQ(std::count_if(log_.lines.begin(), log_.lines.end(), is_warning), 1) << "told once";
}

TEST_P(FaultTest, MemoryIsCommittedAheadUnlessItIsShort) {
  for (const bool is_short : {false, true}) {
    ASSERT_TRUE(Open({.cache_share = 1}));
    WeightStream& stream = *engine_->stream();
    const int64_t whole = stream.cache_bytes();
    const int64_t least = WeightStream::LeastCacheBytes(stream.placer());
    const int64_t limit_bytes = is_short ? 1 : 4 * whole;
    const SimulatedClock clock;
    stream.WatchMemory(std::make_unique<MemoryWatch>(CacheBounds{.wanted_bytes = whole, .floor_bytes = least}, clock,
                                                     log_, std::make_unique<ShrinkingGroup>(limit_bytes)));
    EXPECT_EQ(stream.committed_bytes(), 0);
    stream.CommitMemory(engine_->pool());
    if (is_short) EXPECT_EQ(stream.committed_bytes(), 0) << "all of it is short";
    else EXPECT_GT(stream.committed_bytes(), whole / 2);
    EXPECT_LE(stream.committed_bytes(), whole);
  }
}

// ---- the program ---------------------------------------------------------------------------------------------------------------------

class ProgramFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = testing::SharedData("data/models/tiny-thinker-Q8_0.gguf");
    if (model_.empty()) GTEST_SKIP() << "no model with experts to be had";
  }
  // A streamed run with a little more than the floor.
  Args RunArgs(int n_tokens) const {
    Args args = testing::RunArgs(model_, n_tokens);
    args.insert(args.end(), {"--memory", "65M", "--stream", "on"});
    return args;
  }
  // The n-th line of --stats is written when the n-th run of tokens has ended.
  std::string MakeFifo() const {
    const std::string path = folder_.path() + "/stats";
    std::filesystem::remove(path);
    EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  static void SkipLines(int fd, int n_lines) {
    for (char c = 0; n_lines > 0 && read(fd, &c, 1) == 1;) n_lines -= c == '\n';
  }

  std::string model_;
  const TemporaryFolder folder_;
};

void ExpectInterrupted(const Outcome& outcome) {
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_THAT(outcome.err, Not(HasSubstr("error")));
  EXPECT_TRUE(outcome.err.empty() || outcome.err.ends_with('\n')) << outcome.err;
  EXPECT_TRUE(outcome.out.empty() || outcome.out.ends_with('\n')) << outcome.out;
}

TEST_F(ProgramFaultTest, CtrlCBetweenAnyTwoTokensEndsItWith130) {
  for (const int n_runs : {0, 1, 2, 3, 17}) {  // before the model is loaded, after the prompt, ...
    SCOPED_TRACE(n_runs);
    const std::string fifo = MakeFifo();
    Args args = RunArgs(100'000);
    args.insert(args.end(), {"--stats", fifo});
    Surroundings setup;
    setup.on_start = [&](pid_t child) {
      const int fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);  // returns once the program opens it
      SkipLines(fd, n_runs);
      kill(child, SIGINT);
      testing::Drain(fd);
    };
    ExpectInterrupted(Execute(args, setup));
  }
}

TEST_F(ProgramFaultTest, CtrlCAtAnyMomentEndsItWith130) {
  const std::string prompt_path = folder_.path() + "/prompt";
  std::ofstream prompt(prompt_path);
  for (int i = 0; i < 400; ++i) prompt << "once upon a time there was a dog ";
  prompt.close();
  for (const int after_ms : {1, 3, 10, 20, 30, 50, 80, 120, 200, 400}) {
    SCOPED_TRACE(after_ms);
    // 3200 tokens of prompt, and room for 800 more: more than it can do until then.
    const Args args = {
        "run", "-m", model_, "-f",       prompt_path, "-n",       "100000", "--no-cnv",   "--ignore-eos",         "-t",
        "2",   "-c", "4096", "--stream", "on",        "--memory", "80M",    "--log-file", folder_.path() + "/log"};
    Surroundings setup;
    setup.on_start = [&](pid_t child) {
      // The log is opened once signals are handled: from then on every moment counts.
      const int64_t give_up_us = kClock.NowUs() + 10'000'000;
      while (!std::filesystem::exists(folder_.path() + "/log") && kClock.NowUs() < give_up_us)
        std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(after_ms));
      kill(child, SIGINT);
    };
    ExpectInterrupted(Execute(args, setup));
    std::filesystem::remove(folder_.path() + "/log");
  }
}

// Someone else's end of a terminal, which keeps what was written to it.
class Terminal {
 public:
  Terminal() : fd_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (fd_ < 0 || grantpt(fd_) != 0 || unlockpt(fd_) != 0) return;
    path_ = ptsname(fd_);
    slave_ = open(path_.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);  // so that it stays when the program has gone
  }
  ~Terminal() {
    close(slave_);
    close(fd_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  const std::string& path() const { return path_; }
  termios Settings() const {
    termios settings = {};
    EXPECT_EQ(tcgetattr(slave_, &settings), 0);
    return settings;
  }
  // What has been written until now and by `child` until it ends: reads on until `is_over`.
  std::string ReadUntil(const std::atomic<bool>& is_over) const {
    std::string text;
    fcntl(fd_, F_SETFL, O_NONBLOCK);
    for (bool last = false; !last;) {
      last = is_over;
      char buffer[4096];
      for (ssize_t n = 0; (n = read(fd_, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
      std::this_thread::yield();
    }
    return text;
  }

 private:
  const int fd_;
  int slave_ = -1;
  std::string path_;
};

TEST_F(ProgramFaultTest, CtrlCLeavesTheTerminalAsItWas) {
  const Terminal terminal;
  if (terminal.path().empty()) GTEST_SKIP() << "no terminals to be had";
  for (const int n_runs : {0, 1, 9}) {
    SCOPED_TRACE(n_runs);
    const std::string fifo = MakeFifo();
    const termios before = terminal.Settings();
    Args args = RunArgs(100'000);
    args.insert(args.end(), {"--stats", fifo});
    Surroundings setup;
    setup.variables["TERM"] = "xterm";
    setup.out_path = setup.err_path = terminal.path();
    std::atomic<bool> is_over = false;
    std::string screen;
    std::thread reader([&] { screen = terminal.ReadUntil(is_over); });
    setup.on_start = [&](pid_t child) {
      const int fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);
      SkipLines(fd, n_runs);
      kill(child, SIGINT);
      testing::Drain(fd);
    };
    EXPECT_EQ(Execute(args, setup).exit_code, 130);
    is_over = true;
    reader.join();
    const termios after = terminal.Settings();
    EXPECT_EQ(before.c_lflag, after.c_lflag);
    EXPECT_EQ(before.c_iflag, after.c_iflag);
    EXPECT_EQ(before.c_oflag, after.c_oflag);
    // The cursor is at the start of a line, nothing half is left on it, and colours are off.
    EXPECT_TRUE(screen.empty() || screen.ends_with("\n") || screen.ends_with("\r\x1b[K")) << screen;
    EXPECT_THAT(screen, Not(HasSubstr("\x1b[?25l")));
    if (const size_t style = screen.rfind("\x1b[");
        style != std::string::npos && screen.find('m', style) == style + 3) {
      EXPECT_EQ(screen.substr(style, 4), "\x1b[0m");
    }
  }
}

template <typename Stream>
bool ProgramWatches() {
  return WatchesMemory<Stream>;
}

TEST_F(ProgramFaultTest, ControlGroupThatShrinksMakesItSlowerAndNoMore) {
  if (!ProgramWatches<WeightStream>()) GTEST_SKIP() << "the engine does not ask engine/memory_watch.h yet";
  constexpr int64_t kMiB = int64_t{1} << 20;
  const Outcome whole = Execute(RunArgs(200));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  LimitedGroup group(67 * kMiB);
  if (!group.is_there()) GTEST_SKIP() << "no control groups to be had";
  const std::string fifo = MakeFifo();
  Args args = RunArgs(200);
  args.insert(args.end(), {"--stats", fifo});
  Surroundings setup;
  setup.group_procs = group.procs();
  setup.on_start = [&](pid_t) {
    const int fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GT(fcntl(fd, F_SETPIPE_SZ, 4096), 0);  // a few lines, then the program waits for its reader
    SkipLines(fd, 1);
    EXPECT_TRUE(group.SetLimit(57 * kMiB));  // of the 65 that were planned
    std::this_thread::sleep_for(std::chrono::microseconds(3 * MemoryWatch::kIntervalUs / 2));
    testing::Drain(fd);
  };
  const Outcome shrunk = Execute(args, setup);
  EXPECT_EQ(shrunk.exit_code, 0) << shrunk.err;
  EXPECT_EQ(shrunk.out, whole.out);
  const std::string warning = "memory is short (its control group may hold less now): the cache of weights goes from";
  EXPECT_THAT(shrunk.err, HasSubstr(warning));
  EXPECT_EQ(shrunk.err.find(warning), shrunk.err.rfind(warning)) << "told once";
}

}  // namespace
}  // namespace pantry
