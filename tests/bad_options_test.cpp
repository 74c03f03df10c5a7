// Options, meshes, folders and streams that cannot work, and odd ones that can.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/nearest_names.h"
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

TEST(NearestNames, DifferInAThirdAtMostOrContinueEachOther) {
  using Names = std::vector<std::string>;
  const Names names{"temp", "top-p", "top-k", "tensor-parallel"};
  EXPECT_EQ(nearest_names("temperature", names), Names{"temp"});
  EXPECT_EQ(nearest_names("tensor", names), Names{"tensor-parallel"});
  EXPECT_EQ(nearest_names("tesnor-paralell", names), Names{"tensor-parallel"});
  EXPECT_EQ(nearest_names("top-n", names), (Names{"top-p", "top-k"}));
  EXPECT_EQ(nearest_names("top-kk", names), Names{"top-k"});  // and not top-p, which is farther
  EXPECT_EQ(nearest_names("pot-p", names), Names{});          // two letters of five
  EXPECT_EQ(nearest_names("te", names), Names{});             // begins too many
  EXPECT_EQ(nearest_names("", names), Names{});
}

TEST_F(BadOptions, OptionsAreNamedWithTheMend) {
  const std::string tokenize = "tokenize -m " + small_tokenizer() + " ";
  expect_all_refused({
      {"fly", {"\"fly\" is no command", "train, generate, eval, inspect, plan, tokenize"}},
      {"train --fly 3", {"train: --fly is no option; llama_tp train --help"}},
      {"train --learnig_rate 1e-3",
       {"train: --learnig-rate is no option; did you mean --learning-rate? llama_tp train"}},
      {"generate --temperature=1", {"generate: --temperature is no option; did you mean --temp? llama_tp generate"}},
      {"train --save on", {"; did you mean --save-dtype or --save-steps? llama_tp"}},
      {"generate -x", {"generate: ", "x", "generate --help"}},
      {"inspect --config", {"inspect: ", "config", "argument"}},
      {"eval --file", {"eval: ", "file", "argument"}},
      {tokenize + "-p Hello you", {"tokenize: \"you\" is no option"}},
      {"generate -m --prompts-file x.jsonl", {"generate: -m is followed by --prompts-file, an option", "\"=\""}},
      {"train --model m --train_file --output_dir y", {"train: --train-file is followed by --output_dir, an option"}},
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
      {generate("-p a -n 0x10"), {"--n-predict \"0x10\" is not a whole number"}},
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
      {train("--tensor-parallel 0x1"), {"--tensor-parallel \"0x1\" is not a whole number"}},
      {train("--learning-rate 1e400"), {"--learning-rate \"1e400\""}},
      {train("--learning-rate 0x1p-9"), {"--learning-rate \"0x1p-9\" is not a number"}},
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
        "--learning-rate 0 --max-grad-norm 0", "--learning-rate +3e-4 --adam-beta1 ' 0.5'", "--block-size 2"}) {
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
