// The settings that a test runs with, of all that it could: by default a choice in which each two values meet that meet
// in any of them, with LLAMA_TP_TEST_ALL=1 all.
#pragma once

#include <cstddef>
#include <vector>

namespace llama_tp {

// LLAMA_TP_TEST_ALL=1: nothing that takes long is left out.
bool test_all();

// Values of a setting's parameters, as numbers, in the same order for each setting.
using Values = std::vector<int>;

// Places of few settings in which every pair of two parameters' values occurs that occurs in any.
std::vector<size_t> pairwise(const std::vector<Values>& all);

// Those, or with LLAMA_TP_TEST_ALL=1 the places of all.
std::vector<size_t> places_under_test(const std::vector<Values>& all);

// Setting::values() says its parameters' values.
template <class Setting>
std::vector<Setting> settings_under_test(const std::vector<Setting>& all) {
  std::vector<Values> values;
  for (const Setting& setting : all) values.push_back(setting.values());
  std::vector<Setting> chosen;
  for (const size_t place : places_under_test(values)) chosen.push_back(all[place]);
  return chosen;
}

}  // namespace llama_tp
