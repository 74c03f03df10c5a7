#include "support/ranks.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace llama_tp {

namespace {

const Launch* launch = nullptr;

class QuietReport : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed())
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", launch->rank(), result.file_name(), result.line_number(),
                   result.message());
  }
};

}  // namespace

const Launch& ranks() { return *launch; }

}  // namespace llama_tp

int main(int argc, char** argv) {
  llama_tp::Launch launch;
  llama_tp::launch = &launch;
  return launch.guard([&] {
    testing::InitGoogleTest(&argc, argv);
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    if (launch.rank() > 0) {
      delete listeners.Release(listeners.default_result_printer());
      listeners.Append(new llama_tp::QuietReport);
    }
    return RUN_ALL_TESTS();
  });
}
