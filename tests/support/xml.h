// Is a text well-formed XML? And what elements has it? Enough of XML for the pages and pictures of this program.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace llama_tp {

struct XmlElement {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;  // directly inside
};

// All elements in the order of their beginning. Errors: std::runtime_error with the place: a tag that is not closed or
// closes another, an attribute without quotes or twice, a bare & or <, more than one root.
std::vector<XmlElement> parse_xml(const std::string& text);

}  // namespace llama_tp
