// What a Jinja text can write, read off without running it: enough to tell a known chat template from one that was
// changed by a newline or a word.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

// What stands for a value in an output.
namespace jinja {
constexpr char role = '\1', bos = '\2', eos = '\3';
constexpr char unknown = '\4';               // an expression or a tag that is not understood here
constexpr std::string_view data = "\v\5\v";  // a text in white space, for trimming to show
}  // namespace jinja

// One text that may be written, and the places in the Jinja text, tags and `{% set %}`, that it comes from.
struct JinjaOutput {
  std::string text;
  std::set<size_t> sources;
};

// Conditions with one kind of quotes (') and single blanks, that of an else as "else CONDITION".
struct JinjaConditions {
  std::vector<std::string> unreached;
  std::map<std::string, std::string>
      unreached_behind;             // one that stands behind another, of the same if, with this in it
  std::vector<std::string> heeded;  // known although they ask for a message's text or the last message
};

// The outputs between two branches or loops, each in full: plain text, literals and the values of `{% set %}`, with
// white space as transformers sets Jinja up (trim_blocks, lstrip_blocks). A variable that is set to several texts makes
// as many outputs. Branches whose condition is unreached are left out. An unknown output is made by a condition on a
// message's text, or on its being the last, unless it is heeded, and by a loop over some of a list other than all but its
// first.
std::vector<JinjaOutput> jinja_outputs(const std::string& text, const JinjaConditions& conditions);

// Whether each conversation is a sequence of outputs, and each source of an output is one of an output in there.
bool spell(const std::vector<JinjaOutput>& outputs, const std::vector<std::string>& conversations);

}  // namespace llama_tp
