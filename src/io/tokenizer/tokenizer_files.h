// The files that a tokenizer is made of, of which one folder holds all: its own and its companions, which name special
// tokens and the chat template.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace llama_tp {

// A tokenizer's own file, by the names under which a folder is searched for it, the first that is there.
inline constexpr std::array<const char*, 2> own_tokenizer_names{"tokenizer.json", "tokenizer.model"};

// place: of a tokenizer, a folder or its own file. The folder that its companions are in.
std::string folder_beside(const std::string& place);

// Those that are there: of a folder all, of a file itself, first, and its companions. A place "" has none.
std::vector<std::string> tokenizer_files(const std::string& place);

}  // namespace llama_tp
