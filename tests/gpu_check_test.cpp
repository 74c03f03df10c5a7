// scripts/gpu_check on a machine where everything goes wrong: whatever happens to a stage, there is a report that says
// what. Of the bundle that it runs in only the scripts are real.
#include <gtest/gtest.h>

#include <filesystem>

#include "fake_program.h"
#include "scratch_folder.h"
#include "support/command.h"

namespace llama_tp {
namespace {

class GpuCheck : public testing::Test {
 protected:
  GpuCheck() {
    for (const char* folder : {"bin", "tools", "data/configs", "data/devices"})
      std::filesystem::create_directories(folder_ / folder);
    std::filesystem::create_directories(folder_ / "scripts/lib");
    for (const char* script :
         {"gpu_check", "lib/say.sh", "lib/gpu_stages.sh", "lib/gpu_sanitizer.sh", "lib/gvisor.sh", "lib/torch_peer.py"})
      std::filesystem::copy_file(std::string("scripts/") + script, folder_ / ("scripts/" + std::string(script)));
    for (const char* config : {"llama-3.1-8b", "bench-134m"})
      write_file(folder_ / ("data/configs/" + std::string(config) + ".json"), "{\"num_hidden_layers\": 1}");
    add_program("tools/nvidia-smi", "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'");
    add_program("tools/compute-sanitizer", "exit 3");
    add_program("tools/python3", "exit 1");
    add_program("tools/df", "echo '    1024  1024'");  // of /dev/shm
    add_program("tools/mount", "exit 32");
    for (const char* program : {"bin/mpirun", "mpirun", "on_device"}) add_program(program, "exit 1");
  }

  void add_program(const std::string& name, const std::string& script) {
    llama_tp::add_program(folder_ / name, script);
  }
  CommandResult run(const std::string& how) const {
    return run_command("cd " + (folder_ / "") + " && PATH=$PWD/tools:$PATH " + how);
  }
  std::string report() const { return whole_file(folder_ / "out/gpu_check/report.md"); }

  // The line of the report's table that is a stage's.
  static std::string row(const std::string& report, const std::string& stage) {
    const size_t begin = report.find("| " + stage + " | ");
    return begin == std::string::npos ? "" : report.substr(begin, report.find('\n', begin) - begin);
  }

  ScratchFolder folder_;
};

TEST_F(GpuCheck, EveryStageIsReportedWhenTheProgramFails) {
  add_program("llama_tp", "echo 'llama_tp: cuda: device 0: no luck' >&2; exit 1");
  EXPECT_EQ(run("scripts/gpu_check").status, 1);
  const std::string all = report();
  for (const char* stage : {"machine", "operations", "run", "kernels", "training", "products", "rehearsal", "decode",
                            "ranks", "parts", "memcheck", "racecheck", "synccheck"})
    EXPECT_NE(all.find(std::string("| ") + stage + " | **failed** |"), std::string::npos) << stage << "\n" << all;
  EXPECT_NE(all.find("| peer | skipped | "), std::string::npos) << all;
  EXPECT_NE(all.find("exit status 1: llama_tp: cuda: device 0: no luck"), std::string::npos) << all;
}

TEST_F(GpuCheck, AStagesReasonIsNotThatOfTheStageBefore) {
  add_program("llama_tp", "case \" $* \" in *' --rehearse '*) echo 'llama_tp: no luck' >&2; exit 1 ;; esac; exit 7");
  run("scripts/gpu_check");
  const std::string all = report();
  EXPECT_NE(row(all, "rehearsal").find("exit status 1: llama_tp: no luck"), std::string::npos) << all;
  EXPECT_EQ(row(all, "decode").find("no luck"), std::string::npos) << all;
}

// Evaluation fails, and behind it comes what holds; of decode only the second setting fails.
TEST_F(GpuCheck, TheReasonIsWhatFailedThoughSuccessesCameBehindIt) {
  add_program("llama_tp", R"(case "$1 $LLAMA_TP_TOKENS_AHEAD" in
    'eval '*) echo 'llama_tp: no eval' >&2; exit 1 ;;
    'bench 0') echo 'llama_tp: no bench' >&2; exit 1 ;;
    *) echo 'cuda: 123 tokens' ;;
    esac)");
  run("scripts/gpu_check");
  const std::string all = report();
  EXPECT_NE(all.find("one text, and four at once: the same bits"), std::string::npos) << all;
  EXPECT_NE(row(all, "run").find("exit status 1: llama_tp: no eval"), std::string::npos) << all;
  EXPECT_NE(row(all, "decode").find("exit status 1: llama_tp: no bench"), std::string::npos) << all;
}

// A program whose training has these losses on either backend.
std::string with_losses(const std::string& cuda, const std::string& cpu) {
  return R"([ "$1" = train ] || exec echo 'cuda: 1 token'
    folder=$(grep -oE -- '--output-dir [^ ]+' <<< "$*" | cut -d ' ' -f 2)
    case " $* " in *' --backend cpu '*) loss=)" +
         cpu + " ;; *) loss=" + cuda + R"( ;; esac
    mkdir -p "$folder"
    for step in {1..20}; do echo "{\"step\":$step,\"loss\":$loss}"; done > "$folder/metrics.jsonl")";
}

TEST_F(GpuCheck, LossesAreComparedAsNumbers) {
  add_program("llama_tp", with_losses("12.3", "7.5"));
  run("scripts/gpu_check --only run");
  EXPECT_NE(row(report(), "run").find("20 losses of 20, apart by 6.40e-01"), std::string::npos) << report();
  EXPECT_NE(row(report(), "run").find("**failed**"), std::string::npos) << report();
  add_program("llama_tp", with_losses("7.4901", "7.49"));
  run("scripts/gpu_check --only run");
  EXPECT_NE(report().find("20 losses of 20, apart by 1.34e-05"), std::string::npos) << report();
  EXPECT_NE(row(report(), "run").find("| passed |"), std::string::npos) << report();
}

// The stage parts is there for collectives in parts: a run that counted as many calls as one without has shown nothing.
TEST_F(GpuCheck, PartsAreThoseThatTheRunsCounted) {
  add_program("mpirun", "shift 3; exec \"$@\"");
  // A program whose forward of two ranks, with sequence parallelism and without, sends so many sums.
  const auto program_with = [&](const std::string& scattered, const std::string& whole, const std::string& norm) {
    add_program("llama_tp", R"([ "$1" = train ] || exec echo 'cuda: a GPU'
      folder=$(grep -oE -- '--output-dir [^ ]+' <<< "$*" | cut -d ' ' -f 2) norm=2
      case "$*" in *--tensor-parallel*) norm=)" +
                                norm +
                                R"( ;; esac
      mkdir -p "$folder"
      for step in 1 2; do echo "{\"step\":$step,\"loss\":7.5,\"grad_norm\":$norm}"; done > "$folder/metrics.jsonl"
      case "$*" in *'--sequence-parallel off'*) calls='"all_reduce","calls":99,"bytes":64,"phases":{"forward":{"calls":)" +
                                whole + R"(' ;;
        *) calls='"reduce_scatter","calls":99,"bytes":64,"phases":{"forward":{"calls":)" +
                                scattered + R"(' ;; esac
      echo '{"communication": [{"group":"tensor","collective":'"$calls"',"bytes":32},"loss":{"calls":1,"bytes":32}}}]}' > "$folder/memory.json")");
    run("scripts/gpu_check --only parts");
    return row(report(), "parts");
  };
  EXPECT_NE(program_with("9", "9", "2.00001").find("| passed |"), std::string::npos) << report();
  EXPECT_NE(report().find("in 3 parts, losses and gradient norms are those of one rank"), std::string::npos)
      << report();
  for (const std::string& one_part : {program_with("3", "9", "2"), program_with("9", "3", "2")}) {
    EXPECT_NE(one_part.find("**failed**"), std::string::npos) << one_part;
    EXPECT_NE(one_part.find(
                  "parts: 1, beside one: these are the parts whose calls its memory.json counts; a GPU has 2 or more"),
              std::string::npos)
        << one_part;
  }
  const std::string apart = program_with("9", "9", "2.1");
  EXPECT_NE(apart.find("**failed**"), std::string::npos) << apart;
  EXPECT_NE(apart.find("2 gradient norms of 2, apart by 5.00e-02"), std::string::npos) << apart;
}

// The program's own memory.json and metrics.jsonl; the CPU's collectives are in one part, and nothing else is said.
TEST_F(GpuCheck, ADryRunOfPartsSaysThatThereAreNone) {
  std::filesystem::create_directory_symlink(std::filesystem::absolute("data/demo"), folder_ / "data/demo");
  add_program("llama_tp", "exec " + llama_tp_with(0) + " \"$@\"");
  add_program("mpirun", "exec mpirun \"$@\"");
  run("scripts/gpu_check --backend cpu --only parts");
  const std::string all = report();
  EXPECT_NE(row(all, "parts").find("| passed | "), std::string::npos) << all;
  EXPECT_NE(row(all, "parts").find("the CPU has no parts"), std::string::npos) << all;
  for (const char* options :
       {"--sequence-parallel on", "--sequence-parallel off", "--sequence-parallel on --gradient-checkpointing"})
    EXPECT_NE(all.find("2 ranks, " + std::string(options) + ", parts: 1, beside one"), std::string::npos) << all;
}

// As compute-sanitizer's tools say it, or timeout stops them.
TEST_F(GpuCheck, ASanitizerHasPassedOnlyWhereItReportedNothing) {
  add_program("llama_tp", "echo 'cuda: a GPU'");
  const auto result_of = [&](const std::string& tool, const std::string& said, int status) {
    add_program("tools/compute-sanitizer",
                "echo '[       OK ] Linear.One (1 ms)'; echo '" + said + "'; exit " + std::to_string(status));
    run("scripts/gpu_check --only " + tool);
    return row(report(), tool);
  };
  for (const auto& [tool, said] : std::vector<std::pair<std::string, std::string>>{
           {"racecheck", "Error: Race reported between Write access at 0x10 in f and Read access at 0x20 in f"},
           {"racecheck", "Warning: Race reported between Write access at 0x10 in f and Read access at 0x20 in f"},
           {"racecheck", "Race reported between Write access at 0x10 in f and Read access at 0x20 in f"},
           {"racecheck", "Warning: Detected overflow of tracked cuda::barrier structures. Results might be incorrect."},
           {"memcheck", "Invalid __global__ read of size 4 bytes"},
           {"memcheck", "Internal Sanitizer Error: it did not track the launch. Errors might go undetected."},
           {"synccheck", "Warpgroup MMA sequence error detected. Registers are not ready"}})
    for (const int status : {0, 124}) {
      EXPECT_NE(result_of(tool, "========= " + said, status).find("**failed**"), std::string::npos) << report();
      EXPECT_NE(report().find("      1 ========= " + said), std::string::npos) << report();
    }
  for (const int status : {0, 124})
    EXPECT_NE(result_of("racecheck",
                        "========= COMPUTE-SANITIZER\n=========     Saved host backtrace\n"
                        "========= Target application returned an error\n"
                        "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)",
                        status)
                  .find("| passed |"),
              std::string::npos)
        << report();
}

// A compute-sanitizer that says with which options it was started, and reports an error where one is among them.
std::string sanitizer(const std::string& version, const std::string& options, const std::string& error_with) {
  return "case \"$*\" in --version) echo 'Version " + version + " (build 1)' ;; --help) echo '" + options +
         "' ;; *) echo \"it took $*\"; echo '[       OK ] Linear.One (1 ms)'; case \"$*\" in *'" + error_with +
         "'*) echo '========= Error: Race reported between'; echo '========= RACECHECK SUMMARY: 7 hazards' ; exit 9 ;; "
         "esac; echo '========= RACECHECK SUMMARY: 0 hazards' ;; esac";
}

TEST_F(GpuCheck, RacesThatAnOlderRacecheckSeesInHoppersKernelsAreToldAndNotJudged) {
  add_program("llama_tp", "echo 'cuda: a GPU'");
  const auto result_of = [&](const std::string& version, const std::string& options, const std::string& error_with) {
    add_program("tools/compute-sanitizer", sanitizer(version, options, error_with));
    run("scripts/gpu_check --only racecheck");
    return row(report(), "racecheck");
  };
  const std::string options = "--kernel-name-exclude arg", of_hopper = "--kernel-name kns=_hopper",
                    of_others = "--kernel-name-exclude kns=_hopper", told = "Hopper's attention, not judged";
  EXPECT_NE(result_of("2025.3.1.0", options, of_hopper).find("| passed |"), std::string::npos) << report();
  EXPECT_NE(report().find(told), std::string::npos) << report();
  EXPECT_NE(report().find(": RACECHECK SUMMARY: 7 hazards\nRACECHECK SUMMARY: 0 hazards;"), std::string::npos)
      << report();
  EXPECT_NE(result_of("2026.2.1.0", options, of_others).find("**failed**"), std::string::npos) << report();
  for (const auto& judged : {result_of("2026.3.0.0", options, "--tool"), result_of("2022.4.0.0", "", "--tool")})
    EXPECT_NE(judged.find("**failed**"), std::string::npos) << judged;
  EXPECT_EQ(report().find(told), std::string::npos) << report();
}

TEST_F(GpuCheck, ASanitizerTakesOnlyOptionsThatItHas) {
  add_program("llama_tp", "echo 'cuda: a GPU'");
  const auto took = [&](const std::string& tool, const std::string& option) {
    run("scripts/gpu_check --only " + tool);
    return whole_file(folder_ / ("out/gpu_check/" + tool + ".log")).find(option) != std::string::npos;
  };
  add_program("tools/compute-sanitizer", sanitizer("2025.3.1.0", "--num-cuda-barriers arg", "no error"));
  EXPECT_TRUE(took("memcheck", " --report-api-errors no "));
  for (const char* tool : {"racecheck", "synccheck"}) EXPECT_TRUE(took(tool, " --num-cuda-barriers 64 ")) << tool;
  add_program("tools/compute-sanitizer", sanitizer("2022.4.0.0", "", "no error"));
  EXPECT_FALSE(took("synccheck", "num-cuda-barriers"));
}

TEST_F(GpuCheck, ASanitizerThatShowsNothingUnderGVisorIsSkipped) {
  add_program("llama_tp", "echo 'cuda: a GPU'");
  write_file(folder_ / "scripts/lib/gvisor.sh", "under_gvisor() { true; }");
  const auto result = [&] {
    run("scripts/gpu_check --only memcheck");
    return row(report(), "memcheck");
  };
  EXPECT_NE(result().find("| skipped | "), std::string::npos) << report();
  EXPECT_NE(result().find("compute-sanitizer does not work under gVisor"), std::string::npos) << report();
  add_program("tools/compute-sanitizer", "echo '[       OK ] Linear.One (1 ms)'; exit 9");
  EXPECT_NE(result().find("**failed**"), std::string::npos) << report();
}

TEST_F(GpuCheck, TheSanitizerIsThatOfTheToolkitInUseElseOfTheNewest) {
  const auto found = [&] { return run("bash -c 'source scripts/lib/gpu_sanitizer.sh; sanitizer_below toolkits'").out; };
  EXPECT_EQ(found(), "");
  for (const char* toolkit : {"cuda-9.2", "cuda-12.4", "cuda-12.10"})
    add_program("toolkits/" + std::string(toolkit) + "/bin/compute-sanitizer", "");
  EXPECT_EQ(found(), "toolkits/cuda-12.10/bin/compute-sanitizer\n");
  std::filesystem::create_directory_symlink("cuda-12.4", folder_ / "toolkits/cuda");
  EXPECT_EQ(found(), "toolkits/cuda/bin/compute-sanitizer\n");
}

// Of the GPU that is used, and of a training step, not of the products that are the machine's measure.
TEST_F(GpuCheck, TheRateIsATrainingStepsBesideTheDatasheetOfThatVeryGpu) {
  std::filesystem::copy("data/devices", folder_ / "data/devices");
  add_program("llama_tp", R"(echo 'cuda: a GPU'
    echo 'machine     reads 3000.0 GB/s; matrix products 700000 GFLOP/s'
    echo 'training    9,000 tokens/s (4 × 4,096 tokens in 1.8 s), 494700 GFLOP/s = 71% of the products'\'' rate')");
  const auto rate_on = [&](const std::string& gpu, const std::string& stage) {
    add_program("tools/nvidia-smi", R"(case "$*" in -L) echo 'GPU 0: NVIDIA A100-SXM4-80GB'; echo 'GPU 1: )" + gpu +
                                        "' ;; '-i 1 --query-gpu=name '*) echo '" + gpu + "' ;; esac");
    run("env CUDA_VISIBLE_DEVICES=1 scripts/gpu_check --only " + stage);
    EXPECT_EQ(report().find("model FLOPs: 70.7%"), std::string::npos) << report();  // the products
    const std::string line = row(report(), stage);
    return line.substr(line.find(" s | ") + 5);
  };
  const std::string of_h100 = "model FLOPs: 50.0% of the 989 TFLOP/s of data/devices/h100.json";
  EXPECT_EQ(rate_on("NVIDIA H100 80GB HBM3", "training"), of_h100 + " |");
  EXPECT_EQ(rate_on("NVIDIA H100 80GB HBM3", "products"), of_h100 + " with tuned products; without: not measured |");
  for (const char* other : {"NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA GH200 480GB", "NVIDIA L4"})
    EXPECT_EQ(rate_on(other, "training").find("training    9,000 tokens/s"), 0u) << other << "\n" << report();
}

TEST_F(GpuCheck, AsManyLayersAreTakenAsFitAndNoneIsNoFailure) {
  const auto with_room_for = [&](int layers) {
    add_program("llama_tp", "[[ \"$*\" =~ 8b-([0-9]+).json ]] || exec echo 'cuda: a GPU'; [ ${BASH_REMATCH[1]} -gt " +
                                std::to_string(layers) +
                                " ] || exec echo \"training of ${BASH_REMATCH[1]}\"; "
                                "echo 'llama_tp: 21 GiB are needed, but 20 GiB are free (cuda: a GPU)' >&2; exit 1");
    run("scripts/gpu_check");
    return report();
  };
  const std::string four = with_room_for(4), one = with_room_for(1), none = with_room_for(0);
  EXPECT_NE(row(four, "training").find("| passed | "), std::string::npos) << four;
  EXPECT_NE(row(four, "training").find("training of 4"), std::string::npos) << four;
  for (const char* stage : {"training", "products"})
    EXPECT_NE(row(one, stage).find("training of 1"), std::string::npos) << one;
  for (const char* stage : {"training", "products", "rehearsal"}) {
    EXPECT_NE(row(one, stage).find("| passed | "), std::string::npos) << one;
    EXPECT_NE(row(none, stage).find("| skipped | "), std::string::npos) << none;
    EXPECT_NE(row(none, stage).find("there is too little memory for "), std::string::npos) << none;
  }
}

// As in a container; root may enlarge it.
TEST_F(GpuCheck, RanksNeedRoomInSharedMemoryForNccl) {
  add_program("mpirun", "shift 3; exec \"$@\"");
  add_program("llama_tp", "[ $1 = train ] || exec echo 'cuda: a GPU'; exit 1");
  add_program("tools/df", R"([ -e enlarged ] && echo "$(cat enlarged) 380" || echo '  64    60')");
  for (const auto& [stage, needed] : {std::pair("ranks", "320"), std::pair("parts", "100")}) {
    std::filesystem::remove(folder_ / "enlarged");
    add_program("tools/mount", "exit 32");
    run(std::string("scripts/gpu_check --only ") + stage);
    EXPECT_NE(row(report(), stage).find(" | skipped | "), std::string::npos) << report();
    EXPECT_NE(row(report(), stage).find(std::string("/dev/shm has 60 MiB left, and NCCL takes up to ") + needed),
              std::string::npos)
        << report();
    add_program("tools/mount", "[ $# = 3 ] && sed 's/remount,size=//; s/m$//' <<< $2 > enlarged");
    run(std::string("scripts/gpu_check --only ") + stage);
    EXPECT_NE(row(report(), stage).find(" | **failed** | "), std::string::npos) << report();
    EXPECT_NE(report().find(text("has ", 64 + std::stoi(needed), " MiB now")), std::string::npos) << report();
  }
}

TEST_F(GpuCheck, WhereTwoRanksWriteAnotherTextTheSwitchThatMendsItIsTold) {
  add_program("mpirun", "shift 3; RANKS=2 exec \"$@\"");
  const auto with_texts = [&](const std::string& of_two) {
    add_program("llama_tp", "if [ $1 = generate ]; then if [ -z \"$RANKS\" ]; then echo text; else " + of_two +
                                "; fi; exit; fi\n" + with_losses("7.5", "7.5"));
    run("scripts/gpu_check --only ranks");
    return row(report(), "ranks");
  };
  const std::string told = "the text of two ranks is that of one";
  EXPECT_NE(with_texts("[ \"$LLAMA_TP_CUDA_GRAPH\" = 0 ] && echo text || echo other")
                .find("the text of two ranks is not that of one"),
            std::string::npos)
      << report();
  EXPECT_NE(report().find("with LLAMA_TP_CUDA_GRAPH=0 " + told), std::string::npos) << report();
  EXPECT_EQ(report().find("LLAMA_TP_EARLY_GRIDS=0 " + told), std::string::npos) << report();
  with_texts("echo other");
  EXPECT_EQ(report().find(told), std::string::npos) << report();
  EXPECT_NE(with_texts("echo text").find("| passed |"), std::string::npos) << report();
}

// The last of them is often what another rank's error led to.
TEST_F(GpuCheck, NcclsOwnWordsAreInTheLogAndTheFirstOfAFailedStageInTheReport) {
  add_program("llama_tp", R"([ "$1" = train ] || exec echo 'cuda: a GPU'
    { echo 'NCCL version 2.28'; printf '\n%s NCCL WARN %s\n' 'h:1:1 [0] shm.cc:1' 'no room' 'h:1:2 [0] socket.cc:1' 'closed'; } > "${NCCL_DEBUG_FILE/\%p/$$}"
    echo "llama_tp: nccl at $NCCL_DEBUG: closed" >&2; exit 1)");
  run("env -u NCCL_DEBUG scripts/gpu_check --only parts");
  EXPECT_NE(row(report(), "parts").find("llama_tp: nccl at WARN: closed"), std::string::npos) << report();
  EXPECT_NE(report().find("shm.cc:1 NCCL WARN no room\n"), std::string::npos) << report();
  EXPECT_EQ(report().find("NCCL WARN closed"), std::string::npos) << report();
  const std::string log = whole_file(folder_ / "out/gpu_check/parts.log");
  for (const char* words : {"NCCL version 2.28", "NCCL WARN no room", "NCCL WARN closed"})
    EXPECT_NE(log.find(words), std::string::npos) << log;
}

TEST_F(GpuCheck, OneGpuIsSeen) {
  add_program("llama_tp", "echo \"cuda: GPU $CUDA_VISIBLE_DEVICES by $CUDA_DEVICE_ORDER\"");
  run("env -u CUDA_VISIBLE_DEVICES scripts/gpu_check --only machine");
  EXPECT_NE(report().find("cuda: GPU 0 by PCI_BUS_ID"), std::string::npos) << report();
  run("env CUDA_VISIBLE_DEVICES=3 scripts/gpu_check --only machine");
  EXPECT_NE(report().find("cuda: GPU 3 by PCI_BUS_ID"), std::string::npos) << report();
  run("env CUDA_VISIBLE_DEVICES=2,1 scripts/gpu_check --only machine");
  EXPECT_NE(report().find("cuda: GPU 2 by PCI_BUS_ID"), std::string::npos) << report();
}

// What LD_LIBRARY_PATH names comes before the machine's own, which may be older than that. The program takes any NCCL, but
// has one stream for all groups where it is older than 2.26.
TEST_F(GpuCheck, PythonsLibrariesAreOnlyForWhatTheMachineHasNotOrHasOlder) {
  const std::string of_nccl = folder_ / "python/nvidia/nccl/lib", of_cublas = folder_ / "python/nvidia/cublas/lib",
                    toolkit = folder_ / "toolkit";
  add_program("llama_tp", "echo \"cuda: $LD_LIBRARY_PATH end\"");
  // Lists what it has, or says an NCCL's version.
  const auto python_has = [&](const std::string& libraries) {
    add_program("tools/python3",
                "case \"$*\" in *ncclGetVersion*/older/*) echo 21805 ;; *ncclGetVersion*/old/*) echo 22505 ;; "
                "*ncclGetVersion*) echo 22600 ;; *) echo " +
                    libraries + " ;; esac");
  };
  python_has(of_nccl + "/libnccl.so.2 " + of_cublas + "/libcublasLt.so.13");
  add_program("tools/readelf", "echo ' 0x1d (RUNPATH)  Library runpath: [/nowhere:" + toolkit + "]'");
  const auto searched = [&](const std::string& known) {
    add_program("tools/ldconfig", "echo '\tlibc.so.6 (libc6,x86-64) => /libc.so.6'; echo '\t" + known + "'");
    run("env LD_LIBRARY_PATH=/own scripts/gpu_check --only machine");
    const std::string all = report();
    const size_t begin = all.find("cuda: ") + 6;
    return all.substr(begin, all.find(" end", begin) - begin);
  };
  const std::string without = "/own:/usr/local/nvidia/lib64";
  EXPECT_EQ(searched("libcublasLt.so.12 (libc6,x86-64) => /lib/libcublasLt.so.12"),
            of_cublas + ":" + of_nccl + ":" + without);
  EXPECT_EQ(searched("libnccl.so.2 (libc6,x86-64) => /lib/libnccl.so.2"), of_cublas + ":" + without);
  EXPECT_EQ(searched("libnccl.so.2 (libc6,x86-64) => /old/libnccl.so.2"), of_cublas + ":" + of_nccl + ":" + without);
  add_program("toolkit/libcublasLt.so.13", "");
  EXPECT_EQ(searched("nothing else"), of_nccl + ":" + without);
  EXPECT_EQ(searched("libnccl.so.2 (libc6,x86-64) => /lib/libnccl.so.2"), without);

  for (const char* folder : {"older", "old", "python/nvidia/nccl/lib"})
    add_program(folder + std::string("/libnccl.so.2"), "");
  const std::string older = folder_ / "older", old = folder_ / "old", file = "/libnccl.so.2";
  python_has(older + file);
  EXPECT_EQ(searched("nothing else"), older + ":" + without);
  python_has(older + file + " " + old + file);
  EXPECT_EQ(searched("nothing else"), old + ":" + without);
  EXPECT_EQ(searched("libnccl.so.2 (libc6,x86-64) => /old/libnccl.so.2"), without);
  python_has(old + file + " " + of_nccl + file);
  EXPECT_EQ(searched("nothing else"), of_nccl + ":" + without);
}

TEST_F(GpuCheck, ACheckoutThatWouldBuildNoCudaIsRefused) {
  std::filesystem::remove(folder_ / "bin/mpirun");
  add_program("tools/make", "echo 'CUDA      left out: no nccl.h'");
  const CommandResult refused = run("scripts/gpu_check");
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.err,
            "scripts/gpu_check: a build here has no CUDA, since there is no nccl.h; unpack what make bundle made "
            "elsewhere, and run its scripts/gpu_check\n");
  EXPECT_EQ(refused.out, "");
}

TEST_F(GpuCheck, AStoppedRunHasReportedWhatCameBefore) {
  add_program("llama_tp", "if [ $1 = train ]; then sleep 30; fi; echo 'cuda: a GPU'");
  EXPECT_NE(run("timeout 5 scripts/gpu_check").status, 0);
  const std::string all = report();
  EXPECT_NE(all.find("| machine | passed | "), std::string::npos) << all;
  EXPECT_NE(all.find("| operations | **failed** | "), std::string::npos) << all;
  EXPECT_EQ(all.find("| kernels | "), std::string::npos) << all;
}

}  // namespace
}  // namespace llama_tp
