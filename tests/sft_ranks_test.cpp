// Supervised fine-tuning against a plain transformers loop (tests/goldens/sft): the same tokens, masks and losses,
// whether sequences are packed or not.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "io/data_tokenizer.h"
#include "io/files.h"
#include "scratch_folder.h"
#include "support/golden_model.h"
#include "train/schedule.h"

namespace llama_tp {
namespace {

const std::string folder = "tests/goldens/sft";

nlohmann::json golden() { return nlohmann::json::parse(std::ifstream(folder + "/golden.json")); }

Dataset read(const std::string& name, const DataTokenizerOptions& what = {}, bool packing = false) {
  const DataTokenizer tokenizer(folder, what);
  DatasetOptions options = tokenizer.dataset_options(packing ? 256 : 1024, 500, {}, "the test");
  options.packing = packing;
  return read_dataset(folder + "/" + name, options);
}

TEST(FineTuning, WhateverChangesTheTokensChangesTheFingerprint) {
  const ScratchFolder scratch;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    write_text(scratch / name, read_text(folder + "/" + name));
  const auto fingerprint = [&](const DataTokenizerOptions& options) {
    return DataTokenizer(scratch.path(), options).fingerprint();
  };
  const std::string first = fingerprint({});
  EXPECT_EQ(fingerprint({}), first);
  EXPECT_EQ(DataTokenizer(folder, {}).fingerprint(), first);
  EXPECT_NE(fingerprint({{""}, false}), first);
  EXPECT_NE(fingerprint({{"zephyr"}, true}), first);
  EXPECT_NE(fingerprint({{"llama-3.2"}, true, "03 Feb 2025"}), fingerprint({{"llama-3.2"}, true, "04 Feb 2025"}));
  EXPECT_EQ(fingerprint({{""}, true, "03 Feb 2025"}), first);  // its template tells no date
  EXPECT_NE(DataTokenizer("", {}).fingerprint(), first);
  write_text(scratch / "special_tokens_map.json", "{}");
  EXPECT_NE(fingerprint({}), first);
}

std::vector<int32_t> to_vector(std::span<const int32_t> ids) { return {ids.begin(), ids.end()}; }

TEST(FineTuning, ConversationsHaveTheTokensAndMasksOfTransformers) {
  const Dataset ours = read("messages.jsonl"), theirs = read_dataset(folder + "/input.jsonl", {1024, 500, {}, {}});
  EXPECT_EQ(ours.tokens, theirs.tokens);
  EXPECT_EQ(ours.labels, theirs.labels);
  EXPECT_EQ(ours.starts, theirs.starts);
  EXPECT_EQ(read("messages.jsonl", {{""}, false}).labels, theirs.tokens);
}

TEST(FineTuning, CompletionsHaveTheTokensAndMasksOfTransformers) {
  const Dataset ours = read("completions.jsonl"), whole = read("completions.jsonl", {{""}, false});
  const nlohmann::json samples = golden()["completions"];
  ASSERT_EQ(ours.samples(), static_cast<int64_t>(samples.size()));
  for (int64_t i = 0; i < ours.samples(); i++) {
    const nlohmann::json& sample = samples[static_cast<size_t>(i)];
    EXPECT_EQ(to_vector(ours.sample(i).tokens), sample["input_ids"].get<std::vector<int32_t>>()) << i;
    EXPECT_EQ(to_vector(ours.sample(i).labels), sample["labels"].get<std::vector<int32_t>>()) << i;
    EXPECT_EQ(to_vector(whole.sample(i).labels), to_vector(ours.sample(i).tokens)) << i;
  }
}

// The golden is in double; its script keeps f32 within a tenth of 1e-4 over the steps.
TEST(FineTuning, ThirtyStepsFollowTransformers) {
  const nlohmann::json run = golden(), options = run["options"];
  GoldenModel model("../sft", DType::f32);
  model.data = read("messages.jsonl");
  const auto trainer = model.trainer(false, options["per_device_train_batch_size"].get<int64_t>());
  const Schedule schedule{schedule_named(options["lr_scheduler_type"]), options["learning_rate"],
                          options["warmup_steps"], options["max_steps"]};
  for (size_t at = 0; at < run["loss"].size(); at++) {
    const auto step = static_cast<int64_t>(at) + 1;
    int64_t targets = 0;
    for (const nlohmann::json& micro : run["micro_batches"][at])
      targets += count_targets(model.data, micro.get<std::vector<int64_t>>());
    trainer->begin(static_cast<int64_t>(run["micro_batches"][at].size()));
    for (const nlohmann::json& micro : run["micro_batches"][at]) {
      HostBatch batch;
      fill_batch(model.data, micro.get<std::vector<int64_t>>(), model.shape, batch);
      trainer->accumulate(batch, targets);
    }
    const StepResult result = trainer->finish(targets);
    EXPECT_NEAR(result.loss, run["loss"][at].get<double>(), 1e-4 * run["loss"][at].get<double>()) << "step " << step;
    EXPECT_NEAR(result.gradient_norm, run["grad_norm"][at].get<double>(), 1e-3 * run["grad_norm"][at].get<double>());
    trainer->update({schedule.rate(step), options["adam_beta1"], options["adam_beta2"], options["adam_epsilon"],
                     options["weight_decay"], step, options["max_grad_norm"]});
  }
}

// Loss and gradients of all samples at once.
struct Whole {
  double loss = 0;
  std::vector<std::pair<std::string, std::vector<float>>> gradients;
};
Whole whole_batch(const Dataset& data, int64_t sequence_ranks) {
  GoldenModel model("../sft", DType::f32);
  model.data = data;
  model.shape = {data.samples(), 1, 1, data.longest_sample(), sequence_ranks, data.most_sequences()};
  std::vector<int64_t> samples(static_cast<size_t>(data.samples()));
  std::iota(samples.begin(), samples.end(), 0);
  const auto trainer = model.trainer(false, data.samples());
  HostBatch batch;
  fill_batch(data, samples, model.shape, batch);
  const int64_t targets = count_targets(data, samples);
  trainer->begin();
  trainer->accumulate(batch, targets);
  const StepResult result = trainer->finish(targets);
  EXPECT_NEAR(trainer->evaluate(batch) / static_cast<double>(targets), result.loss, 1e-6 * result.loss);
  return {result.loss, model.gradients(*trainer)};
}

// The same sums in another order: each has some hundred terms of f32, errors of sqrt(hundreds) · 2^-24 of the largest,
// passed on through two blocks: below 1e-5.
TEST(FineTuning, PackedSequencesDoNotSeeEachOther) {
  const Dataset apart = read("messages.jsonl"), packed = read("messages.jsonl", {}, true);
  EXPECT_EQ(packed.sequences(), apart.samples());
  EXPECT_LE(2 * packed.samples(), apart.samples());
  const Whole expected = whole_batch(apart, 1);
  for (const int64_t sequence_ranks : {1, ranks().size()}) {
    const Whole together = whole_batch(packed, sequence_ranks);
    EXPECT_NEAR(together.loss, expected.loss, 1e-5 * expected.loss);
    ASSERT_EQ(together.gradients.size(), expected.gradients.size());
    for (size_t i = 0; i < expected.gradients.size(); i++) {
      const Difference off = difference(together.gradients[i].second, expected.gradients[i].second);
      EXPECT_LE(off.error, 1e-5 * off.magnitude) << expected.gradients[i].first;
    }
  }
}

}  // namespace
}  // namespace llama_tp
