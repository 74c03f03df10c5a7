// The fine-tuning golden's model, trained until it has learned its conversations, for all tests of a suite; and what it
// answers.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "scratch_folder.h"
#include "support/command.h"

namespace llama_tp {

class TalkingModel : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite() { shared_.reset(); }

  // In the folder that the tests of a suite share: the model's output folder `out`.
  static std::string path(const std::string& name) { return *shared_ / name; }
  // Another one of its kind.
  static void train(const std::string& folder, const std::string& options);

  // `llama_tp generate`, of this model or another.
  static std::string command(int ranks, const std::string& options, const std::string& model = path("out"));
  // Expects success.
  static CommandResult run(const std::string& line);
  // The lines that come back for those of a --prompts-file.
  static std::vector<nlohmann::json> continued(int ranks, const std::string& lines, const std::string& options,
                                               const std::string& model = path("out"));

  static std::unique_ptr<ScratchFolder> shared_;
};

}  // namespace llama_tp
