#include "io/chat/chat_template.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "io/chat/white_space.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_file = int64_t{64} << 20;

constexpr std::pair<const char*, const char*> template_files[] = {
#include "chat_templates.inc"
};

std::string known_names() {
  std::string names;
  for (const auto& [name, content] : template_files) names += std::string(names.empty() ? "" : ", ") + name;
  return names;
}

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

// A template, or of several by name the default one.
std::string default_template(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array())
    for (const Json& entry : value)
      if (entry.is_object() && entry.value("name", Json()) == "default" && entry.value("template", Json()).is_string())
        return entry["template"].get<std::string>();
  fail(path, ": chat_template is neither a text nor a list with a default one; choose one with --chat-template: ",
       known_names());
}

// The Jinja text beside a tokenizer.
std::string read_jinja(const std::string& folder) {
  const std::string own = folder + "/chat_template.jinja", config = folder + "/tokenizer_config.json";
  if (file_exists(own)) return read_text(own, largest_file);
  const Json json = file_exists(config) ? parse_json_or_discard(read_text(config, largest_file)) : Json::object();
  require(json.is_object() && json.contains("chat_template") && !json["chat_template"].is_null(), folder,
          ": has no chat template (chat_template.jinja, or in tokenizer_config.json), as models have that were not "
          "trained to chat; choose one with --chat-template: ",
          known_names());
  return default_template(json["chat_template"], config);
}

// With one kind of quotes, and with line ends where a literal spells them \n: where texts are looked for.
std::string with_plain_literals(std::string jinja) {
  std::replace(jinja.begin(), jinja.end(), '"', '\'');
  replace_all(jinja, "\\n", "\n");
  return jinja;
}

void check_roles(const std::vector<Message>& messages) {
  require(!messages.empty(), "has no messages; a conversation begins with a user's");
  const size_t first = messages[0].role == "system" ? 1 : 0;
  for (size_t i = 0; i < messages.size(); i++) {
    const Message& message = messages[i];
    require(message.role == "system" || message.role == "user" || message.role == "assistant", "message ", i + 1,
            " has the role \"", message.role, "\"; a message is of the system, the user or the assistant");
    if (i < first) continue;
    const char* const turn = (i - first) % 2 == 0 ? "user" : "assistant";
    require(message.role == turn, "message ", i + 1, " is of the ", message.role, " where the ", turn,
            "'s turn is; after at most one system message the user begins, and both take turns");
    require(message.role != "assistant" || !trimmed(message.content).empty(), "message ", i + 1,
            " is an empty answer; give it text, or leave it out");
  }
  require(messages.size() > first, "has a system message alone; the user's must follow");
}

}  // namespace

std::string today() {
  static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  localtime_r(&now, &date);
  return text(date.tm_mday < 10 ? "0" : "", date.tm_mday, " ", months[static_cast<size_t>(date.tm_mon)], " ",
              date.tm_year + 1900);
}

ChatTemplate::ChatTemplate(std::string name, const std::string& content, const std::string& jinja)
    : name_(std::move(name)) {
  const Json json = parse_json_or_discard(content);
  require(json.is_object(), "chat template ", name_, ": not a JSON object");
  const auto value = [&](const char* key) { return json.value(key, std::string()); };
  const auto list = [&](const char* key) { return json.value(key, std::vector<std::string>()); };
  marks_ = list("marks"), stops_ = list("stops");
  begin_ = value("begin"), end_ = value("end"), generation_ = value("generation"), user_ = value("user");
  system_ = value("system"), without_system_ = value("without_system");
  first_user_with_system_ = value("first_user_with_system");
  assistant_ = json.at("assistant").get<std::array<std::string, 3>>();
  trims_ = json.value("trim", false);
  for (const std::string& system : list("default_systems"))
    if (holds(jinja, system) && system.size() > default_system_.size()) default_system_ = system;
  if (const std::string condition = value("if_system"); holds(jinja, condition)) if_system_ = condition;
  conditions_ = {list("unreached"), json.value("unreached_behind", std::map<std::string, std::string>()), {if_system_}};
  today_ = today();
}

// The outputs of the Jinja text must make up conversations as they are rendered here, with and without a system message,
// and no output may be left over. Whether it asks for an answer only when told to shows in no output.
bool ChatTemplate::is_written_by(const std::string& jinja, const std::string& plain) const {
  const auto stands = [&](const std::string& mark) { return holds(plain, mark); };
  if (!std::all_of(marks_.begin(), marks_.end(), stands)) return false;
  if (!generation_.empty() && !holds(jinja, "add_generation_prompt")) return false;
  ChatTemplate form = *this;
  form.bos_ = jinja::bos, form.eos_ = jinja::eos, form.today_ = jinja::data;
  const std::string data(jinja::data);
  const std::vector<Message> turns{{"user", data}, {"assistant", data}, {"user", data}, {"assistant", data}};
  std::vector<std::string> conversations{form.render(turns, false).text, form.render({turns[0]}, true).text};
  if (takes_system()) conversations.push_back(form.render({{"system", data}, turns[0], turns[1], turns[2]}, true).text);
  return spell(jinja_outputs(jinja, conditions_), conversations);
}

bool ChatTemplate::writes(const std::string& mark) const {
  const auto stands = [&](const std::string& form) { return holds(form, mark); };
  return std::any_of(assistant_.begin(), assistant_.end(), stands) || stands(begin_) || stands(system_) ||
         stands(without_system_) || stands(first_user_with_system_) || stands(user_) || stands(generation_) ||
         stands(end_);
}

void ChatTemplate::set_tokens(const Tokenizer& tokenizer, const std::string& where) {
  const auto name_of = [&](std::optional<int32_t> id, const char* mark, const char* key) {
    const std::string name = id ? tokenizer.token_of(*id).value_or("") : "";
    require(!name.empty() || !writes(mark), where, " writes a token that the tokenizer does not name; give it as ", key,
            " in tokenizer_config.json");
    return name;
  };
  bos_ = name_of(tokenizer.bos(), "{bos}", "bos_token");
  eos_ = name_of(tokenizer.eos(), "{eos}", "eos_token");
  for (const std::string& stop : stops_)
    require(
        tokenizer.id_of(stop).has_value(), where, " ends an answer with ", stop,
        ", which is no token of the tokenizer; take the template and the tokenizer that the model was trained with");
}

std::string ChatTemplate::text_of(const Message& message) const {
  return trims_ ? trimmed(message.content) : message.content;
}

// The content goes in last: it may hold braces.
std::string ChatTemplate::filled(std::string form, const std::string& content) const {
  replace_all(form, "{bos}", bos_);
  replace_all(form, "{eos}", eos_);
  replace_all(form, "{today}", today_);
  const size_t at = form.find("{content}");
  return at == std::string::npos ? form : form.replace(at, std::string("{content}").size(), content);
}

RenderedChat ChatTemplate::render(const std::vector<Message>& messages, bool add_generation_prompt) const {
  check_roles(messages);
  RenderedChat chat{filled(begin_, ""), {}};
  const size_t first = messages[0].role == "system" ? 1 : 0;
  const bool has_system = first == 1 && (if_system_.empty() || !messages[0].content.empty());
  require(!has_system || takes_system(), "has a system message, for which ", name_,
          " has no place; put it into the user's first");
  if (has_system && !system_.empty()) chat.text += filled(system_, text_of(messages[0]));
  if (!has_system)
    chat.text += default_system_.empty() ? filled(without_system_, "") : filled(system_, default_system_);
  for (size_t i = first; i < messages.size(); i++) {
    if (messages[i].role == "assistant") {
      chat.text += filled(assistant_[0], "");
      const size_t begin = chat.text.size();
      chat.text += filled(assistant_[1], text_of(messages[i]));
      chat.learned.push_back({begin, chat.text.size()});
      chat.text += filled(assistant_[2], "");
      continue;
    }
    Message user = messages[i];
    if (i == 1 && has_system && system_.empty()) {
      std::string form = first_user_with_system_;
      const size_t system = form.find("{system}"), content = form.find("{content}");
      form.replace(content, std::string("{content}").size(), user.content);
      user.content = form.replace(system, std::string("{system}").size(), messages[0].content);
    }
    chat.text += filled(user_, text_of(user));
  }
  chat.text += filled(add_generation_prompt ? generation_ : end_, "");
  return chat;
}

std::string ChatTemplate::content_of(const std::string& answer) const {
  const std::string in_front = assistant_[1].substr(0, assistant_[1].find("{content}"));
  return answer.starts_with(in_front) ? answer.substr(in_front.size()) : answer;
}

ChatTemplate find_chat_template(const std::string& folder, const Tokenizer& tokenizer,
                                const ChatTemplateChoice& choice) {
  const auto& [name, given_by] = choice;
  const std::string jinja = name.empty() ? read_jinja(folder) : "", plain = with_plain_literals(jinja);
  for (const auto& [known, content] : template_files) {
    ChatTemplate found(known, content, plain);
    if (name.empty() ? !found.is_written_by(jinja, plain) : name != known) continue;
    found.set_tokens(tokenizer, name.empty() ? folder + ": its chat template" : text(given_by, " ", name));
    return found;
  }
  require(name.empty(), given_by, " ", name, " is not known; choose one with --chat-template: ", known_names());
  fail(folder,
       ": its chat template is none that this program knows; if it is written like one of these, choose it with "
       "--chat-template: ",
       known_names());
}

}  // namespace llama_tp
