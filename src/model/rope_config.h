// The rotary part of config.json: rope_theta with rope_scaling, or rope_parameters.
#pragma once

#include "model/config.h"
#include "model/config_reader.h"

namespace llama_tp {

// rotary_dim: how many elements of a head rotate; max_positions: of config.json. Errors: a kind that is not implemented,
// a value missing, of another type or not fitting another.
RopeConfig read_rope(const ConfigReader& reader, int64_t rotary_dim, int64_t max_positions);

}  // namespace llama_tp
