#include "io/tokenizer/space_sign.h"

namespace llama_tp {

size_t next_border(std::string_view text, size_t from) {
  for (size_t at = text.find(space_sign, from); at != std::string_view::npos; at = text.find(space_sign, at + 1)) {
    if (at > 0 && !text.substr(0, at).ends_with(space_sign)) return at;
  }
  return text.size();
}

}  // namespace llama_tp
