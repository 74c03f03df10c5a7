// A command's options: cxxopts with what the commands share. Hyphens and underscores are the same in long options; a
// value that does not parse, or an option that is not known, is one line that names it. Every command takes options
// from a JSON file, too (--config-file), and prints them as one (--print-config); the command line wins over the file.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace llama_tp {

class Options;
// --family FILE, of the commands that read a model.
void declare_family(Options& options);

class Options {
 public:
  // example: a whole command line, shown by --help.
  Options(const std::string& command, const std::string& what_it_does, const std::string& example);
  ~Options();

  // names: cxxopts' "m,model". A flag takes no value; the others show value_name in the help and have a default, "" for
  // none.
  void flag(const std::string& names, const std::string& help);
  void value(const std::string& names, const std::string& help, const std::string& value_name,
             const std::string& otherwise = "");

  // A value that may be left out and then is `implied`; what follows the option is its value unless it begins with "-".
  void optional_value(const std::string& name, const std::string& help, const std::string& value_name,
                      const std::string& implied);

  // One or more words: all that follow the option up to the next that begins with "-".
  void list(const std::string& name, const std::string& help, const std::string& value_name);

  // False when --help or --print-config was asked for; it is printed where this rank speaks for all. Errors: unknown
  // options, missing values, a config file that is none.
  bool parse(const std::vector<std::string>& arguments, bool speaks = true);

  // Of the --config-file; "" without one.
  const std::string& config_text() const;
  // A flag that is false, as a file may have it, is not given.
  bool given(const std::string& name) const;
  bool is_set(const std::string& flag_name) const;
  // Errors: one of them was given; `why` goes on behind its name.
  void refuse(std::initializer_list<const char*> names, std::string_view why) const;
  // Of a value that is on or off. Errors: another word.
  bool is_on(const std::string& name) const;
  std::string word(const std::string& name) const;
  // Of a list; none where it was not given.
  std::vector<std::string> words(const std::string& name) const;
  // A word without the slashes at its end.
  std::string path(const std::string& name) const;
  // Errors: no whole number, or outside of [least, most].
  int64_t integer(const std::string& name, int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;
  // "80GiB", "80GB" or a number of bytes. Errors: no amount of memory, or less than a MiB.
  int64_t bytes(const std::string& name) const;
  // Errors: no number, not finite, outside of [least, most].
  double number(const std::string& name, double least = -1e300, double most = 1e300) const;
  // float32 or bfloat16, what models run in. Errors: another word.
  DType dtype(const std::string& name) const;
  // float32, bfloat16 or float16, what models are stored in. Errors: another word.
  DType stored_dtype(const std::string& name) const;
  // 0 for "auto". Errors: neither it nor a whole number from 1 to `most`.
  int64_t integer_or_auto(const std::string& name, int64_t most) const;

 private:
  struct Parser;
  std::vector<std::string> spelled(const std::vector<std::string>& arguments) const;
  void parse_spelled(const std::vector<std::string>& arguments);
  // The options of a config file, of this text, as arguments.
  std::vector<std::string> arguments_of(const std::string& path, const std::string& contents) const;
  void print_config() const;
  std::string help() const;

  std::unique_ptr<Parser> parser_;
};

}  // namespace llama_tp
