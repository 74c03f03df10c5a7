#include "support/roles.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "support/command.h"

namespace llama_tp {

namespace {

const std::string option = "--as=";

}  // namespace

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::string as(const std::string& role) { return quoted(this_program()) + " " + option + quoted(role); }

int play_or_judge(int argc, char** argv, int (*play)(const std::string& role, Launch& launch)) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.starts_with(option)) {
    Launch launch;
    return launch.guard([&] { return play(first.substr(option.size()), launch); });
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

}  // namespace llama_tp
