// White space as Python's str.strip() and Jinja's trim see it.
#pragma once

#include <string>
#include <string_view>

namespace llama_tp {

// UTF-8 without the white space of Unicode at both ends.
std::string trimmed(std::string_view text);

}  // namespace llama_tp
