// Switches that are environment variables, since they belong to a machine or a test and not to a run.
#pragma once

#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace llama_tp {

// Errors: a value that is neither 0 nor 1.
inline bool environment_switch(const char* name, bool otherwise) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return otherwise;
  const std::string_view given(value);
  require(given == "0" || given == "1", name, "=", given, ": it is 0 or 1");
  return given == "1";
}

}  // namespace llama_tp
