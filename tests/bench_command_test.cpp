// `llama_tp bench --compare`: its numbers agree with each other, with `plan` and between the schemes.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"
#include "support/xml.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

class BenchCommand : public testing::Test {
 protected:
  BenchCommand() { write_file(folder_ / "config.json", small_config().dump()); }

  std::string bench(const std::string& options) const {
    return "bench --steps 2 --config " + (folder_ / "config.json") + " " + options;
  }
  std::string run(int ranks, const std::string& options) const {
    const CommandResult result = run_command(llama_tp_with(ranks) + " " + bench(options));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }
  Json compared(int ranks, const std::string& options) const { return Json::parse(run(ranks, "--json " + options)); }

  ScratchFolder folder_;
};

const std::string four_schemes = "--compare tp=4 fsdp=4 tp=2,fsdp=2 dp=2,tp=2,sp=off --block-size 32";

TEST_F(BenchCommand, ARankThatDoesNotComeIsNamed) {
  const std::string pipe = folder_ / "pipe", options = " --train --timeout 2";  // nobody writes into it
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const CommandResult result =
      on_two("bench --config " + (folder_ / "config.json") + options, "bench --config " + pipe + options);
  EXPECT_FALSE(result.timed_out);
  ASSERT_EQ(result.errors().size(), 1u) << result.err;
  EXPECT_TRUE(holds(result.errors().front(), "waited 2 s in barrier ", " for rank 1 on "));
}

TEST_F(BenchCommand, MeasuresWhatWasPlannedToTheByte) {
  const Json all = compared(4, four_schemes);
  for (const Json& comparison : all["comparisons"])
    for (const Json& scheme : comparison["schemes"]) {
      SCOPED_TRACE(scheme["scheme"]);
      EXPECT_TRUE(scheme["as_planned"]);
      ASSERT_EQ(scheme["ranks"].size(), 4u);
      for (const Json& rank : scheme["ranks"]) {
        EXPECT_EQ(rank["categories"], rank["planned_categories"]);
        EXPECT_EQ(rank["communication"], rank["planned_communication"]);
        EXPECT_EQ(rank["peak_bytes"], rank["planned_bytes"]);
        EXPECT_EQ(rank["peak_bytes"], rank["reserved_bytes"]);
        int64_t sum = 0;
        for (const auto& [name, bytes] : rank["categories"].items()) sum += bytes.get<int64_t>();
        EXPECT_EQ(sum, rank["peak_bytes"]);
      }
    }
}

// `plan` without ranks says of each rank what that rank measured.
TEST_F(BenchCommand, MeasuresOnEveryRankWhatPlanSaysOfIt) {
  const std::vector<std::pair<std::string, std::string>> schemes{
      {"fsdp=4", "--fsdp 4"}, {"tp=2,fsdp=2", "--tensor-parallel 2 --fsdp 2"}, {"tp=4", "--tensor-parallel 4"}};
  std::string names;
  for (const auto& scheme : schemes) names += " " + scheme.first;
  const Json measured = compared(4, "--block-size 32 --compare" + names)["comparisons"][1]["schemes"];
  for (size_t i = 0; i < schemes.size(); i++) {
    const CommandResult plan =
        run_command(llama_tp_with(0) + " plan --json --block-size 32 --threads 1 --config " +
                    (folder_ / "config.json") + " --per-device-train-batch-size 1 " + schemes[i].second);
    const Json planned = Json::parse(plan.out);
    std::vector<Json> communication(4, Json::array());
    for (const Json& entry : planned["communication"])
      for (const Json& rank : entry["ranks"])
        communication[rank.get<size_t>()].push_back({{"group", entry["group"]},
                                                     {"collective", entry["collective"]},
                                                     {"calls", entry["calls"]},
                                                     {"bytes", entry["bytes"]}});
    for (const Json& entry : planned["ranks"])
      for (const Json& rank : entry["ranks"]) {
        SCOPED_TRACE(schemes[i].first + ", rank " + rank.dump());
        const Json& own = measured[i]["ranks"][rank.get<size_t>()];
        EXPECT_EQ(own["peak_bytes"], entry["peak_bytes"]);
        EXPECT_EQ(own["categories"], entry["categories"]);
        EXPECT_EQ(own["communication"], communication[rank.get<size_t>()]);
      }
  }
}

// The first run writes the model, the second one reads what is there.
TEST_F(BenchCommand, LoadsACheckpointBesidePlainReads) {
  const std::string model = folder_ / "model";
  std::filesystem::create_directory(model);
  for (int time = 0; time < 2; time++) {
    const std::string out = run(2, "--loading " + model);
    EXPECT_TRUE(holds(out, "loading     ", " a rank: into new memory ", "% of plain reads' ", "into the same again "));
    EXPECT_EQ(read_tensors(model + "/model.safetensors").size(), 21u);
  }
  expect_refused(2, bench("--loading " + model + "/none"), {"--loading", "make it first"});
  std::filesystem::create_directory(folder_ / "empty");
  const std::string hosts_own = "--loading ";
  expect_refusal(
      on_two(bench(hosts_own + model), bench(hosts_own + (folder_ / "empty"))),
      {"--loading " + (folder_ / "empty") + ": is empty, unlike that of rank 0 on ", "copy one to all hosts"}, false);
  const CommandResult no_model = run_command(llama_tp_with(0) + " " + bench("--loading docs"));
  EXPECT_EQ(no_model.out, "");  // nothing was measured
  EXPECT_TRUE(holds(no_model.err, "docs: holds no *.safetensors"));
}

TEST_F(BenchCommand, DividesTheWholeStepIntoPhases) {
  const Json all = compared(4, four_schemes)["comparisons"];
  ASSERT_EQ(all.size(), 2u);
  for (const Json& comparison : all)
    for (const Json& scheme : comparison["schemes"]) {
      double sum = 0;
      for (const auto& [name, phase] : scheme["phases"].items()) {
        EXPECT_GE(phase["compute_seconds"], 0);
        EXPECT_GE(phase["communication_seconds"], 0);
        sum += phase["compute_seconds"].get<double>() + phase["communication_seconds"].get<double>();
      }
      // A sum of some hundred spans in f64.
      EXPECT_NEAR(sum, scheme["step_seconds"], 1e-9);
      for (const char* phase : {"forward", "loss", "backward", "optimizer"})
        EXPECT_TRUE(scheme["phases"].contains(phase));
      EXPECT_NEAR(scheme["tokens_per_second"].get<double>() * scheme["step_seconds"].get<double>(),
                  32.0 * scheme["global_batch"].get<double>(), 1e-6);
    }
}

TEST_F(BenchCommand, ComparesTheSameWorkAndEachOnesLeast) {
  const Json all = compared(4, four_schemes + " --dtype float32")["comparisons"];
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["batch"], "equal global batch");
  const std::map<std::string, int> least{{"tp=4", 1}, {"fsdp=4", 4}, {"tp=2,fsdp=2", 2}, {"dp=2,tp=2,sp=off", 2}};
  for (size_t i = 0; i < 4; i++) {
    EXPECT_EQ(all[0]["schemes"][i]["global_batch"], 4);
    EXPECT_EQ(all[1]["schemes"][i]["global_batch"], least.at(all[1]["schemes"][i]["scheme"]));
    EXPECT_EQ(all[0]["schemes"][i]["micro_batch"], 1);
    EXPECT_EQ(all[0]["schemes"][i]["accumulation"], 4 / least.at(all[1]["schemes"][i]["scheme"]));
    // One batch, three steps: what rounding in f32 makes of the same mathematics (tests/support/golden_model.h).
    for (size_t step = 0; step < 3; step++)
      EXPECT_NEAR(all[0]["schemes"][i]["losses"][step], all[0]["schemes"][0]["losses"][step], 1e-4);
  }
  EXPECT_LT(all[0]["schemes"][0]["losses"][2], all[0]["schemes"][0]["losses"][0]);
  const Json six =
      compared(2, "--compare tp=2 fsdp=2 --block-size 2 --global-batch-size 6")["comparisons"][0]["schemes"][1];
  EXPECT_EQ(six["global_batch"], 6);
  // Of one target a sample, by random weights, for which all tokens are about as likely.
  EXPECT_NEAR(six["losses"][0], std::log(small_vocabulary), 1);
}

// One --global-batch-size is the same forwards of both commands.
TEST_F(BenchCommand, ComparesWhatPlanCompares) {
  const std::string schemes = "--compare tp=2 fsdp=2 fsdp=2,micro=2 --block-size 32 --global-batch-size 8";
  const CommandResult plan =
      run_command(llama_tp_with(0) + " plan --json --threads 1 --config " + (folder_ / "config.json") + " " + schemes);
  const Json planned = Json::parse(plan.out)["schemes"], measured = compared(2, schemes)["comparisons"];
  for (size_t i = 0; i < 3; i++) {
    const Json &own = planned[i], &equal = measured[0]["schemes"][i];
    SCOPED_TRACE(own["scheme"]);
    EXPECT_EQ(own["micro_batch"], equal["micro_batch"]);
    EXPECT_EQ(own["equal"]["accumulation"], equal["accumulation"]);
    int64_t peak = 0;
    std::map<std::string, double> sent;
    for (const Json& rank : equal["ranks"]) {
      peak = std::max<int64_t>(peak, rank["peak_bytes"]);
      std::map<std::string, double> of_rank;
      // In a ring of two half of a payload goes out once, in an all-reduce twice.
      for (const Json& entry : rank["communication"])
        of_rank[entry["group"]] += entry["bytes"].get<double>() * (entry["collective"] == "all_reduce" ? 1 : 0.5);
      for (const auto& [group, bytes] : of_rank) sent[group] = std::max(sent[group], bytes);
    }
    EXPECT_EQ(own["peak_bytes"], peak);
    for (const auto& [group, bytes] : own["equal"]["sent_bytes"].items()) EXPECT_EQ(bytes, sent[group]) << group;
  }
}

// 4 M tokens of 32 wide layers, a megabyte and more each, are more than any machine has.
TEST_F(BenchCommand, SaysWhatDoesNotFitBeforeItMeasures) {
  write_file(folder_ / "config.json", small_config({{"num_hidden_layers", 32}, {"intermediate_size", 8192}}).dump());
  const std::string fits_no_more = "does not fit with 1 x 4194304 tokens of a forward: rank ",
                    growing = "--compare tp=2 fsdp=2 --block-size 16 --sweep block-size=8,4194304 ";
  const Json all = Json::parse(run(2, "--json " + growing + "--report-svg " + (folder_ / "")));
  for (const size_t comparison : {2u, 3u})
    for (const Json& scheme : all["growth"][comparison]["schemes"]) {
      EXPECT_FALSE(scheme["fits"]);
      EXPECT_FALSE(scheme.contains("ranks"));
    }
  EXPECT_TRUE(all["growth"][0]["schemes"][1]["fits"]);
  ASSERT_EQ(all["unfit"].size(), 2u);
  EXPECT_TRUE(holds(all["unfit"][1].get<std::string>(), "fsdp=2 " + fits_no_more, " needs ", " are free"));
  EXPECT_NO_THROW(parse_xml(whole_file(folder_ / "growth_time_smallest.svg")));
  const std::string out = run(2, growing);
  EXPECT_TRUE(holds(out, "  4194304 tokens, peak MiB a rank                does not fit       does not fit\n",
                    "\ntp=2 " + fits_no_more, "\nfsdp=2 " + fits_no_more))
      << out;
  const CommandResult none = run_command(llama_tp_with(2) + " " + bench("--compare tp=2 fsdp=2 --block-size 4194304"));
  EXPECT_EQ(none.status, 1);
  EXPECT_EQ(none.out, "");
  EXPECT_TRUE(holds(none.err, "--compare tp=2 " + fits_no_more, "no other scheme fits", "a shorter --block-size"))
      << none.err;
}

TEST_F(BenchCommand, SaysWhereTensorParallelismWinsFromItsNumbers) {
  const std::string said = compared(2, "--compare fsdp=2 tp=2 --block-size 64")["verdict"];
  const size_t even = said.find(" It does not win in ");
  ASSERT_NE(even, std::string::npos) << said;
  const std::string wins = said.substr(0, even), rest = said.substr(even);
  EXPECT_TRUE(holds(wins, "tp=2 wins against fsdp=2 in activations kept at the smallest batch (",
                    "gathered weights and unsharded gradients (0.00 against ",
                    "the smallest batch (1 against 2 sequences)"));
  EXPECT_TRUE(holds(rest, "state (", "MiB a rank)", ": even")) << rest;
  EXPECT_TRUE(
      holds(std::string(compared(2, "--compare fsdp=2 dp=2 --block-size 8")["verdict"]), "compare a pure tp scheme"));
}

TEST_F(BenchCommand, PrintsTheTablesAndTheGrowth) {
  const std::string out = run(2, "--compare tp=2 fsdp=2 --block-size 32 --sweep block_size=64,16");
  EXPECT_TRUE(holds(out, "forwards x sequences of a rank                          2 x 1              1 x 1"));
  EXPECT_TRUE(holds(out, "equal global batch ", "smallest batch ", "to the byte        to the byte",
                    "tokens/s, all ranks", "tensor: reduce_scatter", "fsdp: all_gather",
                    "growth with context, equal global batch", "  16 tokens, peak MiB a rank",
                    "  64 tokens, ms a step"));
  EXPECT_EQ(out.find(" NO"), std::string::npos);
  EXPECT_LT(out.find("  16 tokens"), out.find("  64 tokens"));
  const Json growth = compared(2, "--compare tp=2 --block-size 32 --sweep block-size=16,64")["growth"];
  ASSERT_EQ(growth.size(), 4u);
  EXPECT_GT(growth[3]["schemes"][0]["ranks"][0]["peak_bytes"], growth[1]["schemes"][0]["ranks"][0]["peak_bytes"]);
}

TEST_F(BenchCommand, LeavesAPageItsPicturesAndATrace) {
  const Json all = Json::parse(
      run(2, "--json --compare tp=2 fsdp=2 --block-size 32 --sweep block-size=16,32 --report " + (folder_ / "a.html") +
                 " --report-svg " + (folder_ / "") + " --trace " + (folder_ / "a.json")));
  const std::string page = whole_file(folder_ / "a.html");
  std::vector<XmlElement> elements;
  ASSERT_NO_THROW(elements = parse_xml(page));
  size_t figures = 0;
  for (const XmlElement& element : elements) {
    if (element.name != "figure") continue;
    const std::string svg = whole_file(folder_ / (element.attributes.at("id") + ".svg"));
    ASSERT_NO_THROW(parse_xml(svg));
    EXPECT_NE(page.find(svg), std::string::npos);
    figures++;
  }
  EXPECT_EQ(figures, 9u);  // peaks, memory, two steps, four of growth, loss

  // Every collective that was counted has its event, inside of its rank's phases, which follow each other to the end.
  const Json trace = Json::parse(whole_file(folder_ / "a.json"))["traceEvents"];
  std::map<int, std::map<std::string, int64_t>> calls, bytes;  // process → collective
  std::map<int, double> end;
  std::map<std::pair<int, int>, std::string> tracks;
  for (const Json& event : trace)
    if (event["name"] == "thread_name") tracks[{event["pid"], event["tid"]}] = event["args"]["name"];
  for (const Json& event : trace) {
    if (event["ph"] != "X") continue;
    const int process = event["pid"];
    const double begin = event["ts"], length = event["dur"];
    ASSERT_GE(length, 0);
    if (tracks.at({process, event["tid"]}) == "phases") {
      EXPECT_NEAR(begin, end[process], 1e-6);
      end[process] = begin + length;
    } else if (event["name"] != "wait") {
      const std::string name = tracks.at({process, event["tid"]}) + ": " + std::string(event["name"]);
      calls[process][name]++;
      bytes[process][name] += event["args"]["bytes"].get<int64_t>();
      EXPECT_LE(begin + length, end[process] + 1e-6);
    }
  }
  for (int process = 0; process < 4; process++) {
    const Json& scheme = all["comparisons"][0]["schemes"][static_cast<size_t>(process / 2)];
    std::map<std::string, int64_t> counted, sent;
    for (const Json& entry : scheme["ranks"][static_cast<size_t>(process % 2)]["communication"]) {
      const std::string name = std::string(entry["group"]) + ": " + std::string(entry["collective"]);
      counted[name] = entry["calls"];
      sent[name] = entry["bytes"];
    }
    EXPECT_EQ(calls[process], counted);
    EXPECT_EQ(bytes[process], sent);
  }
  int64_t most = 0;
  for (const Json& event : trace)
    if (event["ph"] == "C" && event["pid"] == 0) most = std::max(most, event["args"]["bytes"].get<int64_t>());
  EXPECT_EQ(most, all["comparisons"][0]["schemes"][0]["ranks"][0]["peak_bytes"]);
}

TEST_F(BenchCommand, MeasuresOperationsAndCollectives) {
  const std::string out = run(2, "--kernels --collectives --block-size 32");
  EXPECT_TRUE(holds(out, "machine     reads ", "attention, backward", "AdamW", "% of bytes/s",
                    "collectives of 2 tensor-parallel ranks", "4,194,304"));
  EXPECT_FALSE(holds(out, "training"));
  const std::string usual = run(0,
                                "--block-size 32 --prompt-tokens 8 --n-predict 2 --per-device-train-batch-size 1"
                                " --gradient-accumulation-steps 3");
  EXPECT_TRUE(holds(usual, "training    ", "3 × 32 tokens", "prompt      ", "generation  "));
}

// Norms of heads are Qwen3's alone.
TEST_F(BenchCommand, MeasuresTheOperationsThatTheModelHas) {
  for (const std::string type : {"llama", "qwen3"}) {
    write_file(folder_ / "config.json", small_config({{"model_type", type}, {"head_dim", 4}}).dump());
    const std::string out = run(2, "--kernels --block-size 32");
    EXPECT_TRUE(holds(out, "embedding, forward  ", "embedding, backward  ",
                      "product, backward of the input (q, k, v)  ", "product, backward of the weight (head)  ",
                      "norm again, in backward  "))
        << out;
    EXPECT_EQ(holds(out, "norms of heads, forward  ", "norms of heads, backward  "), type == "qwen3") << out;
  }
}

// A plain feed-forward has no gate, and half the work in its first product. Of 8 heads, 4 of keys, q, k and v are twice
// as many rows as o has.
TEST_F(BenchCommand, MeasuresTheProductsThatTheModelHas) {
  const auto work_of = [&](const std::string& product, const Json& changes) {
    write_file(folder_ / "config.json", small_config(changes).dump());
    const std::string out = run(0, "--kernels --block-size 512");
    const size_t at = out.find(product + " ");
    if (at == std::string::npos) return ADD_FAILURE() << out, 0.0;
    std::istringstream rest(out.substr(at + product.size()));
    double microseconds = 0, rate = 0;
    rest >> microseconds >> rate;
    return microseconds * rate;
  };
  const double gated = work_of("product, forward (gate and up)", Json::object()),
               plain = work_of("product, forward (up)", {{"model_type", "nemotron"}}),
               down = work_of("product, forward (down)", Json::object()),
               qkv = work_of("product, forward (q, k, v)", Json::object()),
               o = work_of("product, forward (o)", Json::object());
  for (const double ratio : {gated / plain, gated / down, qkv / o})
    EXPECT_NEAR(ratio, 2, 0.05);  // all are printed with a digit behind the point, some tens of each
}

// What the plan replicates is whole on every rank, however few heads there are; norms see a rank's part of the tokens,
// the loss as many as the head takes of the backend at a time (2 × 513 tokens, two that fill them up; 32 MiB of logits on the CPU).
TEST_F(BenchCommand, MeasuresOperationsInTheShapesOfTheRank) {
  const Json whole_attention{{"layers.*.self_attn.q_proj", "replicated"},
                             {"layers.*.self_attn.k_proj", "replicated"},
                             {"layers.*.self_attn.v_proj", "replicated"},
                             {"layers.*.self_attn.o_proj", "replicated"}};
  write_file(
      folder_ / "config.json",
      small_config(
          {{"num_attention_heads", 2}, {"num_key_value_heads", 2}, {"vocab_size", 32000}, {"tp_plan", whole_attention}})
          .dump());
  const std::string of_four = run(4, "--kernels --block-size 513"),
                    undivided = run(2, "--kernels --block-size 513 --sequence-parallel off --dtype float32");
  EXPECT_TRUE(holds(of_four,
                    "each as one of 4 tensor-parallel ranks: 2 of 2 heads, 2 of 2 of keys, 16 of 64 columns of the "
                    "feed-forward, 8000 of 32000 logits; 1,028 tokens, norms of 257, the loss of 1,024\n"))
      << of_four;
  EXPECT_TRUE(holds(undivided,
                    "2 of 2 heads, 2 of 2 of keys, 32 of 64 columns of the feed-forward, 16000 of 32000 logits; "
                    "1,026 tokens, norms of 1,026, the loss of 512\n"))
      << undivided;
}

TEST_F(BenchCommand, RefusesAMeshBeforeItMeasuresAnything) {
  for (const auto& [ranks, options] :
       {std::pair{2, "--tensor-parallel 3"}, std::pair{0, "--rehearse rank=1,world=8 --tensor-parallel 3"}}) {
    const CommandResult run = run_command(llama_tp_with(ranks) + " " + bench(options));
    EXPECT_NE(run.status, 0);
    EXPECT_NE(run.err.find("--tensor-parallel 3 does not divide"), std::string::npos) << run.err;
    EXPECT_EQ(run.out.find("machine"), std::string::npos) << run.out;
  }
}

// Products of sizes that nobody can have would not be numbers any more.
TEST_F(BenchCommand, RefusesSizesBeyondAnyMemory) {
  const std::string most = std::to_string(INT64_MAX), rehearsed = "--rehearse rank=0,world=2 ";
  for (const char* option : {"--block-size ", "--per-device-train-batch-size ", "--prompt-tokens ", "--n-predict "})
    expect_refused(0, bench(option + most), {option + most, "must be 4194304 or less"});
  expect_refused(0, bench("--sequences " + most), {"must be 4096 or less"});
  expect_refused(0, bench(rehearsed + "--block-size " + most), {"must be 4194304 or less"});
  expect_refused(0, bench(rehearsed + "--block-size 4194304"),
                 {"2 × --block-size 4194304 is more than 4194304 tokens"});
  expect_refused(0, bench("--sequences 9 --prompt-tokens 524288"), {"is more than 4194304 tokens of a forward"});
}

TEST_F(BenchCommand, RefusesWhatItCannotCompare) {
  const auto refuse = [&](const std::string& options, const Words& words) { expect_refused(2, bench(options), words); };
  refuse("--compare tp=3", {"--compare tp=3", "a mesh of 3 ranks, but mpirun started 2", "must be 2"});
  refuse("--compare tp=2,foo=1",
         {"\"foo\" is no key; there are tp, fsdp, dp, micro, sp, recompute, prefetch and reshard"});
  refuse("--compare tp=2,tp=1", {"tp is given twice"});
  refuse("--compare tp=2 tp=2", {"--compare tp=2: is given twice"});
  refuse("--compare tp", {"\"tp\" has no value; write it like tp=4"});
  refuse("--compare tp=two", {"tp is \"two\"; give a number of ranks"});
  refuse("--compare tp=2,sp=maybe", {"sp is \"maybe\"; it can be on or off"});
  refuse("--compare ''", {"--compare is empty; give meshes like tp=4 fsdp=4"});
  refuse("--compare fsdp=2 --global-batch-size 3", {"--global-batch-size 3 cannot be divided among the 2 ranks"});
  refuse("--compare fsdp=2,micro=2 --global-batch-size 6", {"in forwards of 2; give a multiple of 4"});
  refuse("--compare tp=2,micro=0", {"micro is \"0\"; give samples of a forward, from 1 to 1024"});
  refuse("--compare tp=2 fsdp=2,micro=1024 --block-size 8192",
         {"--compare fsdp=2,micro=1024: 1024 × 8192 tokens are more than 4194304 of a forward"});
  refuse("--compare tp=2,micro=2 --sweep block-size=8,4194304", {"2 × 4194304 tokens are more than"});
  refuse("--compare tp=2,micro=1021 tp=2,micro=1019,sp=off tp=2,micro=1013,recompute=on tp=2,micro=1009,prefetch=off",
         {"samples can be divided among all schemes"});
  refuse("--compare tp=2 --sweep steps=3", {"--sweep steps=3: only block-size can be swept"});
  refuse("--compare tp=2 --sweep block-size=8,x", {"\"x\" is no number of tokens"});
  refuse("--sweep block-size=8", {"--sweep belongs to --compare"});
  refuse("--compare tp=2 --train", {"--train does not go with --compare"});
  refuse("--compare tp=2 --report /nowhere/a.html", {"--report /nowhere/a.html: there is no folder /nowhere"});
  refuse("--compare tp=2 --report-svg /nowhere", {"--report-svg /nowhere is no folder"});
}

}  // namespace
}  // namespace llama_tp
