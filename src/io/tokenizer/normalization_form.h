// Unicode's normalization forms (UAX #15): one spelling for what can be written in several ways, such as é as one character
// or as e and an accent. By utf8proc, whose tables they need.
#pragma once

#include <string>
#include <string_view>

namespace llama_tp {

// Composed or decomposed; the K forms also write ﬁ as fi.
enum class NormalizationForm { nfc, nfd, nfkc, nfkd };

// `text`: valid UTF-8.
std::string normalized(std::string_view text, NormalizationForm form);

}  // namespace llama_tp
