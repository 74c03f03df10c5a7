// Options, meshes, folders, disks and streams that cannot work, and odd ones that can.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/parse_count.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/sound_model.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

class BadOptions : public SoundModel {
 protected:
  static std::string generate(const std::string& options) { return "generate -m " + path("sound") + " " + options; }
  static std::string train(const std::string& options, const std::string& output = path("new")) {
    return "train --config " + path("config.json") + " --train-file " + path("ids.jsonl") + " --dtype float32 " +
           "--max-steps 2 --output-dir " + output + " " + options;
  }
  void TearDown() override { fs::remove_all(path("new")); }
};

struct Refused {
  std::string arguments;
  Words words;
};

// Each by one rank, some by two and by four.
void expect_all_refused(const std::vector<Refused>& cases) {
  for (size_t i = 0; i < cases.size(); i++) {
    expect_refused(0, cases[i].arguments, cases[i].words);
    if (i % 9 == 0) expect_refused(i % 2 == 0 ? 2 : 4, cases[i].arguments, cases[i].words);
  }
}

TEST(ParseCount, TakesDigitsAloneAndNothingOutOfItsBounds) {
  EXPECT_EQ(parse_count("0", 0, 9), 0);
  EXPECT_EQ(parse_count("9", 0, 9), 9);
  EXPECT_EQ(parse_count("000000000000000000000009", 0, 9), 9);
  EXPECT_EQ(parse_count("9223372036854775807", 0, INT64_MAX), INT64_MAX);
  for (const char* written : {"", "10", "-0", "-1", "+1", " 1", "1 ", "1.0", "1e0", "0x1", "x", "18446744073709551617"})
    EXPECT_EQ(parse_count(written, 0, 9), std::nullopt) << written;
  EXPECT_EQ(parse_count("1", 2, 9), std::nullopt);
  EXPECT_EQ(parse_count("9223372036854775808", 0, INT64_MAX), std::nullopt);
}

TEST_F(BadOptions, OptionsAreNamedWithTheMend) {
  const std::string tokenize = "tokenize -m " + small_tokenizer() + " ";
  expect_all_refused({
      {"fly", {"\"fly\" is no command", "train, generate, eval, inspect, plan, tokenize"}},
      {"train --fly 3", {"train: ", "fly", "train --help"}},
      {"generate -x", {"generate: ", "x", "generate --help"}},
      {"inspect --config", {"inspect: ", "config", "argument"}},
      {"eval --file", {"eval: ", "file", "argument"}},
      {tokenize + "-p Hello you", {"tokenize: \"you\" is no option"}},
      {"train --train-file x.txt --output-dir y", {"--model DIR", "--config FILE"}},
      {"train --config c --output-dir y", {"--train-file is missing"}},
      {"train --config c --train-file x.txt", {"--output-dir is missing"}},
      {"train --config c --model m --train-file x.txt --output-dir y", {"--model DIR", "--config FILE"}},
      {"eval -m x", {"--file is missing"}},
      {"eval --file x", {"-m is missing"}},
      {"inspect", {"-m DIR or --config FILE"}},
      {"tokenize -p x", {"needs -m"}},
      {tokenize + "-p x -f y", {"-p alone"}},
      {tokenize + "-p x --special", {"--special with --decode"}},
      {tokenize + "-p 1 --decode --add-special-tokens", {"--add-special-tokens without it"}},
      {tokenize + "--decode -p '3 x'", {"\"x\" is not a token id"}},
      {tokenize + "--decode -p -3", {"\"-3\" is not a token id"}},
      {tokenize + "--decode -p 489", {"489 is not a token id", "0 to 488"}},
      {tokenize + "--decode --jsonl <<< '[3, 489]'", {"stdin: line 1: 489 is not a token id"}},
      {tokenize + "--jsonl <<< '\"cut'", {"stdin: line 1: is not JSON"}},
      {tokenize + "--jsonl <<< 3", {"one JSON string; put the text in double quotes"}},
  });
}

TEST_F(BadOptions, ThoseOfGenerateAreNamedWithTheMend) {
  expect_all_refused({
      {generate(""), {"one of -p TEXT, -f FILE, "}},
      {generate("-p a -c 1000000000"), {"this rank needs ", "are free (cpu: ", "a smaller context (-c)"}},
      {generate("-p a -f b"), {"--prompts-file FILE and --chat; leave the others out"}},
      {generate("-p a --batch-size 2"), {"--batch-size is for --prompts-file; leave it out"}},
      {generate("--chat --batch-size 2"), {"--batch-size is for --prompts-file; leave it out"}},
      {generate("--prompts-file a --batch-size 0"), {"--batch-size 0 must be 1 or more"}},
      {generate("-p a -n x"), {"--n-predict \"x\" is not a whole number"}},
      {generate("-p a -n 3x"), {"--n-predict \"3x\""}},
      {generate("-p a -n ''"), {"--n-predict \"\""}},
      {generate("-p a -n -2"), {"--n-predict -2 must be -1 or more"}},
      {generate("-p a -n 9223372036854775807"), {"--n-predict 9223372036854775807 must be "}},
      {generate("-p a -n 99999999999999999999"), {"--n-predict \"99999999999999999999\""}},
      {generate("-p a -c 9223372036854775807"), {"--ctx-size 9223372036854775807 must be "}},
      {generate("-p a --temp -1"), {"--temp -1 must lie between 0 and"}},
      {generate("-p a --temp nan"), {"--temp \"nan\" is not a number"}},
      {generate("-p a --top-p 1.5"), {"--top-p 1.5 must lie between 0 and 1"}},
      {generate("-p a --repeat-penalty 0"), {"--repeat-penalty 0 must lie between 0.001"}},
      {generate("-p a --dtype float64"), {"--dtype float64", "float32 or bfloat16"}},
      {generate("-p a --dtype ''"), {"--dtype  is not known", "float32 or bfloat16"}},
      {generate("-p a -t 0"), {"--threads 0 must be 1 or more"}},
      {generate("-p a --backend tpu"), {"--backend tpu", "auto, cpu or cuda"}},
      {generate("-p a --echo=perhaps"), {"generate: ", "perhaps"}},
      {generate("-p 'Good morning, cow' -c 2"), {"the prompt has ", " tokens, but the context only 2", "-c"}},
      {generate("-f " + path("none.txt")), {path("none.txt"), "no such file"}},
      {generate("-f " + path("sound")), {path("sound"), "is a folder"}},
  });
}

TEST_F(BadOptions, ThoseOfTrainAreNamedWithTheMendAndNoFolderIsMade) {
  expect_all_refused({
      {train("--sequence-parallel perhaps"), {"--sequence-parallel perhaps", "on or off"}},
      {train("--block-size 1"), {"--block-size 1 must be 2 or more"}},
      {train("--per-device-train-batch-size 0"), {"--per-device-train-batch-size 0 must be 1 or more"}},
      {train("--gradient-accumulation-steps 9223372036854775807"), {"--gradient-accumulation-steps", "or less"}},
      {train("--learning-rate -1"), {"--learning-rate -1 must lie between 0 and"}},
      {train("--learning-rate 1e400"), {"--learning-rate \"1e400\""}},
      {train("--lr-scheduler-type step"), {"--lr-scheduler-type step", "constant, linear or cosine"}},
      {train("--adam-beta1 1"), {"--adam-beta1 1 must lie between 0 and 0.9999999"}},
      {train("--adam-epsilon 0"), {"--adam-epsilon 0 must lie between 1e-30 and 1"}},
      {train("--num-train-epochs 0"), {"--num-train-epochs 0 must lie between 1e-09"}},
      {train("--max-steps 0"), {"--max-steps 0 leaves nothing to train", "1 or more", "-1"}},
      {train("--max-steps -2"), {"--max-steps -2 must be -1 or more"}},
      {train("--seed -1"), {"--seed -1 must be 0 or more"}},
      {train("--logging-steps 0"), {"--logging-steps 0 must be 1 or more"}},
      {train("--eval-steps 1"), {"--eval-steps 1", "--validation-file"}},
      {train("--dump-gradients " + path("none/g")), {"--dump-gradients", path("none/g"), "folder does not exist"}},
      {train("--dump-gradients " + path("sound")), {"--dump-gradients", path("sound"), "is a folder"}},
      {"eval -m " + path("sound") + " --file " + path("ids.jsonl") + " --dump-logits " + path("none/l"),
       {path("none/l")}},
      {"inspect --config " + path("config.json") + " --tensor-parallel 16",
       {"num_attention_heads (8)", "1, 2, 4 or 8"}},
      {"inspect --config " + path("config.json") + " --rank 1", {"--rank 1", "1 ranks"}},
  });
  EXPECT_FALSE(fs::exists(path("new")));
}

TEST_F(BadOptions, ThoseOfInspectsTableAndOfItsDataDoNotMix) {
  const std::string table = "inspect --config " + path("config.json") + " ";
  std::vector<Refused> cases{{table + "--json --tensor-parallel 2 --rank 1", {"--rank does not go with --json"}}};
  for (const std::string option : {"--infer x", "--json", "--config x", "--tensor-parallel 2", "--rank 1"})
    cases.push_back({"inspect --data " + path("ids.jsonl") + " --tokenizer " + small_tokenizer() + " " + option,
                     {option.substr(0, option.find(' ')) + " is not for --data"}});
  for (const std::string option : {"--tokenizer x", "--samples 1", "--block-size 8", "--chat-template chatml",
                                   "--assistant-only-loss off", "--truncation off", "--packing on"})
    cases.push_back({table + option, {option.substr(0, option.find(' ')) + " is for --data", "leave it out"}});
  expect_all_refused(cases);
}

TEST_F(BadOptions, TunedProductsAreForOneProcessAndForCuda) {
  const std::string tuned = path("tuned.json"), bench = "bench --config " + path("config.json") + " --backend cpu ",
                    tune = bench + "--tune-products " + tuned;
  write_file(tuned, "{}");
  const Words of_the_cpu{"--products " + tuned, "the CPU backend has no products to choose for", "--backend cuda"};
  expect_all_refused({
      {bench + "--products " + tuned, of_the_cpu},
      {tune, {"--tune-products", "the CPU backend has no products to choose for (cpu: ", "take --backend cuda"}},
      {tune + " --rehearse rank=0,world=8", {"--tune-products", "the CPU backend has no products to choose for"}},
      {tune + " --compare tp=1", {"--compare does not go with --tune-products"}},
      {tune + " --json --rehearse rank=0,world=8", {"--json does not go with --tune-products"}},
      {tune + " --products " + tuned, {"--products does not go with --tune-products"}},
      {bench + "--tune-products ''", {"--tune-products is empty; give a path"}},
      {bench + "--tune-products " + path("sound"), {"--tune-products", path("sound") + " is a folder"}},
      {bench + "--tune-products " + path("none/t"), {"--tune-products", "there is no folder " + path("none")}},
      {train("--backend cpu --products " + tuned), of_the_cpu},
      {generate("-p a --backend cpu --products " + tuned), of_the_cpu},
      {"eval -m " + path("sound") + " --file " + path("ids.jsonl") + " --backend cpu --products " + tuned, of_the_cpu},
      {"plan --config " + path("config.json") + " --backend cpu --products " + tuned, of_the_cpu},
      {train("--products " + path("none.json")), {"--products " + path("none.json"), "there is no such file"}},
  });
  for (const int ranks : {2, 4})
    expect_refused(ranks, tune, {text("mpirun started ", ranks), "--rehearse rank=R,world=N"});
  EXPECT_EQ(whole_file(tuned), "{}");
  fs::remove(tuned);
}

TEST_F(BadOptions, MeshesThatCannotBeAreRefusedWithThoseThatCan) {
  const std::string divisors = "--tensor-parallel can be 1, 2, 4 or 8";
  expect_refused(16, train("--tensor-parallel 16"), {"num_attention_heads (8)", "16 ranks", divisors});
  expect_refused(3, train("--tensor-parallel 3"), {"num_attention_heads (8)", "3 ranks", divisors});
  expect_refused(3, train("--tensor-parallel 2"),
                 {"--tensor-parallel 2 does not divide the 3 ranks", "or let one dimension be auto"});
  expect_refused(2, train("--data-parallel 3 --fsdp auto"),
                 {"--data-parallel 3 --fsdp auto does not divide the 2 ranks that mpirun started; lower the numbers, "
                  "or take a multiple of 3 ranks"});
  expect_refused(2, train("--tensor-parallel 4"), {"--tensor-parallel 4 does not divide the 2 ranks"});
  expect_refused(0, train("--tensor-parallel 2"),
                 {"--tensor-parallel 2 does not divide the 1 ranks that you started; a multiple of 2 would do"});
  expect_refused(0, train("--tensor-parallel many"), {"--tensor-parallel \"many\""});
  // Sizes whose product no number holds.
  expect_refused(2, train("--data-parallel 4294967296 --fsdp 4294967296"),
                 {"--data-parallel 4294967296 must be 1048576 or less"});
  expect_refused(2, train("--data-parallel 1048576 --fsdp 1048576 --tensor-parallel 1048576"),
                 {"does not divide the 2 ranks"});
  expect_refused(0, generate("-p a --tensor-parallel 4294967297"), {"--tensor-parallel 4294967297 must be 1048576"});
  expect_refused(0, "plan --config " + path("config.json") + " --compare fsdp=1048576,dp=1048576",
                 {"--compare fsdp=1048576,dp=1048576: a mesh of 1099511627776 ranks", "1048576 or fewer"});
  write_file(path("odd.json"), small_config({{"intermediate_size", 63}}).dump());
  expect_refused(2, train("--tensor-parallel 2 --config " + path("odd.json")), {"intermediate_size (63)", "can be 1"});
  expect_refused(4, train("--tensor-parallel 1 --global-batch-size 6 --per-device-train-batch-size 1"),
                 {"--global-batch-size 6", "4 ranks with data of their own",
                  "; give another --global-batch-size: the nearest are 4 and 8"});
  expect_refused(4, train("--tensor-parallel 1 --global-batch-size 3 --per-device-train-batch-size 1"),
                 {"--global-batch-size 3", "the nearest is 4"});
  expect_refused(2, train("--tensor-parallel 1 --global-batch-size 12 --per-device-train-batch-size 5"),
                 {"; give --per-device-train-batch-size 3, or another --global-batch-size: the nearest are 10 and 20"});
  for (const char* other : {"--data-parallel auto", "--tensor-parallel auto"})
    expect_refused(2, train(text("--fsdp auto ", other)),
                   {other, ": --fsdp auto takes all ranks that the others leave; give numbers to them"});
  const CommandResult automatic = run_command(llama_tp_with(3) + " " + train("--config " + path("odd.json")));
  EXPECT_EQ(automatic.status, 0) << automatic.err;
  EXPECT_TRUE(holds(automatic.out, "tensor-parallel auto: 1 of 3 ranks", "data-parallel 3 × tensor-parallel 1"));
}

TEST_F(BadOptions, NoFolderOfOthersAndNoEarlierRunIsTouched) {
  const std::string ours = path("ours");
  ASSERT_EQ(run_command(llama_tp_with(0) + " " + train("", ours)).status, 0);
  const std::string before = snapshot(ours) + snapshot(path("sound"));
  for (const int ranks : {0, 2, 4}) {
    expect_refused(ranks, train("", ours), {ours, "the last is 2", "--output-dir"});
    expect_refused(ranks, train("", path("sound")), {path("sound"), "not", "llama_tp.json", "--output-dir"});
  }
  expect_refused(0, train("", path("ids.jsonl")), {path("ids.jsonl"), "is a file"});
  expect_refused(0, train("", path("ids.jsonl") + "/below"), {path("ids.jsonl")});
  expect_refused(2, train("", "/proc/llama_tp"), {"/proc/llama_tp", "cannot make the folder", "choose another"});
  expect_refused(0, "train --model " + ours + " --train-file " + path("ids.jsonl") + " --output-dir " + ours, {ours});
  EXPECT_EQ(snapshot(ours) + snapshot(path("sound")), before);

  // A second run into the folder of one that is still going on.
  const CommandResult both =
      run_command(llama_tp_with(0) + " " + train("--max-steps 1000000") + " >&2 & first=$!\n" + "while [ ! -s " +
                  path("new") + "/metrics.jsonl ]; do sleep 0.01; done\n" + llama_tp_with(0) + " " + train("") +
                  "; status=$?; kill -9 $first; exit $status");
  expect_refusal(both, {path("new"), "another llama_tp train"}, false);
  EXPECT_EQ(both.status, 1);
}

TEST_F(BadOptions, AFileThatMayNotGrowEndsARunWithoutATrace) {
  const CommandResult result = run_command("ulimit -f 100; " + llama_tp_with(0) + " " + train(""));  // 100 KiB of 200
  expect_refusal(result, {path("new/checkpoint-2.partial/model.safetensors"), "may not grow by", "ulimit -f"}, true);
  EXPECT_TRUE(checkpoint_steps(path("new")).empty());
  EXPECT_FALSE(fs::exists(path("new/checkpoint-2.partial")));
}

TEST_F(BadOptions, MetricsThatMayNotGrowNameTheLimit) {
  const CommandResult result =
      run_command("ulimit -f 1; " + llama_tp_with(0) + " " + train("--max-steps 20 --logging-steps 20"));
  expect_refusal(result, {path("new/metrics.jsonl"), "may not grow by", "ulimit -f"}, true);
}

TEST_F(BadOptions, TensorRanksOnDifferentHostsAreNamed) {
  const std::string two_and_two = mpirun_on_hosts("hosta:2,hostb:2");
  if (two_and_two.empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const auto said_of = [&](const std::string& placed, const std::string& options) {
    const CommandResult result = run_command(two_and_two + placed + " " + llama_tp_with(0) + " " + train(options));
    EXPECT_EQ(result.status, 0) << result.err;
    fs::remove_all(path("new"));
    return result.out;
  };
  // Under mpirun out of sight, as srun's ranks are: processes of the same number, which memory of Open MPI's would mix up.
  const std::string by_node = "--map-by node --bind-to none ",
                    of_srun = text(by_node, "--mca btl self,tcp -x SLURM_STEP_ID=0 unshare ",
                                   getuid() == 0 ? "" : "-r ", "--pid --fork");
  const std::string wait = " on hostb wait for the network several times in every layer; ",
                    second = "tensor-parallel ranks 0 on hosta and 1" + wait,
                    third = "tensor-parallel ranks 0 on hosta and 2" + wait,
                    number = "let each host have ranks with consecutive numbers ",
                    fit = "--tensor-parallel 2 would keep them within a host\n";
  EXPECT_TRUE(holds(said_of("", "--tensor-parallel 4"), third + fit));
  EXPECT_TRUE(holds(said_of(by_node, "--tensor-parallel 2"), second + number + "(mpirun --map-by slot)\n"));
  EXPECT_TRUE(holds(said_of(by_node, "--tensor-parallel 4"), second + number + "(mpirun --map-by slot); then " + fit));
  EXPECT_TRUE(
      holds(said_of(of_srun, "--tensor-parallel 4"), second + number + "(srun --distribution=block); then " + fit));
  EXPECT_FALSE(holds(said_of("", "--tensor-parallel 2"), "wait for the network"));
}

// Three of a host's ranks would fit, but not the key/value heads.
TEST_F(BadOptions, TheSizeThatTensorRanksAreAdvisedIsOneThatTheModelTakes) {
  const std::string three_and_three = mpirun_on_hosts("hosta:3,hostb:3");
  if (three_and_three.empty()) GTEST_SKIP() << "this user may not give the machine other names";
  write_file(
      path("six.json"),
      small_config(
          {{"hidden_size", 48}, {"intermediate_size", 96}, {"num_attention_heads", 6}, {"num_key_value_heads", 2}})
          .dump());
  const CommandResult result = run_command(three_and_three + llama_tp_with(0) + " " +
                                           train("--config " + path("six.json") + " --tensor-parallel 6"));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(holds(result.out, "--tensor-parallel 1 would keep them within a host\n")) << result.out;
}

// Under a shell whose mounts are its own, where this user may have them.
class WithOwnMounts : public BadOptions {
 public:
  static std::string mounting(const std::string& line) {
    return text("unshare -m ", getuid() == 0 ? "" : "-r ", "bash -c ", quoted(line));
  }

 protected:
  void SetUp() override {
    fs::create_directory(folder_);
    if (run_command(mounting("mount -t tmpfs none " + folder_)).status != 0)
      GTEST_SKIP() << "this user may mount nothing";
  }

  const std::string folder_ = path("mounted");
};

// Two ranks, of which the second has a disk of its own in the folder's place, as on another host.
CommandResult on_two_disks(const std::string& folder, const std::string& arguments) {
  const std::string program = "exec " + llama_tp_with(0) + " " + arguments,
                    elsewhere = WithOwnMounts::mounting("mount -t tmpfs none " + folder + "; " + program);
  return run_command("mpirun --oversubscribe -np 2 bash -c " +
                     quoted("case $OMPI_COMM_WORLD_RANK in 0) " + program + ";; 1) exec " + elsewhere + ";; esac"));
}

TEST_F(WithOwnMounts, AnOutputFolderThatHostsDoNotShareIsNamedAndResumedWhereTheyHaveTheCheckpoint) {
  const std::string out = folder_ + "/out", by_one = " is not shared by rank 1 on ";
  const CommandResult alone = on_two_disks(folder_, train("--max-steps 2 --save-steps 1", out));
  EXPECT_EQ(alone.status, 0) << alone.err;
  EXPECT_TRUE(holds(alone.out, out + by_one, ": to go on from a checkpoint, copy it")) << alone.out;
  EXPECT_EQ(checkpoint_steps(out), (std::vector<int>{1, 2}));
  expect_refusal(on_two_disks(folder_, train("--max-steps 3 --resume-from-checkpoint latest", out)),
                 {"rank 1 of 2 on ", out + "/checkpoint-2: is not there, but rank 0 on ", "goes on from it; copy"},
                 false);
  const CommandResult shared =
      run_command(llama_tp_with(2) + " " + train("--max-steps 3 --resume-from-checkpoint latest", out));
  EXPECT_EQ(shared.status, 0) << shared.err;
  EXPECT_FALSE(holds(shared.out, "not shared")) << shared.out;

  const CommandResult of_model = on_two_disks(folder_, train("--save-only-model", folder_ + "/model"));
  EXPECT_TRUE(holds(of_model.out, folder_ + "/model" + by_one)) << of_model.out;
  EXPECT_FALSE(holds(of_model.out, "go on")) << of_model.out;
}

// The test before needs none.
class OnASmallDisk : public WithOwnMounts {
 protected:
  // Runs it in the place of a disk of this size, of which the folder out becomes new/.
  CommandResult train_there(int ranks, const std::string& size, const std::string& options) const {
    return run_command(mounting("mount -t tmpfs -o size=" + size + " none " + folder_ + "; " + llama_tp_with(ranks) +
                                " " + train(options, folder_ + "/out") + "; status=$?; cp -r " + folder_ + "/out " +
                                path("new") + "; exit $status"));
  }
};

TEST_F(OnASmallDisk, TheSaveThatFindsItFullEndsTheRunAndSparesItsCheckpoints) {
  for (const int ranks : {0, 2}) {
    const CommandResult result = train_there(ranks, "1500k", "--save-steps 1 --max-steps 4");
    expect_refusal(result, {"/checkpoint-3.partial/", "the disk is full: ", " bytes are needed, ", " are free"},
                   ranks == 0);
    EXPECT_TRUE(holds(result.out, " each; 4 to come, all stay; 1.46 MiB are free\n",
                      "room for 2 of the 4 that will be there at once"));
    EXPECT_EQ(checkpoint_steps(path("new")), (std::vector<int>{1, 2}));
    EXPECT_FALSE(fs::exists(path("new/checkpoint-3.partial")));
    EXPECT_EQ(run_command(llama_tp_with(0) + " " + eval(path("new"))).status, 0);
    fs::remove_all(path("new"));
  }
}

TEST_F(OnASmallDisk, ARunWhoseFirstCheckpointWillNotFitDoesNotBegin) {
  for (const int ranks : {0, 2}) {
    expect_refusal(train_there(ranks, "500k", ""),
                   {"/out: the disk has no room for a checkpoint: ", " are needed, ", " KiB are free; ",
                    "--save-only-model: ", "or choose another --output-dir"},
                   ranks == 0);
    EXPECT_FALSE(fs::exists(path("new/metrics.jsonl")));
    fs::remove_all(path("new"));
    const CommandResult small = train_there(ranks, "500k", "--save-only-model --save-steps 1 --save-total-limit 1");
    EXPECT_EQ(small.status, 0) << small.err;
    EXPECT_TRUE(holds(small.out, "of the model alone; 2 to come, the newest 1 stay; "));
    EXPECT_FALSE(holds(small.out, "at once"));
    fs::remove_all(path("new"));
  }
  const CommandResult least = train_there(0, "100k", "--save-only-model");
  expect_refusal(least, {"no room for a checkpoint", " are free; free some or choose another --output-dir"}, true);
}

TEST_F(WithOwnMounts, RanksThatFindNoPlaceForWhatTheyShareSayWhichItIs) {
  const std::string here = llama_tp_with(2) + " " + train("");
  const auto expect_said = [](const std::string& line, const Words& words) {
    const CommandResult result = run_command(mounting(line));
    expect_refusal(result, words, false);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;  // nothing of MPI_Abort's
  };
  expect_said("mount -t tmpfs -o ro none /dev/shm; " + here,
              {"/dev/shm: ", "Read-only file system; see that each rank may make files there"});
  const std::string devices =
      "cd " + folder_ + "; mount -t tmpfs none $PWD; cd $PWD; mkdir pts; mount --bind /dev/pts pts; " +
      "ln -s pts/ptmx ptmx; ln -s /proc/self/fd fd; for device in null zero random urandom; do touch $device; " +
      "mount --bind /dev/$device $device; done; mount --rbind $PWD /dev; cd " + quoted(fs::current_path()) + "; ";
  expect_said(devices + here,
              {"/dev/shm: ", "there is no /dev/shm here; mount it: mount -t tmpfs -o size=1g tmpfs /dev/shm"});
}

#if !defined(__SANITIZE_ADDRESS__)  // which reads /proc itself
TEST_F(WithOwnMounts, WithoutProcARunGoesOnAndSaysNothingOfResidentMemory) {
  // The second one would start itself again.
  for (const char* places : {"", "env -u GOMP_SPINCOUNT OMP_PLACES=cores "}) {
    const CommandResult result =
        run_command(mounting(text("mount -t tmpfs none /proc; ", places) + llama_tp_with(0) + " " + train("")));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_FALSE(holds(result.out, "resident"));
    EXPECT_TRUE(json_lines(whole_file(path("new/memory.json")))[0]["resident"][0].is_null());
    fs::remove_all(path("new"));
  }
}
#endif

// A folder that nobody may search, one that nobody may fill and a file that nobody may write.
class WithinPermissions : public BadOptions {
 protected:
  void SetUp() override {
    for (const std::string& folder : {closed_, kept_}) fs::create_directory(folder);
    write_file(written_, "");
    if (run_command(within_permissions() + "true").status != 0) GTEST_SKIP() << "this user cannot give up being root";
    fs::permissions(closed_, fs::perms::none);
    fs::permissions(kept_, fs::perms::owner_read | fs::perms::owner_exec);
    fs::permissions(written_, fs::perms::owner_read);
  }
  void TearDown() override {
    for (const std::string& each : {closed_, kept_, written_}) fs::permissions(each, fs::perms::owner_all);
    BadOptions::TearDown();
  }
  static void expect_refused_within(const std::string& arguments, const Words& words) {
    SCOPED_TRACE(arguments);
    expect_refusal(run_command(within_permissions() + llama_tp_with(0) + " " + arguments), words, true);
  }

  const std::string closed_ = path("closed"), kept_ = path("kept"), written_ = path("written");
};

TEST_F(WithinPermissions, APathInAFolderThatMayNotBeSearchedIsNotSaidToBeAbsent) {
  const std::string there = closed_ + "/there", cannot = ": cannot be looked at: Permission denied; let this user";
  for (const std::string& arguments :
       {train("", there), train("--tokenizer " + there), train("--dump-gradients " + there + "/file"),
        train("--resume-from-checkpoint " + there), "tokenize -p Hello -m " + there, "generate -p Hello -m " + there,
        "inspect -m " + there, eval(there), eval(path("sound")) + " --dump-logits " + there, "plan --config " + there})
    expect_refused_within(arguments, {there, cannot});
  const std::string model =
      damaged([&](const std::string& folder) { fs::create_symlink(there, folder + "/special_tokens_map.json"); });
  expect_refused_within("tokenize -p Hello -m " + model, {model + "/special_tokens_map.json" + cannot});
  fs::permissions(closed_, fs::perms::owner_all);
  fs::copy(path("config.json"), closed_);
  fs::permissions(closed_, fs::perms::owner_exec);
  expect_refused_within(eval(closed_), {closed_, ": cannot list the folder: Permission denied"});
}

TEST_F(WithinPermissions, WhatBenchMayNotWriteItSaysBeforeItMeasures) {
  const std::string bench = "bench --config " + path("config.json") + " ", compare = bench + "--compare tp=1 ";
  for (const std::string& option : {"--report " + kept_ + "/page.html", "--report " + written_,
                                    "--trace " + kept_ + "/trace.json", "--report-svg " + kept_})
    expect_refused_within(compare + option, {option + ": this user may not write there; name another"});
  const std::string tune = "--tune-products ", of_kept = tune + kept_ + "/products.json";
  expect_refused_within(bench + of_kept, {of_kept + ": this user may not write there; name another"});
  // Another file takes this one's place.
  expect_refused_within(bench + "--backend cpu " + tune + written_, {"the CPU backend has no products to choose for"});
  const std::string link = path("link");
  for (const std::string& folder : {kept_, path("none")}) {
    fs::create_symlink(folder + "/page.html", link);
    expect_refused_within(compare + "--report " + link, {"--report " + link + ": this user may not write there"});
    fs::remove(link);
  }
}

TEST_F(BadOptions, AResultThatDoesNotArriveIsAnError) {
  for (const std::string& arguments : {eval(path("sound")), generate("-p Hello -n 20 --ignore-eos"),
                                       "inspect -m " + path("sound"), "tokenize -p Hello -m " + small_tokenizer()})
    expect_refused(0, arguments + " > /dev/full", {"stdout: cannot be written", "No space left on device"});
  // Who reads one line and goes ends the program as any other.
  const CommandResult cut = run_command("yes Hello | head -n 200000 | " + llama_tp_with(0) + " tokenize -m " +
                                        small_tokenizer() + " | head -n 1; echo ${PIPESTATUS[2]}");
  EXPECT_EQ(cut.out, "39 68 75 287\n141\n");
  EXPECT_EQ(cut.err, "");
}

TEST_F(BadOptions, ClosedStreamsDoNoHarm) {
  for (const char* closed : {"<&-", ">&-", "2>&-", "<&- >&- 2>&-"}) {
    fs::remove_all(path("new"));
    EXPECT_EQ(run_command(llama_tp_with(0) + " " + train(closed)).status, 0) << closed;
    EXPECT_EQ(json_lines(whole_file(path("new/metrics.jsonl"))).size(), 2u) << closed;
    EXPECT_EQ(read_tensors(path("new/checkpoint-2/model.safetensors")).size(), 21u) << closed;
  }
  EXPECT_EQ(run_command(llama_tp_with(0) + " tokenize -m " + small_tokenizer() + " <&-").out, "");
}

TEST_F(BadOptions, PathsMayHoldSpacesAndAnyLetters) {
  const std::string folder = path("ein Ordner ü/日本 $x'\"");
  fs::create_directories(folder);
  fs::copy(path("ids.jsonl"), folder + "/dä ta.jsonl");
  fs::copy(path("config.json"), folder + "/con fig.json");
  const std::string output = folder + "/out put//";
  const CommandResult trained =
      run_command("cd " + quoted(folder) + " && " + llama_tp_with(2) +
                  " train --config 'con fig.json' --train-file 'dä ta.jsonl' " + "--tokenizer " + small_tokenizer() +
                  " --max-steps 1 --output-dir " + quoted(output) + " --dump-gradients 'gra dients'");
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_TRUE(holds(trained.out, "saved " + folder + "/out put/checkpoint-1\n"));
  EXPECT_EQ(read_tensors(folder + "/gra dients").size(), 21u);
  const CommandResult text =
      run_command("cd " + quoted(output) + " && " + llama_tp_with(0) + " generate -m . -n 2 --echo -p 'Zoë 日本'");
  EXPECT_TRUE(text.out.starts_with("Zoë 日本")) << text.err;
}

TEST_F(BadOptions, OddSizesThatCanWorkDo) {
  for (const std::string options :
       {"--max-steps -1 --num-train-epochs 1", "--block-size 9223372036854775807", "--warmup-steps 1000000",
        "--learning-rate 0 --max-grad-norm 0", "--block-size 2"}) {
    fs::remove_all(path("new"));
    const CommandResult result = run_command(llama_tp_with(0) + " " + train(options));
    EXPECT_EQ(result.status, 0) << options << result.err;
    EXPECT_FALSE(checkpoint_steps(path("new")).empty());
  }
  write_file(path("two.jsonl"), "{\"input_ids\": [5, 6]}\n");
  fs::remove_all(path("new"));
  EXPECT_EQ(run_command(llama_tp_with(4) + " " + train("--tensor-parallel 1 --train-file " + path("two.jsonl"))).status,
            0);
  EXPECT_EQ(json_lines(whole_file(path("new/metrics.jsonl"))).back()["tokens"], 4);
}

}  // namespace
}  // namespace llama_tp
