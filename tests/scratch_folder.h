// A folder of its own for a test, removed with everything in it at the end.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "base/error.h"

namespace llama_tp {

class ScratchFolder {
 public:
  ScratchFolder() {
    path_ = (std::filesystem::temp_directory_path() / "llama_tp_test.XXXXXX").string();
    require(mkdtemp(path_.data()) != nullptr, path_, ": cannot make a scratch folder");
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

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
