#include "io/read_messages.h"

#include "base/error.h"
#include "base/json.h"

namespace llama_tp {

using nlohmann::json;

const std::string& string_at(const json& object, const char* field) {
  require(object.contains(field), "has no ", field, "; a string is needed");
  const json& value = object.at(field);
  if (!value.is_string()) fail(field, " is ", json_excerpt(value), "; a string is needed");
  return value.get_ref<const std::string&>();
}

namespace {

// A template of Hugging Face's would write it into the text; ours do not.
void refuse_if_filled(const json& object, const char* field) {
  require(!object.contains(field) || object.at(field).empty(), "has ", field,
          ", which no chat template here writes; leave it out, or the whole line");
}

}  // namespace

std::vector<Message> read_messages(const json& object) {
  refuse_if_filled(object, "tools");
  const json& list = object.at("messages");
  if (!list.is_array())
    fail("messages is ", json_excerpt(list), "; an array of objects with role and content is needed");
  std::vector<Message> messages;
  for (const json& message : list) {
    try {
      require(message.is_object(), "an object with role and content is needed");
      refuse_if_filled(message, "tool_calls");
      messages.push_back({string_at(message, "role"), string_at(message, "content")});
    } catch (const Error& error) {
      fail("messages[", messages.size(), "]: ", error.what());
    }
  }
  return messages;
}

}  // namespace llama_tp
