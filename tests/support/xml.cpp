#include "support/xml.h"

#include <regex>
#include <stdexcept>

namespace llama_tp {

namespace {

[[noreturn]] void refuse(const std::string& what, size_t at) {
  throw std::runtime_error(what + " at byte " + std::to_string(at));
}

// With the letters that entities stand for.
std::string parse_text(const std::string& text, size_t at) {
  static const std::map<std::string, char> entities{
      {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '<') refuse("a bare <", at);
    if (static_cast<unsigned char>(text[i]) < 0x20 && std::string("\t\n\r").find(text[i]) == std::string::npos)
      refuse("a control character", at);
    if (text[i] != '&') {
      out += text[i];
      continue;
    }
    const size_t end = std::min(text.find(';', i), text.size() - 1);
    const auto known = entities.find(text.substr(i, end - i + 1));
    if (known == entities.end()) refuse("a bare &", at);
    out += known->second;
    i = end;
  }
  return out;
}

std::map<std::string, std::string> parse_attributes(std::string rest, size_t at) {
  static const std::regex attribute("^\\s+([A-Za-z_:][-A-Za-z0-9_:.]*)=\"([^\"]*)\"");
  std::map<std::string, std::string> all;
  for (std::smatch match; std::regex_search(rest, match, attribute); rest = match.suffix()) {
    if (!all.emplace(match[1], parse_text(match[2], at)).second) refuse("an attribute twice", at);
  }
  if (rest.find_first_not_of(" \n") != std::string::npos) refuse("no attribute: " + rest, at);
  return all;
}

}  // namespace

std::vector<XmlElement> parse_xml(const std::string& text) {
  std::vector<XmlElement> elements;
  std::vector<size_t> open;
  bool rooted = false;
  size_t at = text.starts_with("<!DOCTYPE html>") ? 15 : 0;
  while (at < text.size()) {
    const size_t tag = std::min(text.find('<', at), text.size());
    const std::string between = parse_text(text.substr(at, tag - at), at);
    if (!open.empty())
      elements[open.back()].text += between;
    else if (between.find_first_not_of(" \n") != std::string::npos)
      refuse("text outside of the root", at);
    if (tag == text.size()) break;
    const size_t end = text.find('>', tag);
    if (end == std::string::npos) refuse("a tag without an end", tag);
    std::string inside = text.substr(tag + 1, end - tag - 1);
    at = end + 1;
    if (inside.starts_with("/")) {
      if (open.empty() || elements[open.back()].name != inside.substr(1)) refuse("closes another: " + inside, tag);
      open.pop_back();
      continue;
    }
    if (open.empty() && rooted) refuse("a second root", tag);
    rooted = true;
    const bool closed = inside.ends_with("/");
    if (closed) inside.pop_back();
    const size_t name_end = std::min(inside.find_first_of(" \n"), inside.size());
    elements.push_back({inside.substr(0, name_end), parse_attributes(inside.substr(name_end), tag), ""});
    if (!closed) open.push_back(elements.size() - 1);
  }
  if (!open.empty()) refuse("not closed: " + elements[open.back()].name, text.size());
  return elements;
}

}  // namespace llama_tp
