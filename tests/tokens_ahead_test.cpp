// Tokens that a device begins before the host has the choice that they follow, with the kernels emulated and CUDA's
// runtime doubled (cuda/double.h): they are those that are made one by one, whatever is fed instead.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "cuda/cuda_model.h"
#include "cuda/double.h"
#include "generate/generator.h"
#include "model/checkpoint.h"
#include "parallel/patience.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

constexpr int64_t context = 280;
const std::vector<int64_t> prompts{250, 20, 7};  // the first soon passes 256 keys, where another recording begins

// Texts of three sequences, drawn with a penalty, and the probability of each token.
class TokensAhead : public testing::Test {
 protected:
  void TearDown() override {
    generator_.reset();
    model_.reset();
    unsetenv("LLAMA_TP_TOKENS_AHEAD");
    cuda_double() = {};
  }

  Generator& generator() { return *generator_; }
  void make(bool ahead) {
    setenv("LLAMA_TP_TOKENS_AHEAD", ahead ? "1" : "0", 1);
    generator_.reset();
    model_ = std::make_unique<CudaModel>("gqa");
    model_->reserve(plan_generation(model_->config, context, {prompts}, *model_->backend, *model_->runtime));
    const SamplingOptions options{.repeat_penalty = 1.3f, .temperature = 3};
    generator_ = std::make_unique<Generator>(model_->config, context, *model_->runtime, std::ssize(prompts),
                                             Sampling{options, 5, true});
    load_weights(ModelFiles(model_->folder), model_->config, generator_->parameters(), *model_->backend);
    told_.clear();
    for (int64_t sequence = 0; sequence < std::ssize(prompts); sequence++) start(sequence);
  }

  void start(int64_t sequence) {
    feed({sequence}, std::vector<int32_t>(static_cast<size_t>(prompts[static_cast<size_t>(sequence)]), 3));
  }
  void feed(const std::vector<int64_t>& sequences, const std::vector<int32_t>& tokens) {
    std::vector<Feed> feeds;
    for (const int64_t sequence : sequences) feeds.push_back({sequence, tokens});
    feed(feeds);
  }
  void feed_choices(const std::vector<int64_t>& sequences) {
    std::vector<int32_t> ids;
    for (const int64_t sequence : sequences) ids.push_back(generator_->choice(sequence).id);
    std::vector<Feed> feeds;
    for (size_t i = 0; i < sequences.size(); i++) feeds.push_back({sequences[i], {&ids[i], 1}});
    feed(feeds);
  }
  void feed(const std::vector<Feed>& feeds) {
    generator_->feed(feeds);
    for (const Feed& feed : feeds)
      told_.insert(told_.end(), {static_cast<double>(generator_->choice(feed.sequence).id),
                                 generator_->choice(feed.sequence).log_probability});
  }

  std::unique_ptr<CudaModel> model_;
  std::unique_ptr<Generator> generator_;
  std::vector<double> told_;
};

// Each is begun once: the first runs as it is, all others are started from a recording.
TEST_F(TokensAhead, AreBegunOnceWhereChoicesAreFed) {
  make(true);
  for (int token = 0; token < 4; token++) feed_choices({1, 2});
  EXPECT_EQ(cuda_double().graphs_started, 4);  // and one that was begun in vain
  feed_choices({2});                           // whose choice it had
  EXPECT_EQ(cuda_double().graphs_started, 4);
}

TEST_F(TokensAhead, AreBegunBeforeTheHostWaits) {
  struct Lets : Watcher {
    void look(bool, std::chrono::duration<double>) override {
      started_at_look = cuda_double().graphs_started;
      cuda_double().never_ends = false;
    }
    int started_at_look = 0;
  } watcher;
  make(true);
  for (int token = 0; token < 3; token++) feed_choices({0});
  const int started = cuda_double().graphs_started;
  model_->backend->device()->watchers.push_back(&watcher);
  cuda_double().never_ends = true;
  feed_choices({0});
  EXPECT_EQ(watcher.started_at_look, started + 1);
  model_->backend->device()->watchers.clear();
}

TEST_F(TokensAhead, EndWithTheContext) {
  make(true);
  while (generator().length(0) < context) feed_choices({0});
  const int started = cuda_double().graphs_started;
  EXPECT_EQ(started, (256 - 250 - 1) + (context - 256 - 1));  // of each recording all but the first
  EXPECT_EQ(error_of([&] { feed_choices({0}); }), "the context of 280 tokens is full; give a larger one with -c");
  EXPECT_EQ(cuda_double().graphs_started, started);
}

// Most often choices, of all or of some and in any order; else another token, a text that goes back and on with the same
// token, another prompt.
TEST_F(TokensAhead, AreThoseThatAreMadeOneByOneWhateverIsFed) {
  const auto follow_a_script = [&](bool ahead) {
    make(ahead);
    feed_choices({2});
    generator().begin(2, 3);
    feed_choices({2});  // a prompt of one token
    std::mt19937 random(1);
    for (int turn = 0; turn < 40; turn++) {
      const auto one = static_cast<int64_t>(random() % 3);
      switch (random() % 8) {
        case 0:
          feed({one}, {static_cast<int32_t>(random() % 50)});
          break;
        case 1:
          feed_choices({one});
          break;
        case 2:
          feed_choices({(one + 1) % 3, one});
          break;
        case 3:
          generator().rewind(one, generator().length(one) - 1);
          feed_choices({one});
          break;
        case 4:
          generator().begin(2, random() % 4);
          start(2);
          break;
        default:
          feed_choices({0, 1, 2});
      }
      for (int64_t sequence = 0; sequence < 3; sequence++)
        if (generator().length(sequence) > context - 3) generator().rewind(sequence, context - 20);
    }
    return told_;
  };
  const std::vector<double> ahead = follow_a_script(true);
  EXPECT_EQ(follow_a_script(false), ahead);
}

// More tokens than one forward takes: what is fed next begins with others.
TEST_F(TokensAhead, AreNotBegunBehindAPartOfWhatIsFed) {
  CudaModel model("gqa");
  constexpr int64_t sequences = Generator::prompt_piece + 1, room = 4;
  model.reserve(
      plan_generation(model.config, room, {std::vector<int64_t>(sequences, 1)}, *model.backend, *model.runtime));
  Generator generator(model.config, room, *model.runtime, sequences);
  load_weights(ModelFiles(model.folder), model.config, generator.parameters(), *model.backend);
  const int32_t prompt = 3;
  std::vector<Feed> feeds;
  for (int64_t sequence = 0; sequence < sequences; sequence++) feeds.push_back({sequence, {&prompt, 1}});
  for (int token = 0; token < 2; token++) {
    generator.feed(feeds);
    for (Feed& feed : feeds) feed.tokens = {&generator.choice(feed.sequence).id, 1};
  }
  EXPECT_EQ(cuda_double().graphs_started, 0);  // forwards of 512 and of 1 token take turns: nothing is repeated
}

struct Leaves : Watcher {
  void look(bool, std::chrono::duration<double>) override { throw Stopped(); }
};

TEST_F(TokensAhead, AreWaitedForAtTheEndWhereErrorsAreSeen) {
  Leaves watcher;
  make(true);
  feed_choices({0});
  model_->backend->device()->watchers.push_back(&watcher);
  cuda_double().never_ends = true;
  EXPECT_THROW(generator().finish(), Stopped);
  cuda_double().never_ends = false;
  generator().finish();
  const int waits = cuda_double().waits;
  generator().finish();
  generator_.reset();
  EXPECT_EQ(cuda_double().waits, waits);
  model_->backend->device()->watchers.clear();
}

// One that was begun in vain is waited for, and left where it cannot end.
TEST_F(TokensAhead, AreNotInTheWayOfAnEnd) {
  Leaves watcher;
  for (const bool ends : {true, false}) {
    make(true);
    feed_choices({0});
    model_->backend->device()->watchers.push_back(&watcher);
    cuda_double().never_ends = !ends;
    const int waits = cuda_double().waits;
    generator_.reset();
    EXPECT_GT(cuda_double().waits, waits);
    cuda_double().never_ends = false;
    model_->backend->device()->watchers.clear();
  }
}

}  // namespace
}  // namespace llama_tp
