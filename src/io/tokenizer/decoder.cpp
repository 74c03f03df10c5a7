#include "io/tokenizer/decoder.h"

#include "base/error.h"
#include "io/tokenizer/decoder_stages.h"
#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/refuse_type.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

Decoder::Decoder(const JsonPart& component) {
  if (component.is_null()) {
    add_step({.kind = Kind::join_by_spaces});
  } else {
    add(component);
  }
}

void Decoder::add(const JsonPart& component) {
  const std::string type = component.text("type");
  if (type == "Sequence") {
    for (const JsonPart& part : component.list("decoders")) add(part);
  } else if (type == "Replace") {
    add_step({.kind = Kind::replace,
              .pattern = read_pattern(component.at("pattern")),
              .content = component.text("content")});
  } else if (type == "ByteFallback") {
    add_step({.kind = Kind::byte_fallback});
  } else if (type == "ByteLevel") {
    add_step({.kind = Kind::byte_level});
    fused_ = true;
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    add_strip(component);
  } else if (type == "Metaspace") {
    const std::string scheme =
        component.text("prepend_scheme", component.flag("add_prefix_space", true) ? "always" : "never");
    add_step({.kind = Kind::metaspace,
              .pattern = Regex::literal(component.text("replacement")),
              .drops_first = scheme != "never"});
  } else {
    refuse_type(component, "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip and Metaspace");
  }
}

void Decoder::add_strip(const JsonPart& component) {
  Step strip{.kind = Kind::strip, .content = component.text("content")};
  strip.start = component.integer("start");
  strip.stop = component.integer("stop");
  if (strip.content.empty() || utf8::length_from_lead(strip.content[0]) != strip.content.size()) {
    component.refuse("content must be one character");
  }
  if (strip.start < 0 || strip.stop < 0) component.refuse("start and stop must not be negative");
  strip.whole_text = fused_;
  add_step(std::move(strip));
}

// What works token by token must see the fused text as the one token that it is. Only stripping can do with parts.
void Decoder::add_step(Step step) {
  if (fused_ && step.kind != Kind::strip) {
    steps_.push_back({.kind = Kind::gather});
    fused_ = false;
  }
  steps_.push_back(std::move(step));
}

std::unique_ptr<DecoderStage> Decoder::chain(std::string& out) const {
  std::unique_ptr<DecoderStage> next = make_output(out);
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    switch (step->kind) {
      case Kind::join_by_spaces:
        next = make_join_by_spaces(std::move(next));
        break;
      case Kind::replace:
        next = make_replace(*step->pattern, step->content, std::move(next));
        break;
      case Kind::byte_fallback:
        next = make_byte_fallback(std::move(next));
        break;
      case Kind::byte_level:
        next = make_byte_level(std::move(next));
        break;
      case Kind::metaspace:
        next = make_metaspace(*step->pattern, step->drops_first, std::move(next));
        break;
      case Kind::gather:
        next = make_gather(std::move(next));
        break;
      case Kind::strip:
        next = make_strip({step->content, step->start, step->stop, step->whole_text}, std::move(next));
        break;
    }
  }
  return next;
}

}  // namespace llama_tp
