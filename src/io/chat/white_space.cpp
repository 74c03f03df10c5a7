#include "io/chat/white_space.h"

#include <algorithm>
#include <array>

namespace llama_tp {

namespace {

// What Python's str.isspace() accepts.
constexpr std::array<std::string_view, 29> spaces{
    "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",   "\x1e",   "\x1f",   " ",
    "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
    "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};

}  // namespace

std::string trimmed(std::string_view text) {
  const auto first = [&] {
    return std::find_if(spaces.begin(), spaces.end(), [&](std::string_view space) { return text.starts_with(space); });
  };
  const auto last = [&] {
    return std::find_if(spaces.begin(), spaces.end(), [&](std::string_view space) { return text.ends_with(space); });
  };
  for (auto space = first(); space != spaces.end(); space = first()) text.remove_prefix(space->size());
  for (auto space = last(); space != spaces.end(); space = last()) text.remove_suffix(space->size());
  return std::string(text);
}

}  // namespace llama_tp
