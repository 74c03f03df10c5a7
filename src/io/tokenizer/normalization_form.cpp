#include "io/tokenizer/normalization_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/error.h"

namespace llama_tp {

namespace {

// Characters below this one are the same in the form: composed, U+0300 is the first that another takes in (UTF-8 begins
// it with 0xCC); the other forms change characters of Latin-1.
unsigned char first_lead_that_changes(NormalizationForm form) { return form == NormalizationForm::nfc ? 0xCC : 0x80; }

utf8proc_option_t options_of(NormalizationForm form) {
  const bool composes = form == NormalizationForm::nfc || form == NormalizationForm::nfkc;
  const bool compatible = form == NormalizationForm::nfkc || form == NormalizationForm::nfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}

}  // namespace

std::string normalized(std::string_view text, NormalizationForm form) {
  const unsigned char least = first_lead_that_changes(form);
  if (std::all_of(text.begin(), text.end(), [&](char c) { return static_cast<unsigned char>(c) < least; }))
    return std::string(text);
  utf8proc_uint8_t* bytes = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &bytes, options_of(form));
  require(size >= 0, "a text of ", text.size(), " bytes cannot be normalized: ", utf8proc_errmsg(size),
          "; cut it into shorter ones");
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(bytes, &std::free);
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)};
}

}  // namespace llama_tp
