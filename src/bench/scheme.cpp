#include "bench/scheme.h"

#include <algorithm>
#include <sstream>

#include "base/parse_count.h"
#include "model/placement.h"
#include "model/plan.h"

namespace llama_tp {

namespace {

struct SizeKey {
  const char* name;
  int MeshShape::*size;
};
constexpr SizeKey size_keys[] = {{"tp", &MeshShape::tensor}, {"fsdp", &MeshShape::fsdp}, {"dp", &MeshShape::data}};

// sp, recompute, prefetch, reshard: where a scheme has the switch; null: no such key.
bool* switch_of(Scheme& scheme, const std::string& key) {
  if (key == "sp") return &scheme.sequence_parallel;
  if (key == "recompute") return &scheme.recompute;
  if (key == "prefetch") return &scheme.fsdp.prefetch;
  if (key == "reshard") return &scheme.fsdp.reshard_after_forward;
  return nullptr;
}

int parse_size(const Scheme& scheme, const std::string& key, const std::string& value) {
  const std::optional<int64_t> size = parse_count(value, 1, most_ranks);
  require(size.has_value(), "--compare ", scheme.name, ": ", key, " is \"", value, "\"; give a number of ranks");
  return static_cast<int>(*size);
}

int64_t parse_micro_batch(const Scheme& scheme, const std::string& value) {
  const std::optional<int64_t> samples = parse_count(value, 1, most_samples_a_rank);
  require(samples.has_value(), "--compare ", scheme.name, ": micro is \"", value,
          "\"; give samples of a forward, from 1 to ", most_samples_a_rank);
  return *samples;
}

void apply(const std::string& key, const std::string& value, Scheme& scheme) {
  for (const SizeKey& known : size_keys)
    if (key == known.name) {
      scheme.mesh.*known.size = parse_size(scheme, key, value);
      return;
    }
  if (key == "micro") {
    scheme.micro_batch = parse_micro_batch(scheme, value);
    return;
  }
  bool* const known = switch_of(scheme, key);
  require(known != nullptr, "--compare ", scheme.name, ": \"", key,
          "\" is no key; there are tp, fsdp, dp, micro, sp, recompute, prefetch and reshard");
  require(value == "on" || value == "off", "--compare ", scheme.name, ": ", key, " is \"", value,
          "\"; it can be on or off");
  *known = value == "on";
}

int64_t ranks_of(const MeshShape& mesh) { return int64_t{mesh.tensor} * mesh.fsdp * mesh.data; }

void read_word(const std::string& word, Scheme& scheme) {
  std::vector<std::string> seen;
  std::istringstream parts(word);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t sign = std::min(part.find('='), part.size());
    const std::string key = part.substr(0, sign);
    require(sign < part.size(), "--compare ", word, ": \"", part, "\" has no value; write it like tp=4");
    require(std::find(seen.begin(), seen.end(), key) == seen.end(), "--compare ", word, ": ", key,
            " is given twice; leave one of them out");
    seen.push_back(key);
    apply(key, part.substr(sign + 1), scheme);
  }
  require(ranks_of(scheme.mesh) <= most_ranks, "--compare ", word, ": a mesh of ", ranks_of(scheme.mesh),
          " ranks; give one of ", most_ranks, " or fewer");
}

Scheme parse_scheme(const std::string& word, const SchemeSetting& setting) {
  Scheme scheme{word, {}, 1, setting.sequence_parallel, setting.recompute, setting.fsdp};
  read_word(word, scheme);
  const int64_t ranks = ranks_of(scheme.mesh);
  require(ranks == setting.ranks, "--compare ", word, ": a mesh of ", ranks, " ranks, but ", setting.ranks_by, " ",
          setting.ranks, "; tp × fsdp × dp must be ", setting.ranks);
  check_tensor_parallel(setting.config, scheme.mesh.tensor);
  return scheme;
}

}  // namespace

int64_t ranks_of_scheme(const std::string& word) {
  Scheme scheme;
  scheme.name = word;
  read_word(word, scheme);
  return ranks_of(scheme.mesh);
}

std::vector<Scheme> parse_schemes(const std::vector<std::string>& words, const SchemeSetting& setting) {
  std::vector<Scheme> schemes;
  for (const std::string& word : words) {
    require(std::find(words.begin(), words.end(), word) - words.begin() == static_cast<int64_t>(schemes.size()),
            "--compare ", word, ": is given twice; leave one of them out");
    schemes.push_back(parse_scheme(word, setting));
  }
  return schemes;
}

}  // namespace llama_tp
