#include "io/tokenizer/post_processor.h"

#include "base/error.h"
#include "io/tokenizer/refuse_type.h"
#include "io/tokenizer/vocabulary.h"

namespace llama_tp {

namespace {

std::vector<int32_t> ids_of_special(const JsonPart& processor, const std::string& name) {
  std::vector<int32_t> ids;
  for (const JsonPart& item : processor.at("special_tokens").at(name).list("ids"))
    ids.push_back(static_cast<int32_t>(item.as_integer(0, Vocabulary::highest_id)));
  return ids;
}

SpecialFrame read_template(const JsonPart& processor) {
  SpecialFrame frame;
  int sequences = 0;
  for (const JsonPart& part : processor.list("single")) {
    if (part.has("Sequence")) {
      ++sequences;
    } else if (part.has("SpecialToken")) {
      std::vector<int32_t>& side = sequences == 0 ? frame.before : frame.behind;
      const std::vector<int32_t> ids = ids_of_special(processor, part.at("SpecialToken").text("id"));
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      part.refuse("must hold \"Sequence\" or \"SpecialToken\"");
    }
  }
  if (sequences != 1)
    processor.refuse(text("the template \"single\" holds the text ", sequences, " times; it must once"));
  return frame;
}

}  // namespace

SpecialFrame read_post_processor(const JsonPart& component) {
  SpecialFrame frame;
  if (component.is_null()) return frame;
  const std::string type = component.text("type");
  if (type == "TemplateProcessing") return read_template(component);
  if (type == "ByteLevel") return frame;  // concerns offsets in the text, which nobody asks for here
  if (type != "Sequence") refuse_type(component, "Sequence, TemplateProcessing and ByteLevel");
  for (const JsonPart& part : component.list("processors")) {
    const SpecialFrame found = read_post_processor(part);
    if (found.before.empty() && found.behind.empty()) continue;
    if (!frame.before.empty() || !frame.behind.empty())
      part.refuse("a second template is not supported; make one of both");
    frame = found;
  }
  return frame;
}

}  // namespace llama_tp
