// Files of /proc and /sys for a test, below a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include "io/files.h"
#include "scratch_folder.h"

namespace llama_tp {

class MadeUpSystem : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& content) const {
    const std::filesystem::path whole = root() / path;
    std::filesystem::create_directories(whole.parent_path());
    write_text(whole.string(), content);
  }
  std::filesystem::path root() const { return folder_.path(); }

 private:
  ScratchFolder folder_;
};

}  // namespace llama_tp
