// generation_config.json, what a model's makers advise for generating with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llama_tp {

struct GenerationConfig {
  std::optional<double> temperature, top_p, min_p, repeat_penalty;  // temperature 0 where do_sample is false
  std::optional<int64_t> top_k;
  std::vector<int64_t> eos_ids;
  std::string left_out;  // a line on the ids that the vocabulary does not have; "" where there is none
};

// Of a model folder; all empty where it has none. Other keys are left alone. Errors: not JSON, values of another type
// or outside of their range.
GenerationConfig read_generation_config(const std::string& folder, int64_t vocabulary);

}  // namespace llama_tp
