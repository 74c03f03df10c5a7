// Supervised fine-tuning as a user types it: the same losses on any mesh, packed or not; what is learned is shown.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

const std::string model = "tests/goldens/sft", messages = model + "/messages.jsonl";

struct Outcome {
  std::vector<double> losses;
  double evaluation = 0;
  std::string out;
};

Outcome train(int ranks, const std::string& options, const std::string& file = messages) {
  const ScratchFolder folder;
  const CommandResult result = run_command(llama_tp_with(ranks) + " train --model " + model + " --train-file " + file +
                                           " --validation-file " + file + " --dtype float32 --learning-rate 1e-3 " +
                                           "--max-steps 4 --output-dir " + (folder / "out") + " " + options);
  EXPECT_EQ(result.status, 0) << result.err;
  Outcome run{{}, 0, result.out};
  for (const Json& line : json_lines(whole_file(folder / "out/metrics.jsonl"))) {
    run.losses.push_back(line["loss"]);
    run.evaluation = line.value("eval_loss", run.evaluation);
  }
  return run;
}

void expect_same(const Outcome& run, const Outcome& expected) {
  ASSERT_EQ(run.losses.size(), 4u) << run.out;
  // f32 sums in another order, passed on through four steps of AdamW.
  for (size_t i = 0; i < 4; i++) EXPECT_NEAR(run.losses[i], expected.losses[i], 1e-4 * expected.losses[i]) << i;
  EXPECT_NEAR(run.evaluation, expected.evaluation, 1e-4 * expected.evaluation);
}

// A step takes all conversations, which differ in what they have to learn: whichever way they are divided among
// forwards and ranks, the loss is the mean over the learned tokens of all.
TEST(FineTuning, TheLossIsTheSameOnAnyMeshPackedOrNot) {
  const Outcome expected = train(0, "--per-device-train-batch-size 10");
  EXPECT_TRUE(std::isfinite(expected.losses.at(0)));
  EXPECT_NE(train(0, "--per-device-train-batch-size 10 --assistant-only-loss off").losses.at(0), expected.losses[0]);
  for (const std::string packing : {"", " --packing on --block-size 256"}) {
    SCOPED_TRACE(packing);
    const Outcome alone = train(0, "--per-device-train-batch-size 3 --gradient-accumulation-steps 4" + packing);
    expect_same(alone, expected);
    expect_same(train(2, "--per-device-train-batch-size 10" + packing), expected);
    expect_same(train(2, "--tensor-parallel 1 --per-device-train-batch-size 5" + packing), expected);
    expect_same(train(4, "--tensor-parallel 2 --per-device-train-batch-size 5 --gradient-checkpointing" + packing),
                expected);
  }
}

TEST(FineTuning, EvalHasTheLossOfTrainsEvaluation) {
  const Outcome run = train(0, "--per-device-train-batch-size 10 --learning-rate 0");
  for (const int ranks : {0, 2}) {
    const CommandResult result = run_command(llama_tp_with(ranks) + " eval --json -m " + model + " --file " + messages);
    ASSERT_EQ(result.status, 0) << result.err;
    const Json evaluation = Json::parse(result.out);
    EXPECT_NEAR(evaluation["loss"].get<double>(), run.evaluation, 1e-5 * run.evaluation);
    int64_t learned = 0;  // by the golden's masks
    for (const Json& line : json_lines(whole_file(model + "/input.jsonl")))
      for (size_t i = 1; i < line["labels"].size(); i++) learned += line["labels"][i] != -100;
    EXPECT_EQ(evaluation["tokens"], learned);
  }
}

// With the normalizer of Qwen's tokenizers, a text is learned and judged alike whether its accents are characters of
// their own or not.
TEST(FineTuning, ANormalizedTextIsLearnedInEitherSpelling) {
  const ScratchFolder folder;
  std::filesystem::copy(model, folder / "qwen");
  Json tokenizer = Json::parse(whole_file(model + "/tokenizer.json"));
  tokenizer["normalizer"] = {{"type", "NFC"}};
  write_file(folder / "qwen/tokenizer.json", tokenizer.dump());
  const auto loss = [&](const std::string& name, const std::string& of, const std::string& cafe) {
    const std::string data = folder / (name + ".jsonl"), out = folder / (name + "-out");
    write_file(data, Json{{"prompt", "Le " + cafe + " de"}, {"completion", " Zo\u00eb, " + cafe}}.dump());
    const CommandResult trained = run_command(llama_tp_with(2) + " train --model " + of + " --train-file " + data +
                                              " --dtype float32 --max-steps 1 " + "--output-dir " + out);
    EXPECT_EQ(trained.status, 0) << trained.err;
    const CommandResult judged = run_command(llama_tp_with(0) + " eval --json -m " + out + " --file " + data);
    EXPECT_EQ(judged.status, 0) << judged.err;
    return Json::parse(judged.out)["loss"].get<double>();
  };
  const double composed = loss("composed", folder / "qwen", "caf\u00e9");
  EXPECT_EQ(loss("decomposed", folder / "qwen", "cafe\u0301"), composed);
  EXPECT_NE(loss("as_it_is", model, "cafe\u0301"), composed);
}

TEST(FineTuning, SaysWhatIsLearnedPackedAndCut) {
  EXPECT_TRUE(holds(train(0, "").out, "messages.jsonl: ", " are learned"));
  EXPECT_TRUE(holds(train(0, "--packing on --block-size 256").out, "10 sequences packed into "));
  EXPECT_TRUE(holds(train(2, "--block-size 100").out, "longer than --block-size 100 and cut: ", "which lost "));
}

TEST(FineTuning, ASecondRunFindsTheFileTokenized) {
  const ScratchFolder folder;
  const std::string command = " train --model " + model + " --train-file " + messages + " --output-dir " +
                              (folder / "out") + " --dtype float32 --max-steps ";
  EXPECT_EQ(run_command(llama_tp_with(2) + command + "2").out.find("tokenized by an earlier run"), std::string::npos);
  const CommandResult again = run_command(llama_tp_with(0) + command + "3 --resume-from-checkpoint");
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(holds(again.out, "tokenized by an earlier run: " + folder / "out/tokenized/tokenized-", "step 3/3"));
}

TEST(FineTuning, WhatARunTokenizedOutlivesItWhereItsWeightsCannotBeLoaded) {
  const ScratchFolder folder;
  const std::string damaged = folder / "model", weights = damaged + "/model.safetensors";
  std::filesystem::copy(model, damaged);
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 1);
  const auto command = [&](const std::string& source) {
    return llama_tp_with(2) + " train " + source + " --train-file " + messages + " --output-dir " + (folder / "out") +
           " --max-steps 1";
  };
  // What is refused before leaves nothing behind.
  const CommandResult too_large =
      run_command(command("--config data/configs/llama-3.1-405b.json --tokenizer " + model));
  EXPECT_NE(too_large.status, 0);
  EXPECT_TRUE(holds(too_large.err, " are free")) << too_large.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "out/tokenized"));
  EXPECT_NE(run_command(command("--model " + damaged)).status, 0);
  std::filesystem::copy(model + "/model.safetensors", damaged, std::filesystem::copy_options::overwrite_existing);
  const CommandResult again = run_command(command("--model " + damaged));
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(holds(again.out, "tokenized by an earlier run: "));
}

// Whatever reads conversations for it takes that one without --chat-template, though its tokenizer has one of its own; an
// option wins.
TEST(FineTuning, ACheckpointKeepsTheChatTemplateOfItsRun) {
  const ScratchFolder folder;
  const std::string out = folder / "out", zephyr = " --chat-template zephyr", chatml = " --chat-template chatml";
  const auto run = [](int ranks, const std::string& arguments) {
    const CommandResult result = run_command(llama_tp_with(ranks) + " " + arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const auto training = [&](const std::string& to, int steps, const std::string& options, const std::string& from) {
    return "train --model " + from + " --train-file " + messages + " --dtype float32 --lr-scheduler-type constant" +
           " --max-steps " + std::to_string(steps) + " --output-dir " + (folder / to) + options;
  };
  const auto kept_in = [](const std::string& checkpoint) {
    return Json::parse(whole_file(checkpoint + "/config.json")).value("llama_tp_chat_template", "none");
  };
  const auto weights = [&](const std::string& name) { return whole_file(folder / (name + "/model.safetensors")); };
  run(2, training("out", 2, zephyr, model));
  EXPECT_EQ(kept_in(out + "/checkpoint-2"), "zephyr");
  run(0, training("plain", 2, "", model));
  EXPECT_EQ(kept_in(folder / "plain/checkpoint-2"), "none");

  write_file(folder / "prompts.jsonl", R"({"messages": [{"role": "user", "content": "Hi"}]})");
  for (const std::string& command :
       {"eval --json -m " + out + " --file " + messages, "inspect -m " + out + " --data " + messages,
        "generate -m " + out + " --temp 0 -n 4 --logprobs --prompts-file " + (folder / "prompts.jsonl")}) {
    const std::string said = run(0, command);
    EXPECT_EQ(said, run(0, command + zephyr));
    EXPECT_NE(said, run(0, command + chatml));
  }

  run(2, training("out", 4, " --resume-from-checkpoint", model));
  run(2, training("whole", 4, zephyr, model));
  EXPECT_TRUE(weights("out/checkpoint-4") == weights("whole/checkpoint-4"));
  EXPECT_EQ(kept_in(out + "/checkpoint-4"), "zephyr");
  expect_refused(0, training("out", 6, " --resume-from-checkpoint" + chatml, model),
                 {"checkpoint-4/config.json: its run has another chat template; leave --chat-template out"});
  run(0, training("next", 1, "", out));
  run(0, training("next_as_told", 1, zephyr, out));
  EXPECT_TRUE(weights("next/checkpoint-1") == weights("next_as_told/checkpoint-1"));
  EXPECT_EQ(kept_in(folder / "next/checkpoint-1"), "zephyr");
  run(0, training("other", 1, chatml, out));
  EXPECT_EQ(kept_in(folder / "other/checkpoint-1"), "chatml");

  const std::string file = out + "/checkpoint-4/config.json", eval = "eval -m " + out + " --file " + messages;
  Json config = Json::parse(whole_file(file));
  const auto keep = [&](const Json& name) {
    config["llama_tp_chat_template"] = name;
    write_file(file, config.dump());
  };
  keep("alpaca");
  expect_refused(2, eval,
                 {"config.json: llama_tp_chat_template alpaca is not known; choose one with --chat-template: "});
  run(0, eval + zephyr);
  keep(7);
  expect_refused(0, eval, {"config.json: llama_tp_chat_template is 7; it must be the name of a chat template"});
  // A checkpoint of a version that kept none.
  config.erase("llama_tp_chat_template");
  write_file(file, config.dump());
  run(2, training("out", 5, " --resume-from-checkpoint" + zephyr, model));
  EXPECT_EQ(kept_in(out + "/checkpoint-5"), "zephyr");
}

TEST(FineTuning, RefusesWhatItCannotLearn) {
  const ScratchFolder folder;
  const std::string start = "train --output-dir " + (folder / "out") + " --model " + model + " --train-file ";
  expect_refused(2, start + messages + " --block-size 100 --truncation off",
                 {"messages.jsonl: line ", "tokens, more than --block-size 100", "raise it"});
  expect_refused(0, start + messages + " --block-size 16",
                 {"messages.jsonl: line 1: has nothing to learn", "raise it"});
  expect_refused(0, start + messages + " --chat-template alpaca", {"--chat-template alpaca", "chatml"});
  write_file(folder / "bad.jsonl",
             R"({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]})");
  expect_refused(0, start + (folder / "bad.jsonl"), {"bad.jsonl: line 1: message 2 is of the user"});
}

TEST(InspectData, ShowsWhatIsLearnedBetweenMarksOrInColour) {
  const ScratchFolder folder;
  write_file(folder / "d.jsonl",
             R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]})");
  const std::string command = llama_tp_with(0) + " inspect -m " + model + " --data " + (folder / "d.jsonl");
  const CommandResult plain = run_command(command);
  EXPECT_EQ(plain.out.substr(plain.out.find('\n') + 1, plain.out.rfind(folder.path()) - plain.out.find('\n') - 1),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yo<|im_end|>⟧\n\n\n");
  EXPECT_TRUE(holds(plain.out, "sample 1: ", ", of which 3 learned\n", "1 sample of 1 sequence"));
  EXPECT_EQ(run_command(llama_tp_with(2) + " inspect -m " + model + " --data " + (folder / "d.jsonl")).out, plain.out);
  const std::string colours = run_command(command, 100, Output::on_terminal).out;
  EXPECT_TRUE(holds(colours, "\x1b[2m<|im_start|>user", "\x1b[0m\x1b[32mYo<|im_end|>\x1b[0m\x1b[2m"));
  EXPECT_EQ(colours.find("⟦"), std::string::npos);
  EXPECT_TRUE(holds(run_command("NO_COLOR=1 " + command, 100, Output::on_terminal).out, "⟦Yo<|im_end|>⟧"));
  EXPECT_TRUE(holds(run_command(command + " --assistant-only-loss off").out, "⟦user"));
  write_file(folder / "d.jsonl", R"({"prompt": "a\u001b[31m", "completion": "b\u0000\tc"})");
  EXPECT_TRUE(holds(run_command(command).out, "a\\x1b[31m⟦b\\x00\tc<|end_of_text|>⟧\n"));
  expect_refused(2, "inspect -m " + model + " --data " + messages + " --infer x", {"--infer is not for --data"});
}

// A tokenizer without tokenizer_config.json names no EOS; the model's config does.
TEST(InspectData, EosIsTheModelsWhereTheTokenizerNamesNone) {
  const ScratchFolder folder;
  for (const char* file : {"/config.json", "/tokenizer.json"}) std::filesystem::copy(model + file, folder / file);
  const auto ends_of = [&](const std::string& lines) {
    write_file(folder / "d.jsonl", lines);
    return run_command(llama_tp_with(0) + " inspect -m " + folder.path() + " --data " + (folder / "d.jsonl")).out;
  };
  const std::string eos = run_command(llama_tp_with(0) + " tokenize -m " + model + " --decode -p 2").out;
  const std::string name = eos.substr(0, eos.find('\n'));
  EXPECT_TRUE(holds(ends_of(R"({"prompt": "a", "completion": "b"})"), "b" + name + "⟧"));
  EXPECT_TRUE(holds(ends_of("{\"text\": \"ab\"}\n{\"text\": \"cd\"}"), "b" + name + "cd" + name));
  expect_refused(2,
                 "train --model " + folder.path() + " --train-file " + messages +
                     " --chat-template zephyr --output-dir " + (folder / "out"),
                 {"--chat-template zephyr writes a token", "eos_token"});
}

// A run of byte tokens is decoded as a whole, though its first half is masked.
TEST(InspectData, TellsLearnedBytesFromMaskedOnes) {
  const ScratchFolder folder;
  write_file(folder / "d.jsonl", R"({"prompt": "a中", "completion": "文\u001b"})");
  const std::string command =
      llama_tp_with(0) + " inspect --tokenizer tests/goldens/tokenizers/llama2 --data " + (folder / "d.jsonl");
  EXPECT_TRUE(holds(run_command(command).out, ", of which 4 learned\n<s> a中⟦文\\x1b⟧\n"));
  EXPECT_TRUE(holds(run_command(command, 100, Output::on_terminal).out, "\x1b[2m<s> a中\x1b[0m\x1b[32m文\\x1b\x1b[0m"));
  write_file(folder / "d.jsonl", R"({"input_ids": [1, 648, 604, 593], "labels": [-100, -100, -100, 593]})");
  EXPECT_TRUE(holds(run_command(command).out, "<s>⟦中⟧\n"));  // its last byte is learned
}

TEST(InspectData, TakesAModelOfNoListedFamily) {
  const ScratchFolder folder;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(model + "/" + name, folder / name);
  Json config = Json::parse(whole_file(model + "/config.json"));
  config["model_type"] = "novel";
  write_file(folder / "config.json", config.dump());
  write_file(folder / "novel.json", R"({"family": "novel", "like": "llama"})");
  const std::string command = llama_tp_with(0) + " inspect -m " + folder.path() + " --data " + messages;
  EXPECT_TRUE(holds(run_command(command).err, "novel"));
  const std::string with_family = command + " --family " + (folder / "novel.json");
  const CommandResult known = run_command(with_family);
  EXPECT_TRUE(holds(known.out, "10 samples")) << known.err;
  config["tp_plan"] = {{"layers.*.attn.wq", "colwise"}};  // no module of that family, but nothing is split here
  write_file(folder / "config.json", config.dump());
  EXPECT_EQ(run_command(with_family).out, known.out);
}

}  // namespace
}  // namespace llama_tp
