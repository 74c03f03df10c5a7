// Configs of well-known models, data/configs/*.json, known to the program by name: --config llama-3.1-8b.
#pragma once

#include <string>

namespace llama_tp {

// The text of a config.json: that of the file, or the shipped one of this name where there is no such file. Errors:
// neither; a bare name is answered with the names that are shipped.
std::string config_text(const std::string& file_or_name);

}  // namespace llama_tp
