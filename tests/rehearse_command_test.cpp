// `llama_tp bench --rehearse`: one rank of a larger mesh, alone, holds and counts what the same rank does among the
// others.
#include <gtest/gtest.h>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/refusal.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

// Large enough for the system's account: 150 MB a rank of four.
const char* const config_text =
    R"({"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8,
        "num_key_value_heads": 4, "intermediate_size": 1408, "vocab_size": 16000})";

class RehearseCommand : public testing::Test {
 protected:
  RehearseCommand() { write_file(folder_ / "config.json", config_text); }

  std::string bench(const std::string& options) const {
    return "bench --steps 1 --block-size 64 --config " + (folder_ / "config.json") + " " + options;
  }
  Json run(int ranks, const std::string& options) const {
    const CommandResult result = run_command(llama_tp_with(ranks) + " " + bench("--json " + options));
    EXPECT_EQ(result.status, 0) << result.err;
    return Json::parse(result.out);
  }
  Json rehearsed(int rank, const std::string& mesh) const {
    return run(0, text("--per-device-train-batch-size 1 --rehearse rank=", rank, ",world=4 ", mesh));
  }

  ScratchFolder folder_;
};

struct RehearsedMesh {
  const char *scheme, *options;
};
constexpr RehearsedMesh meshes[] = {{"tp=4", "--tensor-parallel 4"},
                                    {"fsdp=4", "--tensor-parallel 1 --fsdp 4"},
                                    {"tp=2,fsdp=2", "--tensor-parallel 2 --fsdp 2"}};

TEST_F(RehearseCommand, HoldsAndCountsWhatTheRankOfARealMeshDoes) {
  const Json all = run(4, "--compare tp=4 fsdp=4 tp=2,fsdp=2")["comparisons"][1]["schemes"];  // the smallest batch
  for (size_t i = 0; i < all.size(); i++)
    for (const int rank : {0, 3}) {
      SCOPED_TRACE(text("rank ", rank, " of ", meshes[i].scheme));
      ASSERT_EQ(all[i]["scheme"], meshes[i].scheme);
      const Json one = rehearsed(rank, meshes[i].options), &own = one["ranks"][0],
                 &real = all[i]["ranks"][static_cast<size_t>(rank)];
      ASSERT_EQ(one["ranks"].size(), 1u);
      EXPECT_TRUE(one["as_planned"]);
      EXPECT_EQ(one["global_batch"], all[i]["global_batch"]);
      EXPECT_EQ(own["peak_bytes"], own["planned_bytes"]);
      EXPECT_EQ(own["peak_bytes"], own["reserved_bytes"]);
      EXPECT_EQ(own["peak_bytes"], real["peak_bytes"]);
      EXPECT_EQ(own["categories"], real["categories"]);
      EXPECT_EQ(own["communication"], real["communication"]);
    }
}

// tests/resident_ranks_test.cpp has the reasons for 3%.
TEST_F(RehearseCommand, IsGivenByTheSystemWhatTheLedgerSays) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer's shadow memory grows with ours";
#endif
  for (const RehearsedMesh& mesh : meshes) {
    const Json own = rehearsed(1, mesh.options)["ranks"][0];
    const double peak = own["peak_bytes"];
    EXPECT_NEAR(own["given_bytes"].get<double>(), peak, 0.03 * peak) << mesh.scheme;
  }
}

// The samples of a step of all ranks would be 137 GB.
#if !defined(__SANITIZE_ADDRESS__)  // its shadow memory alone is more than the limit
TEST_F(RehearseCommand, TakesNoMemoryForWhatOtherRanksAreFed) {
  const std::string config = folder_ / "tiny.json";
  write_file(config, R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
                         "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512})");
  const CommandResult result = run_command("ulimit -v 4000000; " + llama_tp_with(0) +
                                           " bench --backend cpu --steps 1 --block-size 64 --config " + config +
                                           " --rehearse rank=1048575,world=1048576 --tensor-parallel 1 --json " +
                                           "--per-device-train-batch-size 1 --gradient-accumulation-steps 512");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(Json::parse(result.out)["global_batch"], int64_t{512} << 20);
}
#endif

TEST_F(RehearseCommand, PrintsOneTableAndSaysThatLossesMeanNothing) {
  const CommandResult result =
      run_command(llama_tp_with(0) + " " + bench("--rehearse rank=5,world=8 --tensor-parallel 4 --fsdp 2"));
  EXPECT_EQ(result.status, 0) << result.err;
  for (const char* words :
       {"rank 5 of tp=4,fsdp=2,dp=1, alone", "losses mean nothing", "given by the system", "to the byte", "stand-ins",
        "not sent in a step", "tensor: all_gather", "fsdp: reduce_scatter"})
    EXPECT_NE(result.out.find(words), std::string::npos) << words << "\n" << result.out;
}

TEST_F(RehearseCommand, RefusesWhatIsNoRankOfAMesh) {
  const auto refuse = [&](const std::string& options, const Words& words) { expect_refused(0, bench(options), words); };
  refuse("--rehearse rank=8,world=8", {"--rehearse rank=8,world=8", "rank 8 is not one of 8", "0 to 7"});
  refuse("--rehearse world=8", {"--rehearse world=8", "no rank", "rank=0,world=8"});
  refuse("--rehearse rank=0,world=0", {"world=0", "1 to "});
  refuse("--rehearse rank=0,world=1e9", {"is no world"});
  refuse("--rehearse rank=0,world=1048577", {"world=1048577", "1 to 1048576 ranks"});
  refuse("--rehearse rank=0,world=8 --tensor-parallel 3", {"--tensor-parallel 3", "8 ranks that --rehearse names"});
  refuse("--rehearse rank=0,world=8 --tensor-parallel 2 --fsdp 2 --data-parallel 1",
         {"a mesh of 4 ranks", "--rehearse names 8"});
  refuse("--rehearse rank=0,world=3 --tensor-parallel 3", {"num_attention_heads", "3"});
  refuse("--rehearse rank=0,world=2 --generate", {"--generate", "--rehearse", "leave one"});
  refuse("--rehearse rank=0,world=2 --loading " + folder_.path(), {"--loading", "--rehearse", "leave one"});
  refuse("--rehearse rank=0,world=2 --compare tp=2", {"--compare", "--rehearse", "leave one"});
  expect_refused(2, bench("--rehearse rank=0,world=2"), {"mpirun started 2", "start it as one"});
}

}  // namespace
}  // namespace llama_tp
