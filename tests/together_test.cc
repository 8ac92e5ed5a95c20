// SPDX-License-Identifier: Apache-2.0
// Several sessions that are fed together: each gets the bits that it gets alone, whatever the others are, and whoever comes or goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/memory_budget.h"
#include "support/breakable_queue.h"
#include "support/tiny_engine.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;
using testing::StreamSetup;

// Of sequences one after another: some in the first tile of attention, some in the second, and at the edges of packs.
constexpr size_t kPrompts[] = {5, 70, 1, 300, 64, 33, 129, 17, 255};
constexpr size_t kMostSequences = std::size(kPrompts);
constexpr size_t kSteps = 12;

// When sequence i begins and ends: one comes later, and the others end one after another, some in one step with nobody else.
size_t BeginOf(size_t i) { return i == 1 ? 2 : 0; }
size_t EndOf(size_t i) { return kSteps - i; }

std::vector<TokenId> TokensOf(const Engine& engine, size_t i) {
  Rng rng(i + 1);
  std::vector<TokenId> tokens;
  for (size_t k = 0; k < kPrompts[i] + kSteps; ++k) {
    tokens.push_back(static_cast<TokenId>(rng.NextU64() % static_cast<uint64_t>(engine.shape().n_vocab)));
  }
  return tokens;
}

// Sequences differ in all that a session may be. The shortest has a context that longer RoPE tables are not for.
SessionOptions OptionsOf(const Engine& engine, size_t i) {
  SessionOptions options;
  options.n_ctx = i == 0 ? 17 : 320 + 64 * static_cast<int64_t>(i % 2);
  options.n_batch = 64;
  options.k_type = i % 4 == 2 ? KvType::kF32 : KvType::kF16;
  if (i % 4 == 3 && engine.shape().head_dim % 32 == 0) {
    options.k_type = KvType::kQ4_0;
    options.v_type = i % 8 == 3 ? KvType::kQ8_0 : KvType::kQ4_0;
  }
  return options;
}

using Logits = std::vector<float>;
Logits LogitsOf(const Session& session) { return {session.logits().begin(), session.logits().end()}; }
bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// A sequence with its prompt in its session.
struct Sequence {
  std::vector<TokenId> tokens;
  std::unique_ptr<Session> session;
  TokenId Next() const { return tokens[session->tokens().size()]; }
};
Sequence Begin(Engine& engine, size_t i) {
  Sequence sequence = {TokensOf(engine, i), engine.NewSession(OptionsOf(engine, i)).value()};
  const Status status = sequence.session->Feed(std::span(sequence.tokens).first(kPrompts[i]));
  EXPECT_TRUE(status.ok()) << status.ToString();
  return sequence;
}

// Logits of each step of each sequence, fed alone.
using Expected = std::vector<std::vector<Logits>>;
Expected Alone(Engine& engine) {
  Expected expected(kMostSequences);
  for (size_t i = 0; i < kMostSequences; ++i) {
    const Sequence sequence = Begin(engine, i);
    for (size_t step = BeginOf(i); step < EndOf(i); ++step) {
      const TokenId token = sequence.Next();
      EXPECT_TRUE(sequence.session->Feed({&token, 1}).ok());
      expected[i].push_back(LogitsOf(*sequence.session));
      EXPECT_TRUE(std::ranges::all_of(expected[i].back(), [](float x) { return std::isfinite(x); }));
    }
  }
  return expected;
}

Status FeedAlive(const std::vector<Sequence*>& alive) {
  std::vector<Session*> sessions;
  std::vector<TokenId> tokens;
  for (const Sequence* sequence : alive) {
    sessions.push_back(sequence->session.get());
    tokens.push_back(sequence->Next());
  }
  return Session::FeedTogether(sessions, tokens);
}

// Feeds the first n sequences together, each while it lives, in an order that changes.
void ExpectTheSameTogether(Engine& engine, size_t n, const Expected& expected) {
  std::map<size_t, Sequence> sequences;
  for (size_t step = 0; step < kSteps; ++step) {
    std::vector<Sequence*> alive;
    for (size_t i = 0; i < n; ++i) {
      if (step == BeginOf(i)) sequences[i] = Begin(engine, i);
      if (step == EndOf(i)) sequences.erase(i);
    }
    for (auto& [i, sequence] : sequences) alive.push_back(&sequence);
    std::ranges::rotate(alive, alive.begin() + static_cast<std::ptrdiff_t>(step % alive.size()));
    const Status status = FeedAlive(alive);
    ASSERT_TRUE(status.ok()) << status.ToString();
    for (const auto& [i, sequence] : sequences) {
      EXPECT_EQ(sequence.session->tokens().size(), kPrompts[i] + step - BeginOf(i) + 1);
      EXPECT_TRUE(SameBits(sequence.session->logits(), expected[i][step - BeginOf(i)]))
          << "sequence " << i << " of " << n << ", step " << step;
    }
  }
}

class TogetherTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Engine> Resident() { return testing::OpenTinyEngine(testing::TinyModel(GetParam()), nullptr, log_); }
  NullLogger log_;
};

TEST_P(TogetherTest, EachSequenceGetsTheBitsThatItGetsAlone) {
  const auto engine = Resident();
  const Expected expected = Alone(*engine);
  for (const int32_t n_threads : {1, 2, 3}) {
    ASSERT_TRUE(engine->SetThreads(n_threads).ok());
    for (const size_t n : {size_t{2}, size_t{4}, kMostSequences}) {
      SCOPED_TRACE(fmt::format("{} threads", n_threads));
      ExpectTheSameTogether(*engine, n, expected);
    }
  }
}

TEST_P(TogetherTest, StreamedSequencesDoSo) {
  const Expected expected = Alone(*Resident());
  for (const double share : {0.0, 0.4}) {
    for (const int64_t lendable_bytes : {int64_t{0}, int64_t{16} << 20}) {
      StreamSetup setup = {.cache_share = share, .policy = PolicyKind::kCycle, .lendable_bytes = lendable_bytes};
      const auto engine = testing::OpenTinyEngine(testing::TinyModel(GetParam()), &setup, log_);
      ASSERT_NE(engine, nullptr);
      ExpectTheSameTogether(*engine, 4, expected);
      EXPECT_GT(engine->stream()->stats().reader.n_reads, 0);
    }
  }
}

// Nobody gets a token when a run fails, and all go on afterwards as if nothing had been.
TEST_P(TogetherTest, ADiskThatFailsInTheMiddleLeavesAllAsTheyWere) {
  const Expected expected = Alone(*Resident());
  const auto file = testing::OpenGguf(testing::TinyModel(GetParam()));
  static const SteadyClock clock;
  bool is_broken = false;
  StreamSetup setup = {.cache_share = 0};
  setup.reader = std::make_unique<BlockReader>(
      file->Readers(), std::make_unique<testing::BreakableQueue>(OpenPreadQueue(file->Readers(), 8).value(), is_broken),
      BlockReaderOptions{}, clock);
  const auto engine = testing::OpenTinyEngine(testing::TinyModel(GetParam()), &setup, log_);
  ASSERT_NE(engine, nullptr);
  std::vector<Sequence> sequences;
  std::vector<Sequence*> all;
  for (size_t i = 0; i < 4; ++i) sequences.push_back(Begin(*engine, i));
  for (Sequence& sequence : sequences) all.push_back(&sequence);
  for (size_t step = 0; step < 4; ++step) {
    is_broken = true;
    EXPECT_EQ(FeedAlive(all).code(), StatusCode::kIoError);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(sequences[i].session->tokens().size(), kPrompts[i] + step);
      EXPECT_TRUE(sequences[i].session->logits().empty());
    }
    is_broken = false;
    ASSERT_TRUE(FeedAlive(all).ok());
    for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(SameBits(sequences[i].session->logits(), expected[i][step])) << i;
  }
}

TEST_P(TogetherTest, ACopyGoesOnWithTheBitsOfItsOriginal) {
  const auto engine = Resident();
  const std::vector<TokenId> tokens = TokensOf(*engine, 3);
  for (const size_t n_prompt : {size_t{1}, size_t{64}, size_t{300}}) {
    SCOPED_TRACE(n_prompt);
    std::vector<std::unique_ptr<Session>> sessions;
    for (int i = 0; i < 3; ++i) sessions.push_back(engine->NewSession(OptionsOf(*engine, 3)).value());
    ASSERT_TRUE(sessions[1]->Feed(TokensOf(*engine, 8)).ok());  // to be overwritten
    ASSERT_TRUE(sessions[0]->Feed(std::span(tokens).first(n_prompt)).ok());
    const size_t n_kept = n_prompt / 2;  // which the last one has already
    ASSERT_TRUE(sessions[2]->Feed(std::span(tokens).first(n_kept)).ok());
    for (size_t i = 1; i < 3; ++i) {
      ASSERT_TRUE(sessions[i]->CopyFrom(*sessions[0], i == 2 ? static_cast<int64_t>(n_kept) : 0).ok());
      EXPECT_TRUE(std::ranges::equal(sessions[i]->tokens(), sessions[0]->tokens()));
      EXPECT_TRUE(SameBits(sessions[i]->logits(), sessions[0]->logits()));
    }
    // Each goes its own way, and has got its own way.
    std::vector<Session*> together;
    std::vector<TokenId> next;
    for (size_t i = 0; i < 3; ++i) {
      together.push_back(sessions[i].get());
      next.push_back(tokens[i]);
    }
    ASSERT_TRUE(Session::FeedTogether(together, next).ok());
    ASSERT_TRUE(Session::FeedTogether(together, next).ok());
    for (size_t i = 0; i < 3; ++i) {
      const auto fresh = engine->NewSession(OptionsOf(*engine, 3)).value();
      ASSERT_TRUE(fresh->Feed(std::span(tokens).first(n_prompt)).ok());
      ASSERT_TRUE(fresh->Feed({&next[i], 1}).ok());
      ASSERT_TRUE(fresh->Feed({&next[i], 1}).ok());
      EXPECT_TRUE(SameBits(sessions[i]->logits(), fresh->logits())) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(TinyModels, TogetherTest, ::testing::ValuesIn(testing::TinyModels()), [](const auto& param) {
  std::string name = param.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

// Neurons one by one from a pack, all budgets of their cache, and a session's idle memory in it.
TEST(NeuronsTogether, EachSequenceGetsTheBitsThatItGetsAlone) {
  NullLogger log;
  const std::string model = "tiny-bamboo-quantized";
  const Expected expected = Alone(*testing::OpenTinyEngine(testing::TinyModel(model), nullptr, log));
  const testing::TinyPack pack(model, NeuronPacking::kAlways);
  for (const double share : {0.0, 0.1, 0.5, 1.0}) {
    for (const size_t n : {size_t{2}, size_t{4}, kMostSequences}) {
      SCOPED_TRACE(share);
      StreamSetup setup = {.cache_share = share, .lendable_bytes = int64_t{1} << 20};
      const auto engine = testing::OpenTinyEngine(pack.path(), &setup, log);
      ASSERT_NE(engine, nullptr);
      ExpectTheSameTogether(*engine, n, expected);
    }
  }
}

// What is lossy for single tokens stays away, which is said where it is asked for (Session::FeedTogether).
TEST(LossyTogether, ARunOfSeveralSessionsIsExact) {
  NullLogger log;
  const std::string moe = "tiny-qwen3moe-quantized", relu = "tiny-bamboo-quantized";
  const testing::TinyPack pack(relu, NeuronPacking::kAlways);
  StreamSetup setups[2] = {{.cache_share = 0.3}, {.cache_share = 0.1}};
  setups[0].expert_policy.policy = ParseExpertPolicy("cache-prior:0.9").value();
  setups[1].neuron_prior_strength = 0.9;
  for (const bool is_moe : {true, false}) {
    const auto resident = testing::OpenTinyEngine(testing::TinyModel(is_moe ? moe : relu), nullptr, log);
    const auto engine =
        testing::OpenTinyEngine(is_moe ? testing::TinyModel(moe) : pack.path(), &setups[is_moe ? 0 : 1], log);
    ASSERT_NE(engine, nullptr);
    std::vector<Sequence> lossy, exact;
    for (const size_t i : {size_t{1}, size_t{3}}) {
      lossy.push_back(Begin(*engine, i));
      exact.push_back(Begin(*resident, i));
    }
    bool differs_alone = false;
    for (size_t step = 0; step < 6; ++step) {
      ASSERT_TRUE(FeedAlive({&lossy[0], &lossy[1]}).ok());
      ASSERT_TRUE(FeedAlive({&exact[0], &exact[1]}).ok());
      for (size_t i = 0; i < 2; ++i)
        EXPECT_TRUE(SameBits(lossy[i].session->logits(), exact[i].session->logits())) << step;
    }
    for (size_t step = 6; step < kSteps; ++step) {
      ASSERT_TRUE(FeedAlive({&lossy[0]}).ok());
      ASSERT_TRUE(FeedAlive({&exact[0]}).ok());
      differs_alone |= !SameBits(lossy[0].session->logits(), exact[0].session->logits());
    }
    EXPECT_TRUE(differs_alone);
  }
}

TEST(FeedTogether, WhatCannotBeIsRefusedAndChangesNothing) {
  NullLogger log;
  const auto engine = testing::OpenTinyEngine(testing::TinyModel("tiny-llama"), nullptr, log);
  const auto other_engine = testing::OpenTinyEngine(testing::TinyModel("tiny-llama"), nullptr, log);
  const SessionOptions options = {.n_ctx = 8, .n_batch = 2};
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 3; ++i) sessions.push_back(engine->NewSession(options).value());
  const auto stranger = other_engine->NewSession(options).value();
  const std::vector<TokenId> tokens = {1, 2, 3};
  for (const auto& session : sessions) ASSERT_TRUE(session->Feed(std::span(tokens)).ok());
  const Logits before = LogitsOf(*sessions[0]);
  const auto expect_refused = [&](std::vector<Session*> together, std::vector<TokenId> next, const char* why) {
    const Status status = Session::FeedTogether(together, next);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    for (const auto& session : sessions) {
      EXPECT_EQ(session->tokens().size(), 3u);
      EXPECT_TRUE(SameBits(session->logits(), before));
    }
  };
  Session *const a = sessions[0].get(), *const b = sessions[1].get(), *const c = sessions[2].get();
  expect_refused({}, {}, "0 tokens for 0 sessions");
  expect_refused({a, b}, {1}, "1 tokens for 2 sessions: expected one for each");
  expect_refused({a, a}, {1, 2}, "session 1 is there twice");
  expect_refused({a, stranger.get()}, {1, 2}, "session 1 is another engine's");
  expect_refused({a, b}, {1, engine->shape().n_vocab}, "the model's tokens are");
  expect_refused({a, b, c}, {1, 2, 3}, "3 sessions together: there is scratch for 2");
  ASSERT_TRUE(Session::FeedTogether(std::vector<Session*>{a, b}, std::vector<TokenId>{4, 5}).ok());
  EXPECT_FALSE(SameBits(a->logits(), b->logits()));
  ASSERT_TRUE(a->Feed(std::vector<TokenId>{1, 2, 3, 4}).ok());
  EXPECT_THAT(std::string(Session::FeedTogether(std::vector<Session*>{b, a}, std::vector<TokenId>{1, 1}).message()),
              HasSubstr("context is 8"));
  EXPECT_EQ(b->tokens().size(), 4u);

  SessionOptions longer = options;
  longer.n_ctx = 16;
  EXPECT_EQ(engine->NewSession(longer).value()->CopyFrom(*a).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(stranger->CopyFrom(*a).code(), StatusCode::kInvalidArgument);
  for (const int64_t n_kept : {-1, 4, 5}) {  // their fourth tokens differ, and b has no fifth
    EXPECT_EQ(b->CopyFrom(*a, n_kept).code(), StatusCode::kInvalidArgument) << n_kept;
    EXPECT_EQ(b->tokens().size(), 4u);
  }
  longer = options;
  longer.n_sessions = 3;
  const auto fourth = engine->NewSession(longer).value();
  EXPECT_TRUE(Session::FeedTogether(std::vector<Session*>{b, c, fourth.get()}, tokens).ok());
}

// A pack of neurons, and a budget with which half of them are in memory.
struct PackInABudget {
  PackInABudget() {
    options.n_threads = 2;
    options.session.n_ctx = 512;
    options.session.n_batch = 32;
  }
  // As if there were a gigabyte.
  MemoryPlan PlanFor(int32_t n_sessions) {
    options.session.n_sessions = n_sessions;
    const auto file = testing::OpenGguf(pack.path());
    return PlanBudget(*file, ParseModelShape(file->metadata()).value(), BestIsa(), options,
                      {.available_bytes = int64_t{1} << 30, .resident_bytes = 0})
        .value()
        .value();
  }
  Result<std::unique_ptr<Engine>> Open(const MemoryPlan& plan) {
    options.memory_bytes = plan.total_bytes() - plan.cache_bytes / 2 + (int64_t{256} << 20);
    return Engine::Open(testing::OpenGguf(pack.path()), options, log, {});
  }

  NullLogger log;
  testing::TinyPack pack{"tiny-bamboo-quantized", NeuronPacking::kAlways};
  EngineOptions options;
};

// One number for all of them: keys and values of each, one scratch, and what they leave idle in the cache.
TEST(FeedTogether, SessionsThatWerePlannedForStayWithinTheBudget) {
  PackInABudget setup;
  EngineOptions& options = setup.options;
  const MemoryPlan one = setup.PlanFor(1), four = setup.PlanFor(4);
  EXPECT_EQ(four.kv_bytes, 4 * one.kv_bytes);
  EXPECT_EQ(four.n_ctx, 512);
  EXPECT_LT(four.scratch_bytes - one.scratch_bytes, one.scratch_bytes);  // logits only
  EXPECT_THAT(four.Table(), HasSubstr("4 times 512 positions"));

  const auto opened = setup.Open(four);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Engine& engine = **opened;
  const MemoryPlan& plan = *engine.memory_plan();
  ASSERT_LE(plan.total_bytes(), plan.budget_bytes);
  const WeightStream& stream = *engine.stream();
  EXPECT_EQ(stream.cache_bytes(), plan.cache_bytes);
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Session*> together;
  int64_t kv_bytes = 0;
  for (int i = 0; i < 4; ++i) {
    sessions.push_back(engine.NewSession(options.session).value());
    together.push_back(sessions.back().get());
    kv_bytes += sessions.back()->kv_bytes();
    EXPECT_EQ(stream.cache_bytes(), plan.cache_bytes);  // nothing is lent while another is opened
  }
  EXPECT_EQ(kv_bytes, plan.kv_bytes);
  const std::vector<TokenId> tokens(4, 7);
  ASSERT_TRUE(Session::FeedTogether(together, tokens).ok());
  const KvCache one_kv =
      KvCache::Allocate(engine.shape(), options.session.k_type, options.session.v_type, four.n_ctx).value();
  const int64_t of_session = one_kv.n_bytes(), of_first = one_kv.BytesFor(1);  // two tiles, and pages of the first
  EXPECT_LT(of_first, of_session / 2);
  const int64_t scratch = engine.model().WorkspaceBytes(32) - engine.model().WorkspaceBytes(4);
  EXPECT_EQ(stream.cache_bytes(), plan.cache_bytes + 4 * (of_session - of_first) + scratch);
  ASSERT_TRUE(sessions[0]->Feed(std::vector<TokenId>(300, 7)).ok());  // into its second tile
  ASSERT_TRUE(sessions[1]->CopyFrom(*sessions[0]).ok());
  ASSERT_TRUE(Session::FeedTogether(together, tokens).ok());
  EXPECT_EQ(stream.cache_bytes(), plan.cache_bytes + 2 * (of_session - of_first) + scratch);
  sessions.pop_back();  // its keys and values are free again
  together.pop_back();
  ASSERT_TRUE(Session::FeedTogether(together, std::span(tokens).first(3)).ok());
  // What was lent and given back meanwhile changed nothing.
  options.memory_bytes = 0;
  const auto resident = Engine::Open(testing::OpenGguf(setup.pack.path()), options, setup.log, {});
  ASSERT_TRUE(resident.ok()) << resident.status().ToString();
  for (const Session* const session : together) {
    const auto alone = (*resident)->NewSession(options.session).value();
    ASSERT_TRUE(alone->Feed(session->tokens()).ok());
    EXPECT_TRUE(std::ranges::equal(alone->logits(), session->logits())) << session->tokens().size();
  }
  const int64_t of_three = engine.model().WorkspaceBytes(32) - engine.model().WorkspaceBytes(3);
  EXPECT_EQ(stream.cache_bytes(), plan.cache_bytes + 2 * of_session - of_first + of_three);
  // One more than was planned for: nothing is lent.
  sessions.push_back(engine.NewSession(options.session).value());
  const auto fifth = engine.NewSession(options.session).value();
  ASSERT_TRUE(sessions[0]->Feed(std::span(tokens).first(1)).ok());
  EXPECT_EQ(stream.cache_bytes(), plan.cache_bytes);
}

TEST(FeedTogether, ASessionUnlikeThePlannedOneLendsNoMoreThanItLeaves) {
  PackInABudget setup;
  const auto opened = setup.Open(setup.PlanFor(1));
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Engine& engine = **opened;
  const MemoryPlan& plan = *engine.memory_plan();
  SessionOptions other = setup.options.session;
  other.n_ctx = 64;
  other.n_batch = 64;  // more scratch, fewer keys and values
  const auto session = engine.NewSession(other);
  ASSERT_TRUE(session.ok()) << session.status().ToString();
  const KvCache kv = KvCache::Allocate(engine.shape(), other.k_type, other.v_type, other.n_ctx).value();
  for (const size_t n : {1, 20}) {
    ASSERT_TRUE((*session)->Feed(std::vector<TokenId>(n, 7)).ok());
    const int64_t used =
        kv.BytesFor(std::ssize((*session)->tokens())) + engine.model().WorkspaceBytes(static_cast<int64_t>(n));
    EXPECT_LE(engine.stream()->cache_bytes() + used, plan.cache_bytes + plan.kv_bytes + plan.scratch_bytes) << n;
  }
}

}  // namespace
}  // namespace pantry
