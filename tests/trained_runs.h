// Short runs of `llama_tp train` on a small model, which are stopped and go on.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/small_model.h"

namespace llama_tp {

inline constexpr MeshOfRanks alone{0, ""}, tensor2{2, ""};

struct MeshSizes {
  int data, fsdp, tensor;
  std::string options() const {
    return text("--data-parallel ", data, " --fsdp ", fsdp, " --tensor-parallel ", tensor, " ");
  }
  bool operator==(const MeshSizes&) const = default;
};

class TrainedRuns : public testing::Test {
 protected:
  TrainedRuns() {
    write_file(path("config.json"), small_config().dump());
    write_file(path("ids.jsonl"), random_id_lines(22, 20, small_vocabulary));
  }

  std::string path(const std::string& name) const { return folder_ / name; }

  // Without the program's name. Later options win.
  std::string arguments(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    return "train --config " + path("config.json") + " --train-file " + path("ids.jsonl") + " --output-dir " +
           path(output) + " --global-batch-size 4 --per-device-train-batch-size 2 --dtype float32 " +
           "--lr-scheduler-type cosine --warmup-steps 3 --learning-rate 2e-3 --weight-decay 0.1 " + mesh.options + " " +
           options;
  }
  CommandResult run(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    return run_command(llama_tp_with(mesh.ranks) + " " + arguments(mesh, output, options));
  }
  // Trains, which must go well, and returns what was printed.
  std::string train(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    const CommandResult result = run(mesh, output, options);
    EXPECT_EQ(result.status, 0) << result.err << result.out;
    return result.out;
  }
  std::string train(const MeshSizes& mesh, const std::string& output, const std::string& options) const {
    return train({mesh.data * mesh.fsdp * mesh.tensor, ""}, output, mesh.options() + options);
  }
  std::vector<nlohmann::json> metrics(const std::string& output) const {
    return json_lines(whole_file(path(output + "/metrics.jsonl")));
  }
  // What is left of `output` where its run is killed after the save of `step`; metrics.jsonl knows more.
  void copy_until(const std::string& output, int step, const std::string& to) const {
    std::filesystem::remove_all(path(to));
    std::filesystem::copy(path(output), path(to), std::filesystem::copy_options::recursive);
    for (const int later : checkpoint_steps(path(to)))
      if (later > step) std::filesystem::remove_all(path(to + "/checkpoint-" + std::to_string(later)));
  }

  ScratchFolder folder_;
};

}  // namespace llama_tp
