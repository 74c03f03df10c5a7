// The tests of operations with the kernels as nvcc has compiled them, their PTX interpreted. All tests together must
// start every kernel of this GPU: each is compiled in variants, by type, width or size of a head, and one that no test
// starts would be unknown.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "ptx/runtime.h"

namespace {

// attention_forward.cu and attention_backward.cu: on Hopper heads of 64 and 128 have kernels of their own.
std::vector<std::string> of_tiles() {
  std::vector<std::string> names = llama_tp::ptx::never_started("_attention_forward_cu_");
  for (std::string& name : llama_tp::ptx::never_started("_attention_backward_cu_")) names.push_back(std::move(name));
  return names;
}

std::vector<std::string> never_started() {
  if (llama_tp::ptx::compute_capability() < 90) return of_tiles();
  std::vector<std::string> names = llama_tp::ptx::never_started("");
  std::erase_if(names, [tiles = of_tiles()](const std::string& name) { return std::ranges::count(tiles, name) > 0; });
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  if (failed != 0 || GTEST_FLAG_GET(filter) != "*") return failed;
  const std::vector<std::string> names = never_started();
  for (const std::string& name : names) std::printf("no test starts %s\n", name.c_str());
  return names.empty() ? 0 : 1;
}
