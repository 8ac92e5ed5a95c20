// SPDX-License-Identifier: Apache-2.0
// `pantry eval` as a user runs it: what it prints, writes and refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::pantry::testing::Args;
using ::pantry::testing::Execute;
using ::pantry::testing::Outcome;
using ::pantry::testing::Surroundings;
using ::pantry::testing::TemporaryFile;
using ::pantry::testing::TemporaryFolder;
using ::pantry::testing::TestData;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::string Model() { return TestData("models/tiny-llama.gguf"); }

constexpr std::string_view kChoices =
    R"({"id":"q1","context":"Question: What is kept in a pantry?\nAnswer:","choices":["food","the weather"],"answer":0}
{"id":"q2","context":"Question: What is kept in a barn?\nAnswer:","choices":["hay","the sea","a thought"],"answer":0}
{"id":"q3","contexts":["The cook ate because the cook","The cook ate because the hay"],"choices":["was hungry.","was hungry."],"answer":0}
)";
constexpr std::string_view kAnswers =
    R"({"id":"t1","prompt":"Question: Where is food kept??\nAnswer:","answer":"pantry","aliases":["pantry","larder"]})";
constexpr std::string_view kSums =
    R"({"id":"g1","prompt":"Question: What is 3 and 4?\nAnswer:","answer":"7","solution":"3+4=7\n#### 7"})";
constexpr std::string_view kTexts =
    R"({"id":"w1","text":" = Pantry = \n\nA pantry is a room where food is kept.","words":12,"bytes":53})";

Outcome Tasks(const std::vector<std::string>& files, Args more = {}, const Surroundings& setup = {}) {
  Args args = {"eval", "tasks", "-m", Model()};
  args.insert(args.end(), files.begin(), files.end());
  args.insert(args.end(), more.begin(), more.end());
  return Execute(args, setup);
}

TEST(EvalTasks, TableHasALineForEachMetric) {
  const TemporaryFile choices((std::string(kChoices)), "-choices.jsonl");
  const TemporaryFile texts((std::string(kTexts)), "-texts.jsonl");
  const Outcome outcome = Tasks({choices.path(), texts.path()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("task "));
  EXPECT_THAT(outcome.out,
              ContainsRegex("-choices +3 +acc +[01]\\.[0-9]{4} ± 0\\.[0-9]{4} +0\\.[0-9]+ to [01]\\.[0-9]+"));
  for (const char* metric : {"acc_norm", "word_perplexity", "byte_perplexity", "bits_per_byte"}) {
    EXPECT_THAT(outcome.out, HasSubstr(metric));
  }
  EXPECT_THAT(outcome.err, HasSubstr("mode: resident"));
}

TEST(EvalTasks, JsonHasEveryTaskAndOutEveryItem) {
  const TemporaryFile choices((std::string(kChoices)), "-choices.jsonl");
  const TemporaryFile answers((std::string(kAnswers)), "-answers.jsonl");
  const TemporaryFile sums((std::string(kSums)), "-sums.jsonl");
  const TemporaryFile texts((std::string(kTexts)), "-texts.jsonl");
  const TemporaryFile items("");
  const Outcome outcome =
      Tasks({choices.path(), answers.path(), sums.path(), texts.path()}, {"--json", "--out", items.path()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_FALSE(json.at("partial").get<bool>());
  const std::vector<std::pair<std::string, std::vector<std::string>>> expected = {
      {"choice", {"acc", "acc_norm"}},
      {"triviaqa", {"exact_match", "f1"}},
      {"gsm8k", {"exact_match,strict-match", "exact_match,flexible-extract"}},
      {"rolling", {"word_perplexity", "byte_perplexity", "bits_per_byte"}}};
  ASSERT_EQ(json.at("tasks").size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const nlohmann::json& task = json.at("tasks").at(i);
    EXPECT_EQ(task.at("protocol"), expected[i].first);
    EXPECT_EQ(task.at("metrics").size(), expected[i].second.size());
    for (const std::string& metric : expected[i].second) {
      EXPECT_LE(task.at("metrics").at(metric).at("ci95").at(0), task.at("metrics").at(metric).at("value"));
    }
  }
  std::ifstream in(items.path());
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0].at("id"), "q1");
  EXPECT_EQ(lines[1].at("log_likelihoods").size(), 3u);
  EXPECT_LT(lines[1].at("log_likelihoods").at(0), 0);
  EXPECT_TRUE(lines[3].at("text").is_string());
  EXPECT_GT(lines[5].at("tokens"), 5);
}

TEST(EvalTasks, ExamplesMakeGsm8kTheVariantWithThem) {
  const TemporaryFile sums((std::string(kSums)), "-sums.jsonl");
  const TemporaryFile prefix("Q: What is 1 and 1?\nA: The answer is 2.\n\n");
  const Outcome outcome = Tasks({sums.path()}, {"--prefix-file", prefix.path(), "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out).at("tasks").at(0).at("protocol"), "gsm8k_cot");
}

TEST(EvalTasks, MistakesNameFileAndLine) {
  const TemporaryFile good((std::string(kChoices)), "-good.jsonl");
  const TemporaryFile bad(std::string(kChoices) + "\n{\"id\":\"x\"}\n", "-bad.jsonl");
  const Outcome outcome = Tasks({good.path(), bad.path()});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr(bad.path() + ":5: \"choices\" is missing"));
  EXPECT_THAT(outcome.out, IsEmpty());  // before anything is measured
  EXPECT_EQ(Tasks({"/no/such.jsonl"}).exit_code, 3);
}

TEST(EvalTasks, LongItemsAreSkippedWithFileAndLine) {
  const TemporaryFile choices((std::string(kChoices)), "-choices.jsonl");
  const Outcome outcome = Tasks({choices.path()}, {"-c", "8", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(choices.path() + ":1: skipped: it needs"));
  EXPECT_EQ(nlohmann::json::parse(outcome.out).at("tasks").at(0).at("skipped").size(), 3u);
}

TEST(EvalTasks, InterruptPrintsWhatWasMeasuredAndSaysPartial) {
  std::string many;
  for (int i = 0; i < 3000; ++i) many += kChoices;
  const TemporaryFile first((std::string(kChoices)), "-first.jsonl");
  const TemporaryFile second(many, "-second.jsonl");
  const TemporaryFolder folder;
  const std::string fifo = folder.path() + "/items";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Surroundings setup;
  setup.on_start = [&](pid_t child) {
    std::ifstream items(fifo);  // returns once the program opens it, too
    std::string line;
    for (int i = 0; i < 3; ++i) std::getline(items, line);  // the first task is done, the second takes seconds
    kill(child, SIGINT);
    while (std::getline(items, line)) EXPECT_THAT(line, StartsWith("{"));
  };
  const Outcome outcome = Tasks({first.path(), second.path()}, {"--out", fifo}, setup);
  EXPECT_EQ(outcome.exit_code, 130) << outcome.err;
  EXPECT_THAT(outcome.out, ContainsRegex("-first +3 +acc "));
  EXPECT_THAT(outcome.out, ContainsRegex("-second +[0-9]+ of 9000"));
  EXPECT_THAT(outcome.out, HasSubstr("partial: stopped before the end"));
}

TEST(EvalTasks, FlagsWithoutEffectAreRefused) {
  const TemporaryFile choices((std::string(kChoices)), "-choices.jsonl");
  const TemporaryFile prefix("Q: 1\nA: 1\n");
  const std::vector<std::pair<Args, std::string>> cases = {
      {{"eval", "tasks", "-m", Model()}, "no task files given"},
      {{"eval", "tasks", "-m", Model(), choices.path(), "--chunks", "2"},
       "--chunks has no effect on 'pantry eval tasks'"},
      {{"eval", "tasks", "-m", Model(), choices.path(), "-f", "x"}, "--file has no effect"},
      {{"eval", "tasks", "-m", Model(), choices.path(), "--limit", "0"}, "--limit 0"},
      {{"eval", "tasks", "-m", Model(), choices.path(), "--task", "arc"}, "--task 'arc': expected choice"},
      {{"eval", "tasks", "-m", Model(), choices.path(), "--prefix-file", prefix.path()}, "none of the files"},
      {{"eval", "perplexity", "-m", Model(), "-f", "x", "--limit", "3"}, "--limit has no effect"},
      {{"eval", "kl", "-m", Model()}, "give one of --save-logits FILE"},
      {{"eval", "kl", "-m", Model(), "--save-logits", "x"}, "no text given"},
      {{"eval", "kl", "-m", Model(), "--reference", "x", "-f", "y"}, "-f has no effect beside --reference"},
      {{"eval", "kl", "-m", Model(), "--reference", "x", "--out", "y"}, "--out has no effect"},
      {{"eval"}, "say what to evaluate"},
  };
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, 2) << message << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

TEST(EvalTasks, AMistakeLeavesAnOldFileAsItWas) {
  const TemporaryFile choices((std::string(kChoices)), "-choices.jsonl");
  const TemporaryFile old("what was measured yesterday\n");
  const TemporaryFile broken(testing::ReadFile(Model()).substr(0, 20000), ".gguf");
  const TemporaryFolder folder;
  const std::string fresh = folder.path() + "/new.jsonl";
  for (const std::string& out : {old.path(), fresh}) {
    for (const std::string& model : {std::string("/no/such.gguf"), broken.path()}) {
      EXPECT_EQ(Execute({"eval", "tasks", "-m", model, choices.path(), "--out", out}).exit_code, 3);
    }
  }
  EXPECT_EQ(testing::ReadFile(old.path()), "what was measured yesterday\n");
  EXPECT_FALSE(std::filesystem::exists(fresh));
  EXPECT_EQ(Tasks({choices.path()}, {"--out", old.path()}).exit_code, 0);
  EXPECT_THAT(testing::ReadFile(old.path()), StartsWith("{\"task\""));
}

TEST(EvalTasks, NamesThatAreNotUtf8ArePrinted) {
  const TemporaryFile choices((std::string(kChoices)), "-\xff.jsonl");
  const Outcome outcome = Tasks({choices.path()}, {"--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_TRUE(nlohmann::json::accept(outcome.out));
}

// A trained model with experts.
class EvalRouting : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string csv_ = folder_.path() + "/rows.csv";
  std::string html_ = folder_.path() + "/page.html";
  static std::string Thinker() { return testing::SharedData("data/models/tiny-thinker-Q8_0.gguf"); }
  Outcome Measure(const Args& more, const Surroundings& setup = {}) {
    const TemporaryFile text(
        testing::ReadFile(testing::SharedData("data/models/tiny-thinker-eval.txt")).substr(0, 1500), ".txt");
    Args args = {"eval", "routing", "-m", Thinker(), "-f", text.path(), "-c", "32", "--chunks", "2"};
    args.insert(args.end(), {"--policies", "cache-prior:0.5,max-rank:8", "--cache-shares", "0.5"});
    args.insert(args.end(), more.begin(), more.end());
    return Execute(args, setup);
  }
};

TEST_F(EvalRouting, WritesRowsAndAPageThatNeedsNothingElse) {
  if (Thinker().empty()) GTEST_SKIP() << "the shared models are not there";
  Surroundings setup;
  setup.variables["PANTRY_EXPERT_POLICY"] = "cache-prior:0.2";  // is not for this command
  const Outcome outcome = Measure({"--csv", csv_, "--html", html_, "--json"}, setup);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json rows = nlohmann::json::parse(outcome.out).at("rows");
  std::ifstream in(csv_);
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  EXPECT_THAT(line, StartsWith("version,model,text,ctx_size,windows,tokens,policy,value,cache_share,"));
  size_t n_lines = 0;
  for (; std::getline(in, line); ++n_lines) EXPECT_THAT(line, HasSubstr(",tiny-thinker-Q8_0.gguf,"));
  EXPECT_EQ(n_lines, rows.size());
  EXPECT_THAT(testing::ReadFile(csv_), ContainsRegex(",32,2,30,cache-prior,0\\.5,0\\.5,16,"));
  const std::string page = testing::ReadFile(html_);
  EXPECT_THAT(page, StartsWith("<!doctype html>"));
  for (const char* outside : {"http://", "https://", "src=", "href=", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
}

TEST_F(EvalRouting, FlagsWithoutEffectAreRefusedAndFilesLeftAlone) {
  std::ofstream(csv_) << "yesterday\n";
  const std::vector<std::pair<Args, std::string>> cases = {
      {{"-m", Model(), "-f", "x", "--expert-policy", "exact"}, "--expert-policy has no effect"},
      {{"-m", Model(), "-f", "x", "--limit", "3"}, "--limit has no effect on 'pantry eval routing'"},
      {{"-m", Model(), "-f", "x", "--cache-shares", "2"}, "--cache-shares 2"},
      {{"-m", Model(), "--csv", csv_}, "no text given"},
      {{"--replay", "x", "-c", "64", "--csv", csv_}, "--ctx-size has no effect beside --replay"},
      {{"--replay", "x", "-b", "8"}, "--batch-size has no effect beside --replay"},
      {{"--replay", "x", "-ctk", "f32"}, "--cache-type-k has no effect beside --replay"},
      {{"--replay", "x", "--memory", "2G"}, "--memory has no effect beside --replay"},
      {{"--replay", "x", "--stream", "on"}, "--stream has no effect beside --replay"},
      {{"--replay", "x", "--chunks", "2"}, "--chunks has no effect beside --replay"},
      {{"--replay", "x", "-m", Model()}, "--model has no effect beside --replay"},
  };
  for (const auto& [flags, message] : cases) {
    Args args = {"eval", "routing"};
    args.insert(args.end(), flags.begin(), flags.end());
    const Outcome outcome = Execute(args);
    EXPECT_EQ(outcome.exit_code, 2) << message << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
  EXPECT_EQ(Execute({"eval", "routing", "-m", "/no/such", "-f", csv_, "--csv", csv_, "--html", html_}).exit_code, 3);
  EXPECT_EQ(testing::ReadFile(csv_), "yesterday\n");
  EXPECT_FALSE(std::filesystem::exists(html_));
}

class EvalKl : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string reference_ = folder_.path() + "/ref.kl";
  std::string text_ = folder_.path() + "/text.txt";
  void SetUp() override {
    std::ofstream out(text_);
    for (int i = 0; i < 20; ++i) out << "The pantry is a cool room where food is kept until it is wanted. ";
  }
  Outcome Save() {
    return Execute(
        {"eval", "kl", "-m", Model(), "-f", text_, "-c", "32", "--chunks", "2", "--save-logits", reference_});
  }
};

TEST_F(EvalKl, ComparesAModelWithAStoredReference) {
  const Outcome saved = Save();
  ASSERT_EQ(saved.exit_code, 0) << saved.err;
  EXPECT_THAT(saved.out, HasSubstr("ref.kl: 30 positions of 2 windows"));
  const Outcome outcome = Execute({"eval", "kl", "-m", Model(), "--reference", reference_, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("positions"), 30);
  EXPECT_LT(json.at("kl_max"), 1e-6);
  EXPECT_EQ(json.at("ppl_ratio").at("value"), 1.0);
  EXPECT_EQ(json.at("reference"), "tiny-llama.gguf");
  const Outcome text = Execute({"eval", "kl", "-m", Model(), "--reference", reference_, "--chunks", "1"});
  EXPECT_THAT(text.out, HasSubstr("tiny-llama.gguf, 15 positions"));
  EXPECT_THAT(text.out, ContainsRegex("same top token  100\\.00 ± 0\\.00 %"));
}

TEST_F(EvalKl, RefusesDamagedReferencesAndOtherWindows) {
  ASSERT_EQ(Save().exit_code, 0);
  const Outcome other = Execute({"eval", "kl", "-m", Model(), "--reference", reference_, "-c", "64"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("--ctx-size 64: the windows of"));
  std::filesystem::resize_file(reference_, std::filesystem::file_size(reference_) - 4096);
  const Outcome cut = Execute({"eval", "kl", "-m", Model(), "--reference", reference_});
  EXPECT_EQ(cut.exit_code, 3);
  EXPECT_THAT(cut.err, HasSubstr("it is cut or damaged"));
  const Outcome text = Execute({"eval", "kl", "-m", Model(), "--reference", text_});
  EXPECT_THAT(text.err, HasSubstr("not a file of --save-logits"));
  EXPECT_EQ(Execute({"eval", "kl", "-m", Model(), "--reference", "/no/such"}).exit_code, 3);
}

}  // namespace
}  // namespace pantry
