// The choice of settings that tests run with by default.
#include "support/settings.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace llama_tp {
namespace {

bool holds_pair(const Values& setting, size_t a, int value_a, size_t b, int value_b) {
  return setting[a] == value_a && setting[b] == value_b;
}

// By plain loops: whichever two values meet in one of `all` meet in one of those that were chosen.
void expect_every_pair(const std::vector<Values>& all) {
  const std::vector<size_t> chosen = pairwise(all);
  for (const Values& setting : all)
    for (size_t a = 0; a < setting.size(); a++)
      for (size_t b = 0; b < setting.size(); b++)
        EXPECT_TRUE(std::any_of(chosen.begin(), chosen.end(),
                                [&](size_t place) { return holds_pair(all[place], a, setting[a], b, setting[b]); }))
            << "parameter " << a << " = " << setting[a] << ", parameter " << b << " = " << setting[b];
}

TEST(Pairwise, HoldsEveryPairOfAProductInFewSettings) {
  std::vector<Values> all;
  for (const int a : {1, 2, 4})
    for (const int b : {1, 2, 4})
      for (int bits = 0; bits < 32; bits++)
        all.push_back({a, b, bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1, bits >> 4});
  expect_every_pair(all);
  EXPECT_GE(pairwise(all).size(), 9u);  // each a with each b
  EXPECT_LE(pairwise(all).size(), 12u);
}

// As meshes are, whose product is bounded and some of whose options mean nothing on some of them.
TEST(Pairwise, AsksForNoPairThatNoSettingHas) {
  std::vector<Values> all;
  for (const int data : {1, 2, 4, 8})
    for (const int fsdp : {1, 2, 4, 8})
      for (const int option : {0, 1, 2})
        if (data * fsdp <= 8 && (fsdp > 1 || option == 0)) all.push_back({data, fsdp, option});
  expect_every_pair(all);
  EXPECT_LT(pairwise(all).size(), all.size());
}

TEST(Pairwise, OfTwoParametersIsEverySettingOnce) {
  const std::vector<Values> twice{{0, 0}, {0, 1}, {0, 0}, {1, 0}, {0, 1}};
  EXPECT_EQ(pairwise(twice), (std::vector<size_t>{0, 1, 3}));
  EXPECT_TRUE(pairwise({}).empty());
}

struct Numbered {
  int number;
  Values values() const { return {number % 2, number / 2 % 2, number / 4}; }
};

TEST(SettingsUnderTest, AreTheChoiceOrAll) {
  std::vector<Numbered> all;
  for (int number = 0; number < 8; number++) all.push_back({number});
  EXPECT_EQ(settings_under_test(all).size(), test_all() ? 8u : 4u);  // an orthogonal array of three bits
}

}  // namespace
}  // namespace llama_tp
