// What a call refuses with, and whether it says all that it should.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace llama_tp {

// What `work` throws, which must be an Error of one line; "" and a failure where it throws nothing.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

// True where `text` holds all parts.
template <class... Parts>
testing::AssertionResult holds(const std::string& text, const Parts&... parts) {
  std::string missing;
  ((missing += text.find(parts) == std::string::npos ? std::string(" \"") + parts + "\"" : ""), ...);
  if (missing.empty()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "without" << missing << ": " << text;
}

}  // namespace llama_tp
