// What config.json says of layers one by one: which rotate their queries and keys, and which see a window alone.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config_reader.h"

namespace llama_tp {

// Which layers rotate: those that the list says, where it is given, else all but every n-th.
std::vector<bool> read_rotary_layers(const ConfigReader& reader, int64_t layers);

// Each layer's window, 0 for none: of the layers that layer_types says, where it is given, else from a first one on, in some
// families of those that do not rotate alone. With a layer that slides and no window transformers fails, or, of SmolLM3,
// does what the kind of attention makes of it; here it is refused.
std::vector<int64_t> read_windows(const ConfigReader& reader, const std::vector<bool>& rotary_layers);

}  // namespace llama_tp
