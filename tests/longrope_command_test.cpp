// `llama_tp generate` of models whose rotation depends on the length: no text mixes two rotations, and a prompt among
// others rotates as it would alone.
#include <gtest/gtest.h>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

const Json longrope{{"rope_type", "longrope"},
                    {"original_max_position_embeddings", 16},
                    {"factor", 4},
                    {"short_factor", {1, 1}},
                    {"long_factor", {1, 3}}};
const std::string short_prompt = "Tom had",
                  long_prompt = "Tom had four nuts and a clever fox, and one rainy morning Rosa went to the sea";

// A model trained for a step, and what it generates in f32.
class FollowsLength {
 public:
  explicit FollowsLength(const Json& rope, int positions) {
    write_file(folder_ / "config.json",
               small_config({{"rope_scaling", rope}, {"max_position_embeddings", positions}}).dump());
    write_file(folder_ / "ids.jsonl", random_id_lines(4, 8, small_vocabulary));
    const CommandResult trained =
        run_command(llama_tp_with(0) + " train --config " + (folder_ / "config.json") + " --tokenizer " +
                    small_tokenizer() + " --train-file " + (folder_ / "ids.jsonl") + " --output-dir " +
                    (folder_ / "out") + " --max-steps 1 --per-device-train-batch-size 2 --dtype float32");
    EXPECT_EQ(trained.status, 0) << trained.err;
  }

  CommandResult generate(const std::string& options) const {
    return run_command(llama_tp_with(0) + " generate -m " + (folder_ / "out") + " " + options);
  }
  std::vector<Json> continued(const std::vector<std::string>& prompts) const {
    std::string lines;
    for (const std::string& prompt : prompts) lines += Json{{"prompt", prompt}}.dump() + "\n";
    write_file(folder_ / "prompts.jsonl", lines);
    const CommandResult result =
        generate("--temp 0 --logprobs --ignore-eos -n 12 -c 900 --prompts-file " + (folder_ / "prompts.jsonl"));
    EXPECT_EQ(result.status, 0) << result.err;
    return json_lines(result.out);
  }

 private:
  ScratchFolder folder_;
};

TEST(LongropeCommand, ATextEndsWhereItsCachedKeysWouldNoLongerFit) {
  const FollowsLength model(longrope, 256);
  const CommandResult within = model.generate("-n 30 -c 100 -p '" + short_prompt + "'");
  EXPECT_EQ(within.status, 0) << within.err;
  EXPECT_TRUE(holds(within.out + within.err, "the context ends after 16 tokens", "longrope",
                    "the context of 16 tokens is full, and with longrope no -c gives a larger one"));
  const CommandResult past = model.generate("-n 30 -c 100 -p '" + long_prompt + "'");
  EXPECT_EQ(past.status, 0) << past.err;
  EXPECT_FALSE(holds(past.out + past.err, "the context ends"));
  const CommandResult full = model.generate("-n 900 --ignore-eos -c 100 -p '" + long_prompt + "'");
  EXPECT_TRUE(holds(full.out + full.err, "the context of 100 tokens is full; give a larger one with -c"));
}

// One that stays within the original context, one past it, and one that takes two forwards, the first of them shared.
// f32 sums in another order round differently; a log-probability of some 6 has an error of a few 2^-22.
TEST(LongropeCommand, APromptAmongOthersIsContinuedAsIfItWereAlone) {
  std::string longer;
  for (int i = 0; i < 11; i++) longer += long_prompt + ". ";
  const std::vector<std::string> prompts{short_prompt, long_prompt, longer};
  for (const auto& [rope, positions] :
       {std::pair<Json, int>{longrope, 256}, {{{"rope_type", "dynamic"}, {"factor", 4}}, 16}}) {
    const FollowsLength model(rope, positions);
    const std::vector<Json> together = model.continued(prompts);
    ASSERT_EQ(together.size(), prompts.size());
    for (size_t i = 0; i < prompts.size(); i++) {
      SCOPED_TRACE(testing::Message() << rope << " prompt " << i);
      const Json alone = model.continued({prompts[i]}).at(0);
      EXPECT_EQ(together[i]["ids"], alone["ids"]);
      EXPECT_EQ(together[i]["finish_reason"], alone["finish_reason"]);
      ASSERT_EQ(together[i]["logprobs"].size(), alone["logprobs"].size());
      for (size_t t = 0; t < alone["logprobs"].size(); t++)
        EXPECT_NEAR(together[i]["logprobs"][t], alone["logprobs"][t], 1e-5);
    }
    EXPECT_EQ(together[1]["ids"].size(), 12u);
  }
}

}  // namespace
}  // namespace llama_tp
