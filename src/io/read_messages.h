// The messages of a conversation from JSON, as Hugging Face's data has them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "io/chat/chat_template.h"

namespace llama_tp {

// An object's "messages". Errors: no array of objects with a role and a content that are texts; tools or calls of such.
std::vector<Message> read_messages(const nlohmann::json& object);

// A text of an object. Errors: missing, not a string.
const std::string& string_at(const nlohmann::json& object, const char* field);

}  // namespace llama_tp
