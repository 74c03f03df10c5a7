// Options from a JSON file are those of the command line.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/sound_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

class ConfigFile : public SoundModel {
 protected:
  static std::string train(const std::string& options) {
    return "train --config " + path("config.json") + " --train-file " + path("ids.jsonl") + " --output-dir " +
           path("out") + " " + options;
  }
};

// What is printed is a file for the same run; the command line wins over it.
TEST_F(ConfigFile, HoldsTheOptionsOfACommand) {
  const std::string file = path("options.json"), printed = path("printed.json");
  const auto text_of = [](const std::string& arguments) {
    const CommandResult result = run_command(llama_tp_with(0) + " " + arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  write_file(file,
             Json{{"prompt", "Good = morning"}, {"n_predict", 9}, {"temp", 0.0}, {"echo", true}, {"ignore-eos", false}}
                 .dump());
  const std::string start = "generate -m " + path("sound"), by_file = start + " --config-file " + file;
  EXPECT_EQ(text_of(by_file), text_of(start + " -p 'Good = morning' -n 9 --temp 0 --echo"));
  EXPECT_EQ(text_of(by_file + " -n 4 --echo=false"), text_of(start + " -p 'Good = morning' -n 4 --temp 0"));
  const Json config = Json::parse(text_of(by_file + " --print-config -s 3"));
  EXPECT_EQ(config["n-predict"], 9);
  EXPECT_EQ(config["seed"], 3);
  EXPECT_EQ(config["prompt"], "Good = morning");
  EXPECT_FALSE(config.contains("dtype"));
  write_file(printed, config.dump());
  EXPECT_EQ(text_of("generate --config-file " + printed), text_of(by_file));
  for (const std::string& command :
       {train("--global-batch-size 4"), std::string("plan --config llama-3.2-1b --max-sequence --memory 80GiB"),
        std::string("plan --config llama-3.2-1b --search --world 8 --memory 80GiB"),
        "inspect --tensor-parallel 2 --config " + path("sound/config.json")}) {
    write_file(printed, text_of(command + " --print-config"));
    const std::string name = command.substr(0, command.find(' '));
    EXPECT_EQ(text_of(name + " --print-config --config-file " + printed), whole_file(printed));
    // The defaults in it are none that somebody gave: some of them are refused beside other options.
    if (name == "plan") {
      EXPECT_NE(text_of(name + " --config-file " + printed), "");
    }
  }
  write_file(file, R"({"prompt": "Good", "n_predict": 0.9e1, "temp": 0, "seed": 9223372036854775807})");
  EXPECT_EQ(text_of(by_file), text_of(start + " -p Good -n 9 --temp 0"));
  EXPECT_TRUE(holds(text_of(by_file + " --print-config"), "\"seed\": 9223372036854775807"));
  write_file(printed, R"({"packing": true, "assistant_only_loss": false})");
  EXPECT_TRUE(
      holds(text_of(train("--print-config --config-file " + printed)), "\"packing\": \"on\"", "loss\": \"off\""));
  const auto resuming = [&](bool value) {
    write_file(printed, Json{{"resume_from_checkpoint", value}}.dump());
    return text_of(train("--print-config --config-file " + printed));
  };
  EXPECT_TRUE(holds(resuming(true), "\"resume-from-checkpoint\": \"latest\""));
  EXPECT_FALSE(holds(resuming(false), "resume-from-checkpoint"));
}

// auto for both is the default that it is without either.
TEST_F(ConfigFile, AMeshThatItHoldsIsSetBackToTheDefaultsOfTheCommandLine) {
  write_file(path("options.json"), R"({"tensor-parallel": 1, "data-parallel": 2})");
  const auto mesh_of = [](const std::string& options) {
    const CommandResult result = run_command(llama_tp_with(2) + " " + train("--max-steps 1 " + options));
    EXPECT_EQ(result.status, 0) << result.err;
    std::filesystem::remove_all(path("out"));
    return result.out;
  };
  const std::string by_file = "--config-file " + path("options.json");
  EXPECT_TRUE(holds(mesh_of(by_file), "data-parallel 2 × tensor-parallel 1"));
  EXPECT_TRUE(holds(mesh_of(""), "tensor-parallel 2"));
  EXPECT_TRUE(holds(mesh_of(by_file + " --tensor-parallel auto --data-parallel auto"), "tensor-parallel 2"));
}

// In a file as on the command line: it goes beside what refuses the flag, and asks for nothing itself.
TEST_F(ConfigFile, AFlagThatIsFalseIsNotGiven) {
  const auto expect_runs = [](const Json& flags, const std::string& command) {
    write_file(path("options.json"), flags.dump());
    std::string on_command_line;
    for (const auto& [flag, value] : flags.items()) on_command_line += " --" + flag + "=false";
    for (const std::string& options : {" --config-file " + path("options.json"), on_command_line}) {
      const CommandResult result = run_command(llama_tp_with(0) + " " + command + options);
      EXPECT_EQ(result.status, 0) << result.err;
    }
  };
  const Json of_plan{{"gradient-checkpointing", false}, {"max-sequence", false}, {"search", false}};
  expect_runs(of_plan, "plan --config data/demo/config.json --block-size 64 --compare tp=1");
  Json of_search = of_plan;
  of_search.erase("search");
  expect_runs(of_search, "plan --config data/demo/config.json --block-size 64 --search --world 1 --memory 80GiB");
  expect_runs({{"train", false}, {"generate", false}, {"kernels", false}, {"collectives", false}, {"json", false}},
              "bench --config data/demo/config.json --block-size 16 --steps 1 --rehearse rank=0,world=1");
  expect_refused(0, "plan --config data/demo/config.json --compare tp=1 --max-sequence=true",
                 {"--max-sequence does not go with --compare"});
}

TEST_F(ConfigFile, CannotHoldWhatIsNotUtf8) {
  const std::string command = "train --print-config --output-dir out --train-file ";
  expect_refused(2, command + "$'c\\xff.txt'", {"--train-file c\xff.txt", "is not UTF-8", "on the command line alone"});
  const CommandResult letters = run_command(llama_tp_with(0) + " " + command + "dä.txt");
  EXPECT_EQ(Json::parse(letters.out)["train-file"], "dä.txt") << letters.err;
}

TEST_F(ConfigFile, WhatIsNoOptionIsNamed) {
  const auto refused = [](const std::string& contents, const Words& words) {
    write_file(path("options.json"), contents);
    expect_refused(2, "generate -m " + path("sound") + " --config-file " + path("options.json"), words);
  };
  refused("{\"prompt\": \"a\"", {"options.json: is not a JSON object"});
  refused("[]", {"options.json: is not a JSON object"});
  refused("{\"promt\": \"a\"}",
          {"options.json: \"promt\" is no option of generate; did you mean --prompt? llama_tp generate --help"});
  refused("{\"config-file\": \"a\"}", {"\"config-file\" is no option"});
  refused("{\"prompt\": [\"a\"]}", {"options.json: prompt is [\"a\"]; a text, a number"});
  refused("{\"echo\": 1}", {"options.json: echo is 1; true or false"});
  refused("{\"prompt\": \"a\", \"temp\": \"hot\"}", {"--temp \"hot\" is not a number"});
  refused("{\"prompt\": \"a\", \"n-predict\": 2.5}", {"--n-predict \"2.5\" is not a whole number"});
  refused("{\"prompt\": \"a\", \"n-predict\": 1e30}", {"--n-predict \"1e+30\" is not a whole number"});
  expect_refused(0, "plan --config-file /nonexistent", {"/nonexistent", "no such file"});
}

}  // namespace
}  // namespace llama_tp
