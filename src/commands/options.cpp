#include "commands/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#define CXXOPTS_NO_REGEX  // it can do without, and std::regex takes long to compile
#include <cxxopts.hpp>
#include <set>
#include <sstream>

#include "base/json.h"
#include "base/nearest_names.h"
#include "io/files.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

struct Options::Parser {
  struct Declared {
    std::string name;  // the long one, where there is one
    bool is_flag;
  };
  std::string command;
  cxxopts::Options options;
  cxxopts::ParseResult result;
  std::set<std::string> with_value;                                  // "-m", "--model", …
  std::set<std::string> with_optional_value;                         // "--resume-from-checkpoint"
  std::set<std::string> with_list;                                   // "--compare"
  std::vector<std::pair<std::string, std::string>> shown_otherwise;  // in the help: cxxopts' words, ours
  std::vector<Declared> declared;                                    // in the order of the help
  std::string config_text;

  void declare(const std::string& names, bool is_flag) {
    const size_t comma = names.find(',');
    declared.push_back({comma == std::string::npos ? names : names.substr(comma + 1), is_flag});
  }
  bool is_flag(const std::string& name) const {
    return std::any_of(declared.begin(), declared.end(),
                       [&](const Declared& one) { return one.is_flag && one.name == name; });
  }
  bool is_declared(const std::string& name) const {
    return std::any_of(declared.begin(), declared.end(), [&](const Declared& one) { return one.name == name; });
  }
  // What may have been meant by a name that is no option, and where they all are.
  std::string mend_of(const std::string& unknown) const {
    std::vector<std::string> names;
    for (const Declared& one : declared) names.push_back(one.name);
    std::string meant;
    for (const std::string& name : nearest_names(unknown, names))
      meant += (meant.empty() ? "did you mean --" : " or --") + name;
    return text("; ", meant, meant.empty() ? "" : "? ", "llama_tp ", command, " --help shows the options");
  }
  // written: "--max-steps" or "--max-steps=5"
  void require_declared(const std::string& written) const {
    const std::string option = written.substr(0, written.find('=')), name = option.substr(2);
    require(name.size() > 1 && is_declared(name), command, ": ", option, " is no option", mend_of(name));
  }
};

namespace {

constexpr const char *config_file = "config-file", *print_config_flag = "print-config";
constexpr int64_t largest_config_file = int64_t{16} << 20;

// "--max_steps=5" → "--max-steps=5"
std::string with_hyphens(std::string argument) {
  const auto end = argument.begin() + static_cast<int64_t>(std::min(argument.find('='), argument.size()));
  std::replace(argument.begin(), end, '_', '-');
  return argument;
}

// As a person writes it: 0.9999999, 1e-09.
std::string shortest(double value) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.begin(), digits.end(), value).ptr;
  return {digits.begin(), end};
}

// The decimal number that a text begins with, and how many letters it has: 0 where there is none.
std::pair<double, size_t> leading_number(const std::string& written) {
  double value = 0;
  size_t begin = std::min(written.find_first_not_of(' '), written.size());
  const std::string_view digits = std::string_view(written).substr(begin);
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') begin++;  // which from_chars does not take
  const auto read = std::from_chars(written.data() + begin, written.data() + written.size(), value);
  return {value, read.ec == std::errc() ? static_cast<size_t>(read.ptr - written.data()) : 0};
}

// Also "1e2" and "100.0", as a JSON file may have it, as far as a double holds every whole number.
std::optional<int64_t> whole_number(const std::string& written) {
  constexpr double largest_exact = 0x1p53;
  int64_t whole = 0;
  const char* const end = written.data() + written.size();
  if (const auto read = std::from_chars(written.data(), end, whole); read.ec == std::errc() && read.ptr == end)
    return whole;
  const auto [value, used] = leading_number(written);
  const bool is_whole = used > 0 && used == written.size() && std::abs(value) <= largest_exact;
  return is_whole && std::trunc(value) == value ? std::optional(static_cast<int64_t>(value)) : std::nullopt;
}

}  // namespace

Options::Options(const std::string& command, const std::string& what_it_does, const std::string& example)
    : parser_(new Parser{command,
                         cxxopts::Options("llama_tp " + command, what_it_does + "\n\n  $ " + example + "\n"),
                         {},
                         {},
                         {},
                         {},
                         {},
                         {},
                         {}}) {
  parser_->options.custom_help("[options]");
  parser_->options.set_width(120);
  flag("h,help", "this text");
  value(config_file, "a JSON object with any of these options; the command line wins over it", "FILE");
  flag(print_config_flag, "print the options as such a file, and do nothing else");
}

Options::~Options() = default;

void declare_family(Options& options) {
  options.value("family", "a family file, where no family lists config.json's model_type", "FILE");
}

void Options::flag(const std::string& names, const std::string& help) {
  parser_->options.add_options()(names, help);
  parser_->declare(names, true);
}

void Options::value(const std::string& names, const std::string& help, const std::string& value_name,
                    const std::string& otherwise) {
  const auto value = cxxopts::value<std::string>();
  parser_->options.add_options()(names, help, otherwise.empty() ? value : value->default_value(otherwise), value_name);
  parser_->declare(names, false);
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');)
    parser_->with_value.insert((name.size() == 1 ? "-" : "--") + name);
}

void Options::optional_value(const std::string& name, const std::string& help, const std::string& value_name,
                             const std::string& implied) {
  const auto value = cxxopts::value<std::string>()->implicit_value(implied);
  parser_->options.add_options()(name, help, value, value_name);
  parser_->with_optional_value.insert("--" + name);
  parser_->shown_otherwise.emplace_back("[=" + value_name + "(=" + implied + ")]", "[" + value_name + "]");
  parser_->declare(name, false);
}

void Options::list(const std::string& name, const std::string& help, const std::string& value_name) {
  parser_->options.add_options()(name, help, cxxopts::value<std::string>(), value_name);
  parser_->with_list.insert("--" + name);
  parser_->declare(name, false);
}

// As cxxopts wants them: long options with hyphens, an optional value behind "=", a list as one value with spaces.
std::vector<std::string> Options::spelled(const std::vector<std::string>& arguments) const {
  std::vector<std::string> all;
  bool is_value = false;  // of the option before: text, whatever it looks like, but for an option's whole name
  const auto names_option = [&](const std::string& argument) {
    return std::any_of(parser_->declared.begin(), parser_->declared.end(), [&](const Parser::Declared& one) {
      return one.name.size() > 1 && with_hyphens(argument) == "--" + one.name;
    });
  };
  for (const std::string& argument : arguments) {
    if (!argument.starts_with("-") && !all.empty() && parser_->with_optional_value.contains(all.back())) {
      all.back() += "=" + argument;
      continue;
    }
    const std::string option = all.empty() ? "" : all.back().substr(0, all.back().find('='));
    if (!argument.starts_with("-") && parser_->with_list.contains(option)) {
      all.back() += (option == all.back() ? "=" : " ") + argument;
      continue;
    }
    if (is_value && names_option(argument))
      fail(parser_->command, ": ", all.back(), " is followed by ", argument,
           ", an option, in its value's place; a value that reads like one goes behind the \"=\" of a long option");
    const bool is_long = !is_value && argument.size() > 2 && argument.starts_with("--");
    all.push_back(is_long ? with_hyphens(argument) : argument);
    if (is_long) parser_->require_declared(all.back());
    is_value = !is_value && parser_->with_value.contains(all.back());
  }
  return all;
}

void Options::parse_spelled(const std::vector<std::string>& arguments) {
  const std::string program = "llama_tp " + parser_->command;
  std::vector<const char*> pointers{program.c_str()};
  for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
  try {
    parser_->result = parser_->options.parse(static_cast<int>(pointers.size()), pointers.data());
  } catch (const cxxopts::exceptions::exception& error) {
    fail(parser_->command, ": ", error.what(), "; llama_tp ", parser_->command, " --help shows the options");
  }
}

std::vector<std::string> Options::arguments_of(const std::string& path, const std::string& contents) const {
  const OrderedJson json = parse_ordered_json_or_discard(contents);
  require(json.is_object(), path, ": is not a JSON object; it holds options: {\"seed\": 1, …}");
  std::vector<std::string> arguments;
  for (const auto& [key, value] : json.items()) {
    const std::string name = with_hyphens(key);
    const auto known = std::find_if(parser_->declared.begin(), parser_->declared.end(),
                                    [&, &wanted = name](const auto& option) { return option.name == wanted; });
    require(known != parser_->declared.end() && name != config_file && name != print_config_flag && name != "help",
            path, ": \"", key, "\" is no option of ", parser_->command, parser_->mend_of(name));
    const bool fits = value.is_boolean() || (!known->is_flag && (value.is_string() || value.is_number()));
    require(fits, path, ": ", key, " is ", json_text_in_ascii(value), "; ",
            known->is_flag ? "true or false" : "a text, a number, true (on) or false (off)", " is needed");
    if (value.is_boolean() && parser_->with_optional_value.contains("--" + name)) {
      if (value.get<bool>()) arguments.push_back("--" + name);  // with the value that this implies
      continue;
    }
    const std::string written = value.is_string()                     ? value.get<std::string>()
                                : known->is_flag || value.is_number() ? json_text(value)
                                : value.get<bool>()                   ? "on"
                                                                      : "off";
    // A default that --print-config wrote out is none that somebody gave.
    if (!known->is_flag && !given(name) && parser_->result[name].has_default() && word(name) == written) continue;
    if (name.size() > 1)
      arguments.push_back("--" + name + "=" + written);
    else
      arguments.insert(arguments.end(), {"-" + name, written});
  }
  return arguments;
}

// What a file would need for the same run. Errors: a text that JSON cannot hold.
void Options::print_config() const {
  OrderedJson json = OrderedJson::object();
  for (const auto& [name, is_flag] : parser_->declared) {
    if (name == config_file || name == print_config_flag || name == "help") continue;
    if (is_flag) {
      if (is_set(name)) json[name] = true;
    } else if (given(name) || parser_->result[name].has_default()) {
      require(utf8::first_invalid(word(name)) == word(name).size(), "--", name, " ", word(name),
              ": is not UTF-8, which JSON needs; rename what it names, or give it on the command line alone");
      const OrderedJson number = parse_ordered_json_or_discard(word(name));
      json[name] = number.is_number() && json_text(number) == word(name) ? number : OrderedJson(word(name));
    }
  }
  std::printf("%s\n", json_text(json, 2).c_str());
}

std::string Options::help() const {
  std::string help = parser_->options.help();
  for (const auto& [theirs, ours] : parser_->shown_otherwise)
    if (const size_t at = help.find(theirs); at != std::string::npos) help.replace(at, theirs.size(), ours);
  return help;
}

bool Options::parse(const std::vector<std::string>& arguments, bool speaks) {
  std::vector<std::string> all = spelled(arguments);
  parse_spelled(all);
  if (given(config_file)) {
    parser_->config_text = read_text(word(config_file), largest_config_file);
    const std::vector<std::string> from_file = arguments_of(word(config_file), parser_->config_text);
    all.insert(all.begin(), from_file.begin(), from_file.end());  // of two values the later wins
    parse_spelled(all);
  }
  if (parser_->result.count("help") > 0) {
    if (speaks) std::printf("%s", help().c_str());
    return false;
  }
  const std::vector<std::string> rest = parser_->result.unmatched();
  require(rest.empty(), parser_->command, ": \"", rest.empty() ? "" : rest.front(), "\" is no option; llama_tp ",
          parser_->command, " --help shows the options");
  if (!is_set(print_config_flag)) return true;
  if (speaks) print_config();
  return false;
}

const std::string& Options::config_text() const { return parser_->config_text; }

bool Options::given(const std::string& name) const {
  return parser_->is_flag(name) ? is_set(name) : parser_->result.count(name) > 0;
}
bool Options::is_set(const std::string& flag_name) const {
  return parser_->result.count(flag_name) > 0 && parser_->result[flag_name].as<bool>();
}

void Options::refuse(std::initializer_list<const char*> names, std::string_view why) const {
  for (const char* name : names) require(!given(name), "--", name, why);
}

bool Options::is_on(const std::string& name) const {
  const std::string written = word(name);
  require(written == "on" || written == "off", "--", name, " ", written, " is not known; it can be on or off");
  return written == "on";
}

std::string Options::word(const std::string& name) const {
  return given(name) || parser_->result[name].has_default() ? parser_->result[name].as<std::string>() : "";
}

std::vector<std::string> Options::words(const std::string& name) const {
  std::istringstream stream(word(name));
  std::vector<std::string> all;
  for (std::string one; stream >> one;) all.push_back(one);
  return all;
}

std::string Options::path(const std::string& name) const {
  std::string written = word(name);
  while (written.size() > 1 && written.ends_with('/')) written.pop_back();
  return written;
}

int64_t Options::integer(const std::string& name, int64_t least, int64_t most) const {
  const std::string written = word(name);
  const std::optional<int64_t> value = whole_number(written);
  require(value.has_value(), "--", name, " \"", written, "\" is not a whole number");
  require(*value >= least, "--", name, " ", written, " must be ", least, " or more");
  require(*value <= most, "--", name, " ", written, " must be ", most, " or less");
  return *value;
}

int64_t Options::bytes(const std::string& name) const {
  constexpr std::pair<std::string_view, double> units[] = {
      {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"KB", 1e3},
      {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"B", 1},        {"", 1}};
  constexpr double least = 0x1p20, most = 1e18;  // less is an amount whose unit was forgotten
  const std::string written = word(name);
  const auto [value, used] = leading_number(written);
  for (const auto& [unit, bytes] : units)
    if (used > 0 && written.substr(used) == unit && value * bytes >= least && value * bytes < most)
      return static_cast<int64_t>(value * bytes);
  fail("--", name, " ", written, " is no amount of memory of 1 MiB or more; give it like 80GiB or 80GB");
}

double Options::number(const std::string& name, double least, double most) const {
  const std::string written = word(name);
  const auto [value, used] = leading_number(written);
  require(used == written.size() && used > 0 && std::isfinite(value), "--", name, " \"", written, "\" is not a number");
  require(value >= least && value <= most, "--", name, " ", written, " must lie between ", shortest(least), " and ",
          shortest(most));
  return value;
}

DType Options::dtype(const std::string& name) const {
  const std::optional<DType> dtype = dtype_with_torch_name(word(name));
  require(dtype == DType::f32 || dtype == DType::bf16, "--", name, " ", word(name),
          " is not known; it can be float32 or bfloat16");
  return *dtype;
}

DType Options::stored_dtype(const std::string& name) const {
  const std::optional<DType> dtype = dtype_with_torch_name(word(name));
  require(dtype.has_value(), "--", name, " ", word(name), " is not known; it can be float32, bfloat16 or float16");
  return *dtype;
}

int64_t Options::integer_or_auto(const std::string& name, int64_t most) const {
  return word(name) == "auto" ? 0 : integer(name, 1, most);
}

}  // namespace llama_tp
