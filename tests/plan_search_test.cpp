// `llama_tp plan --search` and `--compare`: what they list and set side by side is what the plan of each mesh says.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>

#include "report/format.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/planned.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

// What --search lists is what a plan of that mesh says, and what it leaves out does not fit.
TEST(Plan, SearchFindsTheMeshesThatFitFastestFirst) {
  const std::string shared =
      "--config llama-3.2-1b --block-size 8192 --memory 24GiB --device h100 --global-batch-size 4 ";
  const Json found = planned(shared + "--search --world 4");
  const Json& fitting = found["fitting"];
  ASSERT_GT(fitting.size(), 3u);
  ASSERT_GT(found["tried"], fitting.size());  // some do not fit
  std::set<std::string> listed;
  for (size_t i = 0; i < fitting.size(); i++) {
    const Json& one = fitting[i];
    EXPECT_LE(one["tokens_per_second"], fitting[i == 0 ? 0 : i - 1]["tokens_per_second"]);
    const std::string mesh =
        text("--data-parallel ", one["data_parallel"].dump(), " --fsdp ", one["fsdp"].dump(), " --tensor-parallel ",
             one["tensor_parallel"].dump(), " --per-device-train-batch-size ", one["micro_batch"].dump(),
             one["gradient_checkpointing"] ? " --gradient-checkpointing" : "");
    listed.insert(mesh);
    const Json plan = planned(shared + mesh);
    EXPECT_TRUE(plan["fits"]) << mesh;
    EXPECT_EQ(plan["estimate"]["tokens_per_second"], one["tokens_per_second"]) << mesh;
    int64_t peak = 0;
    for (const Json& rank : plan["ranks"]) peak = std::max<int64_t>(peak, rank["peak_bytes"]);
    EXPECT_EQ(one["peak_bytes"], peak) << mesh;
  }
  for (const char* mesh :
       {"--data-parallel 4 --fsdp 1 --tensor-parallel 1", "--data-parallel 1 --fsdp 2 --tensor-parallel 2",
        "--data-parallel 1 --fsdp 4 --tensor-parallel 1", "--data-parallel 1 --fsdp 1 --tensor-parallel 4"})
    for (const char* recompute : {"", " --gradient-checkpointing"}) {
      const std::string setting = std::string(mesh) + " --per-device-train-batch-size 1" + recompute;
      EXPECT_EQ(planned(shared + setting)["fits"], listed.contains(setting)) << setting;
    }
}

// Also that which has none among the twenty fastest settings.
TEST(Plan, SearchShowsEveryMeshThatFits) {
  const std::string options = "--config llama-3.1-8b --search --world 16 --device h100 --block-size 4096 ";
  using Mesh = std::array<int, 3>;
  std::set<Mesh> fitting, fastest_twenty;
  std::map<Mesh, std::string> best;
  const Json found = planned(options)["fitting"];
  for (size_t i = 0; i < found.size(); i++) {
    const Json& one = found[i];
    const Mesh mesh{one["data_parallel"], one["fsdp"], one["tensor_parallel"]};
    if (fitting.insert(mesh).second)
      best[mesh] = text(one["micro_batch"].dump(), " ", one["accumulation"].dump(),
                        one["gradient_checkpointing"] ? " yes" : " no");
    if (i < 20) fastest_twenty.insert(mesh);
  }
  ASSERT_LT(fastest_twenty.size(), fitting.size());
  std::istringstream table(run_command(llama_tp_with(0) + " plan " + options).out);
  std::set<Mesh> shown;
  std::vector<double> seconds;
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    Mesh mesh;
    std::string micro, times, recompute;
    double state, gathered, activations, peak, step;
    if (!(words >> mesh[0] >> mesh[1] >> mesh[2] >> micro >> times >> recompute)) continue;
    ASSERT_TRUE(words >> state >> gathered >> activations >> peak >> step) << line;
    if (shown.insert(mesh).second) {
      EXPECT_EQ(text(micro, " ", times, " ", recompute), best[mesh]) << line;
    }
    seconds.push_back(step);
  }
  EXPECT_EQ(shown, fitting);
  EXPECT_EQ(seconds.size(), 20u);
  EXPECT_TRUE(std::is_sorted(seconds.begin(), seconds.end()));
}

TEST(Plan, SearchTriesEveryMicroBatchThatDividesTheStep) {
  const Json found =
      planned("--config data/demo/config.json --block-size 64 --search --world 2 --global-batch-size 24 --memory 80GB");
  std::set<int64_t> tried;
  for (const Json& one : found["fitting"])
    if (one["fsdp"] == 2 && !one["gradient_checkpointing"]) tried.insert(one["micro_batch"].get<int64_t>());
  EXPECT_EQ(tried, (std::set<int64_t>{1, 2, 3, 4, 6, 12}));
}

// Each column of --compare is what a plan of that mesh says; the sentences below are the table's differences.
TEST(Plan, ComparedSchemesAreThosePlannedAlone) {
  const std::string shared = "--config llama-3.2-1b --threads 2 --memory 20GB ";
  const std::string schemes = shared + "--block-size 2048 --compare fsdp=4 tp=4,sp=off tp=2,fsdp=2 --device h100 ";
  const std::vector<std::string> alone{"--fsdp 4", "--tensor-parallel 4 --sequence-parallel off",
                                       "--tensor-parallel 2 --fsdp 2"};
  const Json compared = planned(schemes);
  ASSERT_EQ(compared["schemes"].size(), alone.size());
  EXPECT_EQ(compared["global_batch"], 4);
  for (size_t i = 0; i < alone.size(); i++) {
    const Json& scheme = compared["schemes"][i];
    const std::string one = shared + alone[i] + " --per-device-train-batch-size 1 --device h100 ";
    const Json plan = planned(one + "--block-size 2048")["ranks"][0];
    EXPECT_EQ(scheme["peak_bytes"], plan["peak_bytes"]);
    for (const auto& [name, bytes] : plan["categories"].items()) EXPECT_EQ(scheme["categories"][name], bytes) << name;
    EXPECT_EQ(scheme["fits"], plan["peak_bytes"] <= 20'000'000'000);
    const Json estimate = planned(one + "--block-size 2048")["estimate"];
    EXPECT_EQ(scheme["smallest"]["step_seconds"], estimate["step_seconds"]);
    EXPECT_EQ(scheme["smallest"]["exposed_seconds"], estimate["exposed_seconds"]);
    EXPECT_EQ(scheme["longest_block_size"], planned(one + "--max-sequence")["block_size"]);
    EXPECT_GE(scheme["equal"]["step_seconds"], scheme["smallest"]["step_seconds"]);
    // Four samples in one forward of the mesh, however many ranks have data of their own.
    const int data = i == 0 ? 4 : i == 1 ? 1 : 2;
    const Json level = planned(shared + alone[i] + " --device h100 --block-size 2048 --per-device-train-batch-size " +
                               std::to_string(4 / data))["ranks"][0];
    EXPECT_EQ(scheme["in_flight"]["samples"], 4);
    EXPECT_EQ(scheme["in_flight"]["peak_bytes"], level["peak_bytes"]);
    EXPECT_EQ(scheme["in_flight"]["groups"]["logits and loss"], level["categories"].value("logits", int64_t{0}));
  }
  const CommandResult table = run_command(llama_tp_with(0) + " plan " + schemes);
  EXPECT_NE(table.out.find("fsdp=4 needs "), std::string::npos) << table.out;
  EXPECT_NE(table.out.find(", with 4 samples in flight against 1; at 4 each, activations are "), std::string::npos)
      << table.out;
  // Nothing to set level where all have as many.
  const std::string alike = shared + "--block-size 2048 --compare tp=4,sp=off tp=4 ";
  EXPECT_FALSE(planned(alike)["schemes"][0].contains("in_flight"));
  EXPECT_EQ(run_command(llama_tp_with(0) + " plan " + alike).out.find("in flight"), std::string::npos);
}

// micro= is --per-device-train-batch-size, and the rest of a step's samples are forwards.
TEST(Plan, AComparedSchemeHasForwardsOfItsOwnSize) {
  const std::string shared = "--config llama-3.2-1b --threads 2 --block-size 2048 ";
  const std::string schemes =
      shared + "--memory 40GB --compare tp=4,micro=4 fsdp=4 fsdp=4,micro=2 --global-batch-size 16";
  const Json compared = planned(schemes)["schemes"];
  const std::vector<std::pair<std::string, int>> alone{{"--tensor-parallel 4 --per-device-train-batch-size 4", 4},
                                                       {"--fsdp 4 --per-device-train-batch-size 1", 4},
                                                       {"--fsdp 4 --per-device-train-batch-size 2", 2}};
  for (size_t i = 0; i < alone.size(); i++) {
    const Json plan = planned(shared + alone[i].first + " --global-batch-size 16");
    EXPECT_EQ(compared[i]["peak_bytes"], plan["ranks"][0]["peak_bytes"]) << i;
    EXPECT_EQ(compared[i]["equal"]["accumulation"], alone[i].second) << i;
    EXPECT_EQ(plan["accumulation"], alone[i].second) << i;
  }
  const std::string longest = "--config llama-3.2-1b --threads 2 --memory 40GB --max-sequence ";
  EXPECT_EQ(compared[2]["longest_block_size"], planned(longest + alone[2].first)["block_size"]);
  const std::string table = run_command(llama_tp_with(0) + " plan " + schemes).out;
  const auto row = [](std::string label, const std::vector<std::string>& values) {
    label.resize(46, ' ');
    for (const std::string& value : values) label += padded(value, 16);
    return label + "\n";
  };
  EXPECT_TRUE(holds(table, row("  samples of a forward of a rank", {"4", "1", "2"}),
                    row("  forwards x samples of a rank", {"4 x 4", "4 x 1", "2 x 2"})))
      << table;
}

}  // namespace
}  // namespace llama_tp
