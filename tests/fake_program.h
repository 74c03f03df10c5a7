// A program of a test's own in place of one that a script or the Makefile calls.
#pragma once

#include <filesystem>
#include <string>

#include "support/small_model.h"

namespace llama_tp {

inline void add_program(const std::string& path, const std::string& script) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  write_file(path, "#!/bin/bash\n" + script + "\n");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

}  // namespace llama_tp
