// `llama_tp generate` of a model whose rotation changes past its original context: no text mixes both rotations.
#include <gtest/gtest.h>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

TEST(LongropeCommand, ATextEndsWhereItsCachedKeysWouldNoLongerFit) {
  const ScratchFolder folder;
  write_file(folder / "config.json", small_config({{"rope_scaling",
                                                    {{"rope_type", "longrope"},
                                                     {"original_max_position_embeddings", 16},
                                                     {"factor", 4},
                                                     {"short_factor", {1, 1}},
                                                     {"long_factor", {1, 3}}}}})
                                         .dump());
  write_file(folder / "ids.jsonl", random_id_lines(4, 8, small_vocabulary));
  const CommandResult trained =
      run_command(llama_tp_with(0) + " train --config " + (folder / "config.json") + " --tokenizer " +
                  small_tokenizer() + " --train-file " + (folder / "ids.jsonl") + " --output-dir " + (folder / "out") +
                  " --max-steps 1 --per-device-train-batch-size 2 --dtype float32");
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto generate = [&](const std::string& prompt) {
    return run_command(llama_tp_with(0) + " generate -m " + (folder / "out") + " -n 30 -c 100 -p '" + prompt + "'");
  };
  const CommandResult within = generate("Tom had");
  EXPECT_EQ(within.status, 0) << within.err;
  EXPECT_TRUE(holds(within.out + within.err, "the context ends after 16 tokens", "longrope",
                    "the context of 16 tokens is full"));
  const CommandResult past = generate("Tom had four nuts and a clever fox, and one rainy morning Rosa went to the sea");
  EXPECT_EQ(past.status, 0) << past.err;
  EXPECT_FALSE(holds(past.out + past.err, "the context ends"));
}

}  // namespace
}  // namespace llama_tp
