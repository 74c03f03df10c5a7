// `llama_tp plan` of one mesh: what it says and refuses. (plan_search_test.cpp: of many; mesh_command_test.cpp: what it foresees is what a run on any
// mesh measures; plan_formulas_test.cpp: and what the mathematics says.)
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <tuple>

#include "report/format.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/planned.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

class PlanCommand : public testing::Test {
 protected:
  PlanCommand() {
    write_file(folder_ / "config.json", small_config().dump());
    write_file(folder_ / "ids.jsonl", random_id_lines(16, 64, small_vocabulary));
  }

  ScratchFolder folder_;
};

// What it takes is counted apart, and in no phase of a step.
TEST_F(PlanCommand, EvaluationIsAPhaseOfItsOwn) {
  const std::string shared = text(" --fsdp 2 --tensor-parallel 1 --config ", folder_ / "config.json",
                                  " --block-size 64 --per-device-train-batch-size 2"),
                    ids = folder_ / "ids.jsonl", output = folder_ / "out";
  const CommandResult run = run_command(llama_tp_with(2) + " train --train-file " + ids + " --validation-file " + ids +
                                        " --output-dir " + output + " --max-steps 2 --eval-steps 1" + shared);
  ASSERT_EQ(run.status, 0) << run.err;
  Json phases = Json::parse(whole_file(output + "/memory.json"))["ranks"][0]["phases"];
  EXPECT_GT(phases.value("evaluate", int64_t{0}), phases["optimizer"].get<int64_t>());
  for (const char* phase : {"load", "forward", "loss", "backward", "gradient_sync", "optimizer", "save"})
    EXPECT_GT(phases.value(phase, int64_t{0}), 0) << phase;
  phases.erase("evaluate");
  EXPECT_EQ(phases, planned(shared)["ranks"][0]["phases"]);
}

TEST_F(PlanCommand, APathThatIsNotUtf8IsShownInJsonWithReplacements) {
  write_file(folder_ / "c\xff.json", small_config().dump());
  const std::string config = "--block-size 64 --memory 1GiB --config " + folder_.path() + "/$'c\\xff.json' ";
  for (const std::string what : {"", "--compare tp=2 dp=2", "--search --world 2 --device h100"})
    EXPECT_EQ(planned(config + what)["config"], folder_ / "c\uFFFD.json") << what;
}

TEST(Plan, TheLongestSequenceFitsAndTheNextDoesNot) {
  const std::string mesh = "--config llama-3.2-1b --per-device-train-batch-size 1 --tensor-parallel 4 ";
  const Json longest = planned(mesh + "--max-sequence --memory 16GiB");
  const int64_t found = longest["block_size"];
  EXPECT_TRUE(longest["fits"]);
  EXPECT_TRUE(planned(mesh + "--memory 16GiB --block-size " + std::to_string(found))["fits"]);
  EXPECT_FALSE(planned(mesh + "--memory 16GiB --block-size " + std::to_string(found + 128))["fits"]);
}

// Whose memory is not full yet is not told to be: no longer sample was tried.
TEST(Plan, TheLongestThatPlanLooksAtIsNotCalledTheLongestThatFits) {
  const std::string shared = "--config data/demo/config.json --memory 900TB ", mesh = shared + "--max-sequence ";
  const auto printed = [](const std::string& options) {
    return run_command(llama_tp_with(0) + " plan " + options).out;
  };
  for (const char* samples : {"1", "3"}) {
    const std::string step = mesh + "--per-device-train-batch-size " + samples;
    EXPECT_TRUE(planned(step)["longer_was_not_tried"]) << samples;
    EXPECT_TRUE(holds(printed(step), " (the most that plan looks at)\n")) << samples;
  }
  const std::string filled = "--config data/demo/config.json --max-sequence --memory 1GiB";
  EXPECT_FALSE(planned(filled)["longer_was_not_tried"]);
  EXPECT_TRUE(holds(printed(filled), " (the most that fit)\n"));
  EXPECT_FALSE(planned("--config data/demo/config.json").contains("longer_was_not_tried"));

  const std::string schemes = "--compare tp=2 dp=2 --block-size 64 ";
  EXPECT_TRUE(holds(printed(shared + schemes), "    4,194,304+    4,194,304+\n", "+: no longer sample was tried.\n"));
  EXPECT_TRUE(planned(shared + schemes)["schemes"][0]["longer_was_not_tried"]);
  const std::string narrow = "--config data/demo/config.json --memory 1GiB " + schemes;
  EXPECT_FALSE(holds(printed(narrow), "+\n") || holds(printed(narrow), "no longer sample"));
  EXPECT_FALSE(planned(narrow)["schemes"][0]["longer_was_not_tried"]);
}

// In the words of a run.
TEST_F(PlanCommand, ALengthBeyondTheModelsPositionsIsSaid) {
  write_file(folder_ / "config.json", small_config({{"max_position_embeddings", 64}}).dump());
  const std::string shared = text(" plan --config ", folder_ / "config.json", " --memory 1GiB ");
  const auto said = [&](const std::string& options, int64_t tokens) {
    const CommandResult result = run_command(llama_tp_with(0) + shared + options);
    EXPECT_EQ(result.status, 0) << result.err;
    return holds(result.out, text("\nsamples of ", tokens, " tokens are longer than the model's 64 positions\n"));
  };
  const auto planned_with = [&](const std::string& options) {
    return planned(text("--config ", folder_ / "config.json", " --memory 1GiB ", options));
  };
  const int64_t longest = planned_with("--max-sequence")["block_size"];
  EXPECT_TRUE(said("--max-sequence", longest));
  EXPECT_TRUE(said("--block-size 65", 65));
  EXPECT_FALSE(said("--block-size 64", 64));
  const std::string schemes = "--compare fsdp=2 tp=2 --block-size 64";
  const Json compared = planned_with(schemes);
  int64_t of_all = 0;
  for (const Json& scheme : compared["schemes"]) of_all = std::max(of_all, scheme["longest_block_size"].get<int64_t>());
  EXPECT_TRUE(said(schemes, of_all));
}

// A device's memory is what CUDA reports of it, and a plan leaves room for what it does not count.
TEST(Plan, FitsBesideWhatIsReserved) {
  const std::string step = "--config llama-3.1-8b --per-device-train-batch-size 1 --block-size 1024 ";
  for (const auto& [device, name] :
       {std::pair{"a100", "NVIDIA A100 SXM4 80GB"}, std::pair{"h100", "NVIDIA H100 SXM5 80GB"},
        std::pair{"h200", "NVIDIA H200 SXM 141GB"}}) {
    const Json plan = planned(step + "--device " + device), &estimate = plan["estimate"];
    EXPECT_EQ(plan["memory_limit"],
              estimate["memory_bytes"].get<int64_t>() - estimate["reserved_bytes"].get<int64_t>());
    EXPECT_EQ(estimate["device"], name);
    const CommandResult table = run_command(llama_tp_with(0) + " plan " + step + "--device " + device);
    EXPECT_TRUE(holds(table.out, text(name, "'s ")) && holds(table.out, " less 2.00 GiB for CUDA's context and NCCL"))
        << table.out;
  }
  // What is asked for may be taken whole.
  EXPECT_EQ(planned(step + "--device h100 --memory 80GB")["memory_limit"], 80'000'000'000);
  const ScratchFolder scratch;
  Json sheet = Json::parse(whole_file("data/devices/h100.json"));
  const int64_t needs = planned(step + "--device h100")["ranks"][0]["peak_bytes"], reserved = sheet["reserved_bytes"];
  for (const int64_t missing : {0, 1}) {
    sheet["memory_bytes"] = needs + reserved - missing;
    write_file(scratch / "sheet.json", sheet.dump());
    EXPECT_EQ(planned(step + "--device " + (scratch / "sheet.json"))["fits"], missing == 0);
  }
}

TEST(Plan, TakesAsManySamplesAForwardAsARunDoes) {
  EXPECT_TRUE(planned("--config llama-3.2-1b --block-size 2 --per-device-train-batch-size 100000").contains("ranks"));
  EXPECT_TRUE(planned("--config llama-3.2-1b --memory 4000GiB --max-sequence --per-device-train-batch-size 5000")
                  .contains("ranks"));
}

// On a device that computes very slowly, whatever has work beside it is hidden. What is left of FSDP's is waited for at once:
// the first block of each pass, the scattering of the last, and the units around the blocks. Without prefetch it is all.
TEST(Plan, EstimatesHideWhatRunsBesideWork) {
  const ScratchFolder scratch;
  Json sheet = Json::parse(whole_file("data/devices/h100.json"));
  sheet["bf16_flops"] = 1e9;
  sheet["memory_bandwidth"] = 1e17;
  sheet["link_latency"] = sheet["collective_latency"] = 1e-17;
  write_file(scratch / "slow.json", sheet.dump());
  const auto seconds = [&](const std::string& mesh, int tokens = 512) {
    const Json estimate = planned(text("--config llama-3.2-1b --per-device-train-batch-size 1 --block-size ", tokens,
                                       " --device ", scratch / "slow.json", " ", mesh))["estimate"];
    return std::pair{estimate["communication_seconds"].get<double>(), estimate["exposed_seconds"].get<double>()};
  };
  const auto [all, exposed] = seconds("--fsdp 4");
  // Of 16 blocks of 60.8 M values: 2 bytes each gathered in both passes, 4 scattered.
  constexpr double block = 2048.0 * (2 * 2048 + 2 * 512 + 3 * 8192), sent = 3.0 / 4;
  const double hidden = block * sent * 15 * (2 + 2 + 4) / sheet["link_bandwidth"].get<double>();
  EXPECT_NEAR(all - exposed, hidden, 1e-9);
  const auto [as_much, unhidden] = seconds("--fsdp 4 --fsdp-prefetch off");
  EXPECT_NEAR(as_much, all, 1e-9);
  EXPECT_NEAR(unhidden, all, 1e-9);
  // Of a block's tensor ranks, in backward: two inputs gathered and their gradients scattered beside products.
  const auto [tensor, tensor_exposed] = seconds("--tensor-parallel 4");
  const double once_a_block = 16 * 2.0 * 2048 * sent / sheet["link_bandwidth"].get<double>();  // of each token
  EXPECT_NEAR(tensor - tensor_exposed, 4 * 512 * once_a_block, 1e-9);
  // 128 MiB go in two parts: half of what is gathered and scattered in forward, twice each, and of the gradients that
  // are gathered for the regions' last products, is beside a product as well.
  const auto [parts, parts_exposed] = seconds("--tensor-parallel 4", 32768);
  EXPECT_NEAR(parts - parts_exposed, (4 + 6 / 2) * 32768 * once_a_block, 1e-8);
  const auto [copies, copies_exposed] = seconds("--data-parallel 4");
  EXPECT_GT(copies_exposed, 0);
  EXPECT_LT(copies_exposed, copies / 2);
}

// In a step of several forwards all is done as often but the optimizer's work and the sums over copies.
TEST(Plan, AGlobalBatchRepeatsForwardAndBackward) {
  const std::string mesh =
      "--config llama-3.2-1b --fsdp 2 --data-parallel 2 --per-device-train-batch-size 1 --block-size 512 ";
  const auto traffic = [&](const std::string& batch) {
    std::map<std::string, int64_t> calls;
    const Json plan = planned(mesh + "--global-batch-size " + batch);
    for (const Json& entry : plan["communication"])
      calls[entry["group"].get<std::string>() + " " + entry["collective"].get<std::string>()] = entry["calls"];
    return calls;
  };
  std::map<std::string, int64_t> one = traffic("4"), three = traffic("12");
  EXPECT_EQ(three["fsdp all_gather"] - 1, 3 * (one["fsdp all_gather"] - 1));
  EXPECT_EQ(three["fsdp reduce_scatter"] - 1, 3 * (one["fsdp reduce_scatter"] - 1));
  EXPECT_EQ(three["data all_reduce"], one["data all_reduce"]);
}

// What a GPU needs is a function of shapes: neither the CPU that counts nor its threads change a byte, and it is said
// whose scratch memory was counted.
TEST(Plan, ForADeviceDependsOnNoMachine) {
  const std::string step = "--config llama-3.2-1b --block-size 1024 --per-device-train-batch-size 2 ";
  const Json plan = planned(step + "--device h100 --threads 1");
  EXPECT_EQ(plan, planned(step + "--device h100 --threads 3"));
  setenv("ONEDNN_MAX_CPU_ISA", "SSE41", 1);
  EXPECT_EQ(plan, planned(step + "--device h100 --threads 1"));
  unsetenv("ONEDNN_MAX_CPU_ISA");
  EXPECT_TRUE(plan["workspace_of"].get<std::string>().starts_with("cuda: ")) << plan["workspace_of"];
  // Products take the most that cuBLASLt is given, and attention's delta is smaller.
  EXPECT_EQ(plan["ranks"][0]["categories"]["workspace"], 32 << 20);
  const Json here = planned(step + "--device h100 --backend cpu --threads 1");
  EXPECT_TRUE(here["workspace_of"].get<std::string>().starts_with("cpu: ")) << here["workspace_of"];
  EXPECT_NE(here["ranks"], plan["ranks"]);
  EXPECT_EQ(here["ranks"], planned(step + "--backend cpu --threads 1")["ranks"]);
}

// The table's unit follows its largest number: a small model's rows are not all 0.000.
TEST(Plan, IsWrittenInAUnitOfItsSize) {
  constexpr double kib = 1024, mib = kib * kib, gib = mib * kib;
  for (const auto& [options, unit, bytes] :
       {std::tuple{"--config llama-3.1-8b --block-size 1024", "GiB", gib},
        std::tuple{"--config data/demo/config.json --block-size 1024", "MiB", mib}}) {
    const CommandResult plan = run_command(llama_tp_with(0) + " plan " + options);
    ASSERT_EQ(plan.status, 0) << plan.err;
    EXPECT_NE(plan.out.find(text("memory of a rank at its peak, ", unit)), std::string::npos) << plan.out;
    const double total = std::stod(plan.out.substr(plan.out.find("  total ") + 8));
    EXPECT_NEAR(total, planned(options)["ranks"][0]["peak_bytes"].get<double>() / bytes, 0.0005);
  }
}

// The first lines say what a rank needs, of what the most and whether it fits; nothing is printed that reads as 0, and
// phases and calls only for those who ask.
TEST(Plan, BeginsWithASummary) {
  const std::string step =
      "--config llama-3.1-8b --tensor-parallel 8 --block-size 16384 --per-device-train-batch-size 1 ";
  const auto printed = [&](const std::string& options) {
    return run_command(llama_tp_with(0) + " plan " + step + options).out;
  };
  const std::string fits = printed("--device h100"), not_fits = printed("--memory 16GiB");
  const auto line_of = [](const std::string& out, int number) {
    std::istringstream lines(out);
    std::string line;
    for (int i = 0; i <= number; i++) std::getline(lines, line);
    return line;
  };
  EXPECT_EQ(line_of(fits, 1),
            "a rank needs 21.09 GiB: weights, gradients and optimizer 14.96 GiB; activations 6.10 GiB");
  EXPECT_TRUE(line_of(fits, 2).starts_with("fits 77.18 GiB")) << fits;
  EXPECT_EQ(line_of(not_fits, 2), "DOES NOT FIT 16.00 GiB");
  EXPECT_FALSE(holds(fits, " 0.000\n") || holds(fits, "calls") || holds(fits, "backward")) << fits;
  const std::string verbose = printed("--device h100 --verbose");
  EXPECT_TRUE(holds(verbose, "calls of a step's collectives") && holds(verbose, "the most in each phase")) << verbose;
}

// Of a rank that needs less than 4 GiB, too, where the tables are in MiB.
TEST(Plan, TheSummaryHasOneUnit) {
  const std::string step = "--config llama-3.2-1b --tensor-parallel 8 --block-size 1024";
  const Json plan = planned(step), &held = plan["ranks"][0]["categories"];
  int64_t state = 0;
  for (const char* category : {"parameters", "master_weights", "gradients", "moments"})
    state += held[category].get<int64_t>();
  const auto mebibytes = [](int64_t bytes) { return fixed(static_cast<double>(bytes) / (1 << 20), 2) + " MiB"; };
  const std::string out = run_command(llama_tp_with(0) + " plan " + step).out;
  EXPECT_TRUE(holds(out, text("a rank needs ", mebibytes(plan["ranks"][0]["peak_bytes"]), ": "),
                    "weights, gradients and optimizer " + mebibytes(state), " MiB\n"))
      << out;
}

// The numbers are those of transformers' models of these configs, made on torch's meta device.
TEST(Plan, KnowsTheModelsByName) {
  const std::pair<const char*, int64_t> sizes[] = {
      {"llama-2-7b", 6'738'415'616},      {"llama-2-13b", 13'015'864'320},     {"llama-2-70b", 68'976'648'192},
      {"llama-3.1-70b", 70'553'706'496},  {"llama-3.1-405b", 405'853'388'800}, {"llama-3.2-1b", 1'235'814'400},
      {"llama-3.2-3b", 3'212'749'824},    {"tinyllama-1.1b", 1'100'048'384},   {"smollm2-135m", 134'515'008},
      {"mistral-7b-v0.3", 7'248'023'552}, {"qwen2.5-7b", 7'615'616'512},       {"qwen2.5-72b", 72'706'203'648},
      {"qwen3-8b", 8'190'735'360},        {"qwen3-32b", 32'762'123'264},       {"nemotron-4-340b", 341'029'195'776}};
  for (const auto& [name, count] : sizes)
    EXPECT_EQ(planned(std::string("--block-size 128 --config ") + name)["parameters"], count) << name;
}

TEST(Plan, RefusesInOneLine) {
  const auto refused = [](const std::string& options, const std::string& says) {
    const CommandResult result = run_command(llama_tp_with(0) + " plan " + options);
    EXPECT_EQ(result.status, 1) << options;
    ASSERT_EQ(result.errors().size(), 1u) << options << result.err;
    EXPECT_TRUE(holds(result.errors()[0], says)) << options;
  };
  const std::string config = "--config llama-3.1-8b ";
  refused("", "--config is missing");
  refused("--config llama-9", "llama-3.1-8b");
  const ScratchFolder scratch;
  write_file(scratch / "config.json", small_config({{"model_type", "gpt2"}}).dump());
  refused("--config " + (scratch / "config.json"), "is not a family that this program knows");
  refused(config + "--tensor-parallel 5", "5");
  refused(config + "--device h9000", "h100");
  refused(config + "--memory lots", "--memory lots");
  refused(config + "--memory 0x50GiB", "--memory 0x50GiB is no amount of memory of 1 MiB or more; give it like 80GiB");
  refused(config + "--memory 80", "--memory 80 is no amount of memory of 1 MiB or more; give it like 80GiB");
  refused(config + "--max-sequence", "--memory 80GiB");
  const std::string smallest = config + "--max-sequence --memory 1GiB ", or_more = "more --tensor-parallel or --fsdp ";
  refused(smallest, "not even 8 × 128 tokens fit 1.00 GiB");
  refused(smallest, "; take --per-device-train-batch-size 1, --gradient-checkpointing, " + or_more);
  refused(smallest + "--per-device-train-batch-size 1 --gradient-checkpointing", "; take " + or_more);
  refused(config + "--block-size 4194304", "tokens of a forward");
  refused(
      "--config llama-3.1-405b --tensor-parallel 8 --per-device-train-batch-size 1 --block-size 4194304 "
      "--global-batch-size 1048576",
      "a step of 1048576 forwards would send more than 2^63 bytes; lower --global-batch-size or --block-size");
  refused(config + "--device h100 --dtype float32", "--device");
  Json sheet = Json::parse(whole_file("data/devices/h100.json"));
  sheet["reserved_bytes"] = sheet["memory_bytes"];
  write_file(scratch / "full.json", sheet.dump());
  refused(config + "--device " + (scratch / "full.json"), "reserved_bytes leave nothing of memory_bytes");
  sheet["link_latency"] = -1;
  write_file(scratch / "full.json", sheet.dump());
  refused(config + "--device " + (scratch / "full.json"),
          "full.json: link_latency: is -1; it must be a positive number below 1e18; data/devices/h100.json shows the keys");
  sheet.erase("source");
  write_file(scratch / "full.json", sheet.dump());
  refused(config + "--device " + (scratch / "full.json"), "full.json: \"source\" is missing; data/devices/h100.json");
  refused(config + "--search", "--world 8");
  refused(config + "--compare tp=2 --search --world 2", "leave one of them out");
  refused(config + "--compare tp=2 fsdp=4", "a mesh of 4 ranks, but tp=2 has 2");
  refused(config + "--compare tp=2 fsdp=2 --world 4", "a mesh of 2 ranks, but --world is 4");
  refused(config + "--compare tp=2 fsdp=2 --fsdp 2", "--fsdp does not go with --compare");
  refused(config + "--compare tp=2 fsdp=2 --global-batch-size 3", "give a multiple");
  refused(config + "--world 8", "--search");
  refused(config + "--search --world 8 --verbose", "--verbose is for the plan of one mesh");
  refused(config + "--search --world 8 --tensor-parallel 2", "--tensor-parallel; leave it out");
  refused(config + "--search --world 3 --global-batch-size 7", "multiple of the ranks");
  refused(config + "--fsdp 2 --per-device-train-batch-size 2 --global-batch-size 7", "the nearest are 4 and 8");
  refused(config + "--search --world 2 --max-sequence", "leave one of them out");
  refused(config + "--search --world 2 --sequence-parallel off", "sp=off to --compare");
}

}  // namespace
}  // namespace llama_tp
