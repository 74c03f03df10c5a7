#include "model/layer_config.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace llama_tp {

namespace {

int64_t first_windowed_layer(const ConfigReader& reader) {
  const auto [name, first] = reader.option("first_windowed_layer");
  require(first.is_number_integer() && first.get<int64_t>() >= 0, reader.source(), ": ", name, " is ", shown(first),
          "; it must be the number of a layer");
  return first.get<int64_t>();
}

// Where no layer_types are given.
void remove_windows(const ConfigReader& reader, const std::vector<bool>& rotary_layers, std::vector<int64_t>& windows) {
  std::fill_n(windows.begin(), std::min(first_windowed_layer(reader), std::ssize(windows)), 0);
  if (reader.flag("windowed_rotary_layers")) return;
  for (size_t layer = 0; layer < windows.size(); layer++)
    if (rotary_layers[layer]) windows[layer] = 0;
}

}  // namespace

std::vector<bool> read_rotary_layers(const ConfigReader& reader, int64_t layers) {
  std::vector<bool> rotary(static_cast<size_t>(layers), true);
  const auto [name, list] = reader.option("rotary_layers");
  if (list.is_null()) {
    if (const std::optional<int64_t> n = reader.size_if("rotary_skip_interval"))
      for (size_t layer = 0; layer < rotary.size(); layer++) rotary[layer] = (layer + 1) % static_cast<size_t>(*n) != 0;
    return rotary;
  }
  require(list.is_array() && list.size() >= rotary.size(), reader.source(), ": ", name,
          " must be an array with a number for each of ", reader.option("num_hidden_layers").name, " (", layers, ")");
  for (size_t layer = 0; layer < rotary.size(); layer++) {
    require(list[layer] == 0 || list[layer] == 1, reader.source(), ": ", name, " has ", shown(list[layer]),
            "; known: 1 for a layer with rotary positions, 0 for one without");
    rotary[layer] = list[layer] == 1;
  }
  return rotary;
}

std::vector<int64_t> read_windows(const ConfigReader& reader, const std::vector<bool>& rotary_layers) {
  const size_t layers = rotary_layers.size();
  const bool windowed = reader.flag("windowed");
  const std::optional<int64_t> window = windowed ? reader.size_if("window") : std::nullopt;
  std::vector<int64_t> windows(layers, window.value_or(0));
  const auto [types_name, types] = reader.option("layer_types");
  if (types.is_null()) {
    if (window) remove_windows(reader, rotary_layers, windows);
    return windows;
  }
  require(types.is_array() && types.size() == windows.size(), reader.source(), ": ", types_name,
          " must be an array of ", reader.option("num_hidden_layers").name, " (", layers, ") words");
  for (size_t layer = 0; layer < windows.size(); layer++) {
    const bool slides = types[layer] == "sliding_attention";
    require(slides || types[layer] == "full_attention", reader.source(), ": ", types_name, " has ", shown(types[layer]),
            "; known: full_attention, sliding_attention");
    if (slides && !window)
      fail(reader.source(), ": ", types_name, " has sliding_attention, but ",
           windowed ? reader.option("window").name + " is null" : reader.option("windowed").name + " is false",
           "; give a window, or make it full_attention");
    windows[layer] = slides ? window.value_or(0) : 0;
  }
  return windows;
}

}  // namespace llama_tp
