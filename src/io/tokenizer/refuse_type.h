#pragma once

#include "base/error.h"
#include "base/json_part.h"

namespace llama_tp {

// The component's type is none of those that this program knows.
[[noreturn]] inline void refuse_type(const JsonPart& component, std::string_view known) {
  fail(component.where(), ": type \"", component.text("type"), "\" is not supported; this program knows ", known,
       "; convert the tokenizer to these, or give its tokenizer.model");
}

}  // namespace llama_tp
