// Output folders, what is carried into checkpoints, and saves that are killed or fail at any point.
#include "io/checkpoint_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "io/tokenizer/tokenizer_files.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

std::string partial_path(const std::string& output, int64_t step) { return checkpoint_path(output, step) + ".partial"; }

void save(const std::string& output, int64_t step, const std::string& contents) {
  PartialCheckpoint checkpoint(output, step);
  write_text(checkpoint.folder() + "/config.json", contents);
  checkpoint.publish();
}

TEST(OutputFolder, AnAbsentAnEmptyAndItsOwnFolderAreTakenAnyOtherIsRefusedUntouched) {
  const ScratchFolder scratch;
  { OutputFolder absent(scratch / "deep/new"); }
  { OutputFolder own(scratch / "deep/new"); }
  fs::create_directory(scratch / "empty");
  { OutputFolder empty(scratch / "empty"); }
  EXPECT_TRUE(file_exists(scratch / "empty/" + output_marker_name));

  fs::create_directories(scratch / "foreign/checkpoint-7.partial");
  EXPECT_TRUE(holds(error_of([&] { OutputFolder foreign(scratch / "foreign"); }), "foreign", "--output-dir"));
  EXPECT_TRUE(folder_exists(scratch / "foreign/checkpoint-7.partial"));
  write_text(scratch / "file", "");
  EXPECT_TRUE(holds(error_of([&] { OutputFolder file(scratch / "file"); }), "is a file"));
  EXPECT_TRUE(holds(error_of([&] { OutputFolder below(scratch / "file/below"); }), "cannot make the folder"));
  fs::create_symlink(scratch / "nowhere", scratch / "link");
  EXPECT_TRUE(holds(error_of([&] { OutputFolder link(scratch / "link"); }), "link: is a link to what is not there"));
  fs::create_directory(scratch / "nowhere");
  { OutputFolder link(scratch / "link"); }
  EXPECT_TRUE(file_exists(scratch / "nowhere/" + output_marker_name));
}

TEST(OutputFolder, ASecondRunIntoTheSameFolderIsRefusedWhileTheFirstLives) {
  const ScratchFolder scratch;
  {
    const OutputFolder first(scratch / "out");
    EXPECT_TRUE(holds(error_of([&] { OutputFolder second(scratch / "out"); }), "another llama_tp train"));
  }
  const OutputFolder third(scratch / "out");
}

TEST(OutputFolder, LeftoversOfKilledRunsGoAndFinishedCheckpointsStay) {
  const ScratchFolder scratch;
  const std::string out = scratch / "out";
  { OutputFolder run(out); }
  save(out, 9, "nine");
  save(out, 10, "ten");
  fs::create_directory(out + "/checkpoint-11.partial");
  write_text(out + "/checkpoint-11.partial/config.json", "half");
  fs::create_directory(out + "/checkpoint-10.replaced");
  fs::rename(out + "/checkpoint-9", out + "/checkpoint-9.replaced");  // killed between two renames
  fs::create_directory(out + "/checkpoint-12.partial.mine");
  fs::create_directory(out + "/checkpoint-012");
  fs::create_directory(out + "/tokenized");
  for (const char* name : {"tokenized-ab.safetensors", "tokenized-ab.safetensors.partial", "mine.partial"})
    write_text(out + "/tokenized/" + name, "");
  const OutputFolder next(out);
  EXPECT_EQ(next.checkpoint_steps(), (std::vector<int64_t>{9, 10}));
  EXPECT_FALSE(fs::exists(out + "/checkpoint-11.partial"));
  EXPECT_FALSE(fs::exists(out + "/checkpoint-10.replaced"));
  EXPECT_TRUE(fs::exists(out + "/checkpoint-12.partial.mine"));
  EXPECT_FALSE(fs::exists(out + "/tokenized/tokenized-ab.safetensors.partial"));
  EXPECT_TRUE(fs::exists(out + "/tokenized/tokenized-ab.safetensors"));
  EXPECT_TRUE(fs::exists(out + "/tokenized/mine.partial"));
  EXPECT_EQ(read_text(out + "/checkpoint-9/config.json"), "nine");
}

TEST(Checkpoint, IsAbsentUntilPublishedAndThenWhole) {
  const ScratchFolder scratch;
  const OutputFolder run(scratch / "out");
  {
    PartialCheckpoint checkpoint(run.path(), 5);
    write_text(checkpoint.folder() + "/config.json", "five");
    EXPECT_EQ(read_text(partial_path(run.path(), 5) + "/config.json"), "five");
    EXPECT_EQ(newest_checkpoint(run.path()), std::nullopt);
    checkpoint.publish();
  }
  EXPECT_EQ(newest_checkpoint(run.path()), checkpoint_path(run.path(), 5));
  EXPECT_EQ(read_text(checkpoint_path(run.path(), 5) + "/config.json"), "five");
  EXPECT_FALSE(fs::exists(partial_path(run.path(), 5)));
}

TEST(Checkpoint, ASaveThatFailsLeavesTheOldOneOfItsStepAndASaveThatSucceedsReplacesIt) {
  const ScratchFolder scratch;
  const OutputFolder run(scratch / "out");
  save(run.path(), 5, "old");
  error_of([&] {
    PartialCheckpoint checkpoint(run.path(), 5);
    write_text(checkpoint.folder() + "/config.json", "new");
    fail("the disk is full");
  });
  EXPECT_EQ(read_text(checkpoint_path(run.path(), 5) + "/config.json"), "old");
  EXPECT_FALSE(fs::exists(partial_path(run.path(), 5)));
  save(run.path(), 5, "new");
  EXPECT_EQ(read_text(checkpoint_path(run.path(), 5) + "/config.json"), "new");
  EXPECT_FALSE(fs::exists(partial_path(run.path(), 5)));
  EXPECT_EQ(run.checkpoint_steps(), std::vector<int64_t>{5});
}

TEST(Checkpoint, OneThatCannotHaveItsNameSaysWhy) {
  const ScratchFolder scratch;
  const OutputFolder run(scratch / "out");
  write_text(checkpoint_path(run.path(), 4), "a file");
  EXPECT_TRUE(
      holds(error_of([&] { save(run.path(), 4, ""); }), "cannot rename it to", "checkpoint-4: Not a directory"));
}

// A child saves the same step again and again and is killed at a random moment: what is there is always a whole save.
TEST(Checkpoint, KilledAtAnyMomentACheckpointIsWhole) {
  const ScratchFolder scratch;
  const std::string out = scratch / "out", body(100000, 'x');
  { OutputFolder run(out); }
  save(out, 1, "first " + body + " end");
  for (int round = 0; round < 15; round++) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (;;) save(out, 1, "again " + body + " end");
    }
    usleep(static_cast<useconds_t>(1000 + 1700 * round));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const OutputFolder next(out);
    EXPECT_FALSE(fs::exists(partial_path(out, 1)));
    const std::string text = read_text(checkpoint_path(out, 1) + "/config.json");
    EXPECT_EQ(text.size(), body.size() + 10);
    EXPECT_TRUE(text.ends_with(" end"));
  }
}

TEST(StepIn, ACheckpointIsKnownByHoweverItsPathIsWritten) {
  const ScratchFolder scratch;
  const std::string out = scratch / "out";
  for (const std::string& output : {out, scratch / "other"}) OutputFolder run(output);
  for (const int64_t step : {1, 20}) save(out, step, "");
  save(scratch / "other", 1, "");
  fs::create_symlink("checkpoint-1", out + "/first");
  fs::create_symlink(out, scratch / "same");
  fs::create_symlink(scratch / "other/checkpoint-1", out + "/checkpoint-5");  // as one that was moved to another disk
  for (const std::string first :
       {"/checkpoint-1", "/checkpoint-1/", "/checkpoint-1/.", "/first", "/./checkpoint-20/../checkpoint-1"})
    EXPECT_EQ(step_in(out, out + first), 1) << first;
  EXPECT_EQ(step_in(scratch / "same", out + "/checkpoint-20"), 20);
  EXPECT_EQ(step_in(out, scratch / "same/checkpoint-20"), 20);
  EXPECT_EQ(step_in(out, fs::relative(out + "/checkpoint-20").string()), 20);
  EXPECT_EQ(step_in(out, scratch / "other/checkpoint-1"), 5);
  EXPECT_EQ(step_in(scratch / "other", out + "/checkpoint-1"), std::nullopt);
  for (const std::string& none : {out, out + "/checkpoint-2", std::string()})
    EXPECT_EQ(step_in(out, none), std::nullopt) << none;
}

TEST(ResolveModelFolder, AnOutputFolderMeansItsNewestCheckpointAnyOtherFolderItself) {
  const ScratchFolder scratch;
  EXPECT_EQ(resolve_model_folder(scratch.path()), scratch.path());  // as one that holds a tokenizer alone
  { OutputFolder run(scratch / "out"); }
  EXPECT_TRUE(holds(error_of([&] { resolve_model_folder(scratch / "out"); }), "no whole checkpoint yet"));
  save(scratch / "out", 9, "");
  save(scratch / "out", 100, "");
  fs::create_directory(scratch / "out/checkpoint-200.partial");
  EXPECT_EQ(resolve_model_folder(scratch / "out"), scratch / "out/checkpoint-100");
  EXPECT_EQ(resolve_model_folder(scratch / "out/checkpoint-9"), scratch / "out/checkpoint-9");
  write_text(scratch / "config.json", "{}");
  fs::create_directory(scratch / "checkpoint-3");
  EXPECT_EQ(resolve_model_folder(scratch.path()), scratch.path());
  EXPECT_TRUE(holds(error_of([&] { resolve_model_folder(scratch / "none"); }), "none: no such folder"));
}

TEST(ResolveModelFolder, ANameOfTheHubIsRefusedWithTheWayToFetchIt) {
  const std::string fetched = "no such folder; a model of the Hugging Face hub is fetched by: hf download ";
  EXPECT_TRUE(holds(error_of([&] { resolve_model_folder("meta-llama/Llama-3.1-8B-Instruct"); }),
                    "meta-llama/Llama-3.1-8B-Instruct: " + fetched +
                        "meta-llama/Llama-3.1-8B-Instruct --local-dir Llama-3.1-8B-Instruct; then give that folder"));
  for (const std::string path :
       {"nowhere", "nowhere/", "./nowhere", "../nowhere", "/nowhere", "/no/where", "no/such/one", "tests/nowhere"})
    EXPECT_TRUE(holds(error_of([&] { resolve_model_folder(path); }), path + ": no such folder; give a")) << path;
}

TEST(ResolveModelFolder, OfAModelInTheCacheOfTheHubASnapshotIsNamed) {
  const ScratchFolder scratch;
  const std::string model = scratch / "models--a--b", snapshot = model + "/snapshots/0123";
  fs::create_directories(snapshot);
  EXPECT_TRUE(
      holds(error_of([&] { resolve_model_folder(model); }), model + ": is a model's folder", "give " + snapshot));
  EXPECT_EQ(resolve_model_folder(snapshot), snapshot);
}

using NamedContents = std::map<std::string, std::string>;

NamedContents carried(const std::string& tokenizer, const std::string& model_folder) {
  NamedContents files;
  for (const CarriedFile& file : read_carried_files(tokenizer, model_folder)) files.emplace(file.name, file.contents);
  return files;
}

TEST(CarriedFiles, AreTheTokenizersAndTheGenerationConfigByteForByteWhereTheyAre) {
  const ScratchFolder from;
  const NamedContents tokenizer{{"tokenizer.json", std::string(5'000'000, 'a') + "b"},
                                {"tokenizer_config.json", "{\"\\u0000\": \"\xf0\x9f\x99\x82\"}"}};
  for (const auto& [name, contents] : tokenizer) write_text(from / name, contents);
  write_text(from / "model.safetensors", "weights");
  EXPECT_EQ(carried(from.path(), from.path()), tokenizer);
  EXPECT_EQ(carried("", from.path()), NamedContents());
  write_text(from / "generation_config.json", "{}");
  EXPECT_EQ(carried("", from.path()), (NamedContents{{"generation_config.json", "{}"}}));
  EXPECT_EQ(carried(from.path(), from.path()).size(), 3u);
  EXPECT_EQ(carried(from.path(), ""), tokenizer);
  write_text(from / "my.model", "sentencepiece");
  EXPECT_EQ(carried(from / "my.model", "").at("tokenizer.model"), "sentencepiece");
  EXPECT_TRUE(holds(error_of([&] { carried(from / "none.model", ""); }), "none.model: no such file"));
  ASSERT_EQ(mkfifo((from / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(holds(error_of([&] { carried(from / "pipe", ""); }), "pipe: is a pipe", "write it into a file"));
}

TEST(CarriedFiles, TheCodeThatAConfigNamesLiesBesideIt) {
  const ScratchFolder from;
  for (const std::string name : {"config.json", "modeling_own.py", "configuration_own.py", "own.pyc"})
    write_text(from / name, name);
  std::filesystem::create_directory(from / "folder.py");
  NamedContents code;
  for (const CarriedFile& file : read_code_files(from / "config.json")) code.emplace(file.name, file.contents);
  EXPECT_EQ(code,
            (NamedContents{{"modeling_own.py", "modeling_own.py"}, {"configuration_own.py", "configuration_own.py"}}));
}

// But no other tokenizer, which would be found in its place.
TEST(CarriedFiles, ATokenizersFileTakesItsCompanionsAlong) {
  const ScratchFolder from;
  const std::vector<std::string> companions{"added_tokens.json",       "chat_template.jinja",   "merges.txt",
                                            "special_tokens_map.json", "tokenizer_config.json", "vocab.json"};
  for (const std::string& name : companions) write_text(from / name, name);
  for (const std::string name : {"tokenizer.json", "tokenizer.model", "config.json"}) write_text(from / name, name);
  for (const std::string name : {"tokenizer.json", "tokenizer.model"}) {
    NamedContents expected{{name, name}};
    for (const std::string& companion : companions) expected.emplace(companion, companion);
    EXPECT_EQ(carried(from / name, ""), expected);
  }
}

// As it is named from the folder that it is in, and from the one above all.
TEST(CarriedFiles, CompanionsAreInTheTokenizersFolder) {
  EXPECT_EQ(folder_beside("tokenizer.json"), ".");
  EXPECT_EQ(folder_beside("/no-tokenizer.json"), "/");
  EXPECT_EQ(folder_beside("a/b/tokenizer.json"), "a/b");
  EXPECT_EQ(folder_beside("tests/goldens"), "tests/goldens");
  EXPECT_TRUE(tokenizer_files("").empty());
}

TEST(OutputFolder, KeepsTheNewestCheckpoints) {
  const ScratchFolder scratch;
  const std::string out = scratch / "out";
  const OutputFolder folder(out);
  for (const int64_t step : {9, 10, 11, 100}) save(out, step, "{}");
  folder.keep_newest(5);
  EXPECT_EQ(folder.checkpoint_steps(), (std::vector<int64_t>{9, 10, 11, 100}));
  folder.keep_newest(2);
  EXPECT_EQ(folder.checkpoint_steps(), (std::vector<int64_t>{11, 100}));
  folder.keep_newest(1);
  EXPECT_EQ(folder.checkpoint_steps(), (std::vector<int64_t>{100}));
  for (const auto& entry : std::filesystem::directory_iterator(out))
    EXPECT_FALSE(entry.path().string().ends_with(".partial")) << entry.path();
}

TEST(PartialCheckpoint, IsPublishedWithTheFoldersInIt) {
  const ScratchFolder scratch;
  const std::string out = scratch / "out";
  const OutputFolder folder(out);
  PartialCheckpoint checkpoint(out, 1);
  checkpoint.make_folder("a/b");
  write_text(checkpoint.folder() + "/a/b/file", "text");
  checkpoint.publish();
  EXPECT_EQ(read_text(out + "/checkpoint-1/a/b/file"), "text");
}

}  // namespace
}  // namespace llama_tp
