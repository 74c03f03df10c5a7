// A sound model folder with its tokenizer and data for it, and copies of it that are not sound.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "scratch_folder.h"
#include "support/small_model.h"

namespace llama_tp {

// What is done to a copy of a model folder.
using Change = std::function<void(const std::string& folder)>;

class SoundModel : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite() { shared_.reset(); }

  // In the folder that the tests of a suite share: config.json, ids.jsonl and the model folder `sound`.
  static std::string path(const std::string& name) { return *shared_ / name; }
  // The model folder `model`: a new copy of the sound one, changed.
  static std::string damaged(const Change& change);
  static std::string eval(const std::string& model);
  // Two steps from random weights. Later options win.
  static std::string train(const std::string& options, const std::string& output = path("new"));

  static std::unique_ptr<ScratchFolder> shared_;
};

}  // namespace llama_tp
