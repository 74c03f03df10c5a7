// What `llama_tp plan --json` says.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/command.h"

namespace llama_tp {

inline nlohmann::json planned(const std::string& options) {
  const CommandResult result = run_command(llama_tp_with(0) + " plan --json " + options);
  EXPECT_EQ(result.status, 0) << result.err;
  return nlohmann::json::parse(result.out, nullptr, false);
}

}  // namespace llama_tp
