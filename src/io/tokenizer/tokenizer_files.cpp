#include "io/tokenizer/tokenizer_files.h"

#include "io/files.h"

namespace llama_tp {

namespace {

constexpr const char* companion_names[] = {
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja",
};

}  // namespace

std::string folder_beside(const std::string& place) { return folder_exists(place) ? place : folder_of_file(place); }

std::vector<std::string> tokenizer_files(const std::string& place) {
  std::vector<std::string> files;
  if (place.empty()) return files;
  const auto add = [&, folder = folder_beside(place) + "/"](const char* name) {
    if (file_exists(folder + name)) files.push_back(folder + name);
  };
  if (folder_exists(place))
    for (const char* name : own_tokenizer_names) add(name);
  else
    files.push_back(place);
  for (const char* name : companion_names) add(name);
  return files;
}

}  // namespace llama_tp
