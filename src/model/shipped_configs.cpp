#include "model/shipped_configs.h"

#include <utility>

#include "base/error.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_config = int64_t{16} << 20;

constexpr std::pair<const char*, const char*> shipped[] = {
#include "configs.inc"
};

}  // namespace

std::string config_text(const std::string& file_or_name) {
  if (file_exists(file_or_name) || folder_exists(file_or_name)) return read_text(file_or_name, largest_config);
  std::string names;
  for (const auto& [name, content] : shipped) {
    if (file_or_name == name) return content;
    names += std::string(names.empty() ? "" : ", ") + name;
  }
  const bool bare = file_or_name.find('/') == std::string::npos && !file_or_name.ends_with(".json");
  fail(file_or_name, bare ? ": no such file, and no config of this name is shipped; there are " + names
                          : ": no such file; a model folder has a config.json as Hugging Face writes it");
}

}  // namespace llama_tp
