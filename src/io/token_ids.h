// The token ids that config.json and generation_config.json name, and what the vocabulary lacks of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace llama_tp {

struct TokenIds {
  std::vector<int64_t> ids;
  std::vector<std::string> unmet;  // "eos_token_id 151643": outside of the vocabulary, so that no text holds them
};

// As Llama's first files say that there is none.
template <class AnyJson>
bool is_no_id(const AnyJson& value) {
  return !value.is_number_unsigned() && value == -1;
}

// value: an id, or an array of several. None: something else.
template <class AnyJson>
std::optional<TokenIds> token_ids_of(const std::string& key, const AnyJson& value, int64_t vocabulary) {
  TokenIds all;
  for (const AnyJson& id : value.is_array() ? value : AnyJson::array({value})) {
    if (!id.is_number_integer()) return std::nullopt;
    const auto number = id.template get<int64_t>();  // negative for what does not fit
    if (number >= 0 && number < vocabulary)
      all.ids.push_back(number);
    else if (!is_no_id(id))
      all.unmet.push_back(key + " " + id.dump());
  }
  return all;
}

// A line on them for people; "" where there are none.
inline std::string left_out_ids(const std::string& source, int64_t vocabulary, const std::vector<std::string>& unmet) {
  std::string list;
  for (const std::string& id : unmet) list += (list.empty() ? "" : ", ") + id;
  return list.empty() ? "" : text(source, ": left out, as outside of the vocabulary of ", vocabulary, ": ", list);
}

}  // namespace llama_tp
